"""A root is re-keyed under traffic: real Envoys that trust what they are told over xDS, one of them held back.

Each Envoy forwards to a server whose certificate is of the authority and lives ten seconds, over a new connection for
each request. Nothing may fail, whatever step is taken; and no step is taken that would make something fail.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from fairlead.processes import Child, Children, free_port
from tests.support.programs import Serving, ask, start_serve
from tests.support.routing import Server
from tests.support.static_envoy import ENVOY
from tests.support.traffic import Traffic
from tests.support.two_envoys import Agents, pass_time, traffic, works

ENDPOINT = "spiffe://cluster.local/fairlead/bundle-endpoint"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def _to(port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def _bootstrap(name: str, *, listen: int, xds: int, server: int) -> dict[str, Any]:
    # A stream of its own: Envoy 1.40 ends with a fault where a cluster of the bootstrap takes secrets over ADS.
    server_of_secrets = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    }
    source = {"api_config_source": server_of_secrets, "resource_api_version": "V3"}
    trusted = {
        "default_validation_context": {
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": ENDPOINT}}]
        },
        "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": source},
    }
    once = {"@type": HTTP, "explicit_http_config": {"http_protocol_options": {}}}
    once["common_http_protocol_options"] = {"max_requests_per_connection": 1}
    route = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "server"}}]}
    manager = {
        "@type": HCM,
        "stat_prefix": "in",
        "route_config": {"name": "all", "virtual_hosts": [route]},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": listen}}
    h2 = {"@type": HTTP, "explicit_http_config": {"http2_protocol_options": {}}}
    secure = {"common_tls_context": {"combined_validation_context": trusted}}
    return {
        "node": {"id": f"sidecar~shop~reviews~{name}", "cluster": "test"},
        "static_resources": {
            "listeners": [{"name": "in", "address": address, "filter_chains": [chain]}],
            "clusters": [
                {
                    "name": "xds",
                    "load_assignment": {"cluster_name": "xds", **_to(xds)},
                    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
                },
                {
                    "name": "server",
                    "load_assignment": {"cluster_name": "server", **_to(server)},
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": once
                    },
                    "transport_socket": {"name": "tls", "typed_config": {"@type": TLS, **secure}},
                },
            ],
        },
    }


def _envoy(children: Children, name: str, *, xds: int, server: int) -> tuple[Child, int]:
    listen = free_port()
    config = children.folder / f"{name}.json"
    config.write_text(json.dumps(_bootstrap(name, listen=listen, xds=xds, server=server)))
    command = [str(ENVOY), "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
    child = children.start(name, command)

    def serves() -> bool:
        try:
            return ask(listen, "localhost").status == 200
        except OSError:
            return False

    children.wait_until(serves, what=f"{name} to serve")
    return child, listen


def _states(serving: Serving) -> dict[str, str]:
    return {one["state"]: one["id"] for one in serving.client.get("/api/v1/authority")["authorities"]}


def _step(serving: Serving, what: str, **query: str) -> Any:
    return serving.client.request("POST", f"/api/v1/authority/{what}", body={}, query=query).json()


def _traffic(port: int) -> Traffic:
    """Some fifty requests a second through one Envoy."""

    def one() -> str:
        try:
            status = ask(port, "localhost").status
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        return "" if status == 200 else f"HTTP {status}"

    return Traffic(one, pause=0.02)


@pytest.mark.envoy
@pytest.mark.faults
def test_a_root_is_rekeyed_under_traffic_with_an_envoy_held_back_and_nothing_fails(children: Children) -> None:
    port = free_port()
    serving = start_serve(
        children, "--ca", "memory", "--ca-settle-time", "1", "--bundle-endpoint", f"127.0.0.1:{port}",
        "--ca-leaf-lifetime", "10", "--ca-leaf-lifetime-min", "5",
    )  # fmt: skip
    _, first = _envoy(children, "first", xds=serving.xds, server=port)
    held, second = _envoy(children, "second", xds=serving.xds, server=port)
    old = _states(serving)["active"]

    def pass_by(traffic: Traffic, requests: int) -> None:
        begin = traffic.requests
        children.wait_until(lambda: traffic.requests >= begin + requests, what="requests to pass", timeout=60)

    with _traffic(first) as traffic:
        pass_by(traffic, 20)
        held.signal_group(signal.SIGSTOP)
        new = _step(serving, "prepare")["id"]
        _step(serving, f"{new}/activate")
        children.wait_until(
            lambda: serving.client.get("/api/v1/authority")["gate"]["waiting"] == ["sidecar~shop~reviews~second"],
            what="all but the held Envoy to trust the new root",
        )
        pass_by(traffic, 150)
        assert _states(serving) == {"active": old, "prepared": new}
        held.signal_group(signal.SIGCONT)
        children.wait_until(lambda: _states(serving).get("active") == new, what="the new root to sign")
        with _traffic(second) as other:
            _step(serving, f"{old}/taint")  # the server's certificate is replaced at once
            # More than ten seconds: the last certificate under the old root has ended by then.
            pass_by(other, 600)
            _step(serving, f"{old}/revoke", override="true")
            children.wait_until(
                lambda: "older" not in str(serving.client.get("/api/v1/authority/proxies")),
                what="both Envoys to trust the new root alone",
            )
            pass_by(other, 150)
    assert (traffic.failures, other.failures) == ([], [])
    assert _states(serving) == {"revoked": old, "active": new}


@pytest.mark.envoy
@pytest.mark.faults
def test_a_new_root_waits_for_an_envoy_behind_its_agent_and_for_one_whose_agent_is_away(
    children: Children, backend: Server
) -> None:
    mesh = Agents(children, backend, "store", "--ca-settle-time", "40", life=600)
    web = f"agent spiffe://cluster.local/ns/default/sa/web {socket.gethostname()}"

    def waiting() -> list[str]:
        return list(mesh.serving.client.get("/api/v1/authority")["gate"]["waiting"])

    def rotate(*, meanwhile: Callable[[], None]) -> str:
        """Have another root sign; `meanwhile` is done once all but `web` trust it."""
        new: str = _step(mesh.serving, "prepare")["id"]
        _step(mesh.serving, f"{new}/activate")
        children.wait_until(lambda: waiting() == [web], what="all but one to trust the new root", timeout=120)
        meanwhile()
        children.wait_until(lambda: _states(mesh.serving).get("active") == new, what="the new root to sign")
        return new

    held = mesh.envoys["web"].child

    def hold() -> None:
        pass_time(children, 12)
        assert waiting() == [web], "its agent has the root, and it has not"
        trusts = {one["node"]: one["trusts"] for one in mesh.serving.client.get("/api/v1/authority/proxies")["items"]}
        assert trusts.pop(web) == "an older bundle, or none"
        assert set(trusts.values()) == {"the present bundle"}
        held.signal_group(signal.SIGCONT)

    held.signal_group(signal.SIGSTOP)
    rotate(meanwhile=hold)
    children.wait_until(lambda: works(mesh.port, "once.test"), what="requests to pass")

    with traffic(mesh.port, "once.test") as once:
        agent = mesh.agents["web"]
        agent.stop()
        children.started.remove(agent)
        old = _states(mesh.serving)["active"]
        rotate(meanwhile=lambda: mesh.start_agent("web"))
        had = mesh.renewals()
        _step(mesh.serving, f"{old}/taint")
        children.wait_until(lambda: mesh.renewals() >= had + 2, what="both agents to renew under the new root")
        begin = once.requests
        children.wait_until(lambda: once.requests > begin + 100, what="requests to pass")
    assert once.failures == []
