"""A gateway's replicas over delta and over state-of-the-world: the same answers, by scopes and by one table."""

from __future__ import annotations

import json
import subprocess

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import FAIRLEAD, RunningEnvoy, Serving, ask, start_backend, start_envoy, start_serve

pytestmark = pytest.mark.envoy

EXACT, WILD = "shop.example.com", "any.example.com"


def put(
    serving: Serving, kind: str, name: str, spec: dict[str, object], group: str = "gateway.networking.k8s.io/v1"
) -> None:
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
    serving.client.request("PUT", f"/api/v1/namespaces/default/{kind.lower()}s/{name}", body=body)


def put_service(serving: Serving, name: str, port: int) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": port}}]
    spec = {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}
    put(serving, "Service", name, spec, "fairlead.dev/v1alpha1")


def put_route(serving: Serving, host: str, to: str) -> None:
    rules = [{"backendRefs": [{"name": to, "port": 80}]}]
    name = "wild" if host.startswith("*") else "exact"
    put(serving, "HTTPRoute", name, {"parentRefs": [{"name": "edge"}], "hostnames": [host], "rules": rules})


def waited(serving: Serving, name: str) -> str:
    server = f"http://127.0.0.1:{serving.api}"
    wait = [*FAIRLEAD, "wait", "httproute", name, "--timeout", "20", "--server", server]
    return subprocess.run(wait, capture_output=True, text=True, check=False, timeout=60).stdout


def who(port: int, host: str) -> str:
    """The backend that answers, by name."""
    return ask(port, host).who.partition(" ")[0]


def types(serving: Serving) -> dict[str, set[str]]:
    """The types that each proxy holds something of."""
    proxies = serving.client.get("/api/v1/proxies")["items"]
    return {proxy["protocol"]: {code for code, state in proxy["types"].items() if state["sent"]} for proxy in proxies}


def routes_in(envoy: RunningEnvoy) -> set[str]:
    """What kinds of routes an Envoy was told, of those that are not part of its bootstrap."""
    dumped = json.dumps(envoy.config())
    return {word for word in ("dynamic_route_configs", "dynamic_scoped_route_configs") if word in dumped}


def test_replicas_of_both_kinds_serve_alike_and_a_change_is_done_when_all_have_it(children: Children) -> None:
    port = free_port()
    serving = start_serve(children)
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    put(serving, "Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    for name in ("one", "two"):
        put_service(serving, name, start_backend(children, name))
    put_route(serving, EXACT, "one")
    put_route(serving, "*.example.com", "two")

    over_sotw = start_envoy(children, "gateway", "edge", "--instance", "sotw", "--sotw", xds=serving.xds)
    children.wait_until(lambda: who(port, EXACT) == "one", what="the first answer over state-of-the-world")
    assert who(port, EXACT.upper()) == "one"
    assert who(port, f"{WILD}:99") == "two"
    assert ask(port, "elsewhere.org").status == 404
    assert routes_in(over_sotw) == {"dynamic_route_configs"}

    start_envoy(children, "gateway", "edge", "--instance", "delta", xds=serving.xds)
    for host, to in ((EXACT, "two"), ("*.example.com", "one")):
        put_route(serving, host, to)
        name = "wild" if host.startswith("*") else "exact"
        assert waited(serving, name) == "2 of 2 proxies have it\n"
        # Both listen on the port, and the kernel chooses.
        assert {who(port, host.replace("*", "any")) for _ in range(20)} == {to}
    held = types(serving)
    assert held["sotw"] == {"CDS", "ECDS", "EDS", "LDS", "RDS"}
    assert held["delta"] == {"CDS", "ECDS", "EDS", "LDS", "SRDS"}


def test_after_a_restart_a_state_of_the_world_gateway_finds_its_routes_and_their_next_change(
    children: Children,
) -> None:
    port, xds = free_port(), free_port()
    serving = start_serve(children, xds=xds)
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    put(serving, "Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    put_service(serving, "one", start_backend(children, "one"))
    put_service(serving, "two", start_backend(children, "two"))
    put_route(serving, EXACT, "one")
    envoy = start_envoy(children, "gateway", "edge", "--sotw", xds=xds)
    children.wait_until(lambda: who(port, EXACT) == "one", what="the first answer")

    serving.child.stop()
    children.started.remove(serving.child)
    again = start_serve(children, xds=xds, name="again")
    children.wait_until(lambda: bool(types(again)), what="the proxy to come back")
    put_route(again, EXACT, "two")
    assert waited(again, "exact") == "1 of 1 proxies have it\n"
    assert who(port, EXACT) == "two"
    assert envoy.stat("listener_manager.listener_modified") == 0
