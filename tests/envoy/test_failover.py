"""Failover from one Service to another: what a real Envoy does when endpoints go, fall ill and come back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from mesh.kinds import KINDS
from mesh.model import Audience, Upstream
from tests.support.programs import RunningEnvoy, Serving, start_envoy, start_serve
from tests.support.routing import Server, backend_server, document, gateway, get, route, service, serving, wait_until
from tests.support.traffic import Traffic
from tests.support.upstreams import upstreams

pytestmark = pytest.mark.envoy

GATEWAY_API, FAIRLEAD = "gateway.networking.k8s.io/v1", "fairlead.dev/v1alpha1"
TO_SPARE = {"failover": {"backendRefs": [{"name": "spare"}]}}
CHECK = {"http": {"path": "/healthz"}, "interval": "50ms", "unhealthyThreshold": 1, "healthyThreshold": 1}
CHECK |= {"unhealthyInterval": "50ms", "noTrafficInterval": "50ms"}


@pytest.fixture
def servers() -> Iterator[dict[str, Server]]:
    """Backends by name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(backend_server(name)) for name in ("one", "two", "spare", "other")}


class Shop:
    """A server of ours and an Envoy, whose objects can be replaced while requests come."""

    def __init__(self, children: Children, servers: dict[str, Server]) -> None:
        self.servers = servers
        self.port = free_port()
        self.serve: Serving = start_serve(children, "--removal-grace", "0.2")
        self.put("shop", "one")
        self.put("spare", "spare")
        self.put("other", "other")
        listeners = [{"name": "http", "port": self.port, "protocol": "HTTP"}]
        spec = {"gatewayClassName": "fairlead", "listeners": listeners, "addresses": [{"value": "127.0.0.1"}]}
        self.write(GATEWAY_API, "Gateway", "edge", spec)
        rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
        self.write(GATEWAY_API, "HTTPRoute", "shop", {"parentRefs": [{"name": "edge"}], "rules": rules})
        self.envoy: RunningEnvoy = start_envoy(children, "gateway", "edge", xds=self.serve.xds)

    def write(self, api: str, kind: str, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.serve.client.request("PUT", self.path(kind, name), body=body)

    def path(self, kind: str, name: str) -> str:
        return f"/api/v1/namespaces/default/{KINDS[kind].plural}/{name}"

    def put(self, service: str, *servers: str) -> None:
        """A Service with these endpoints."""
        endpoints = [{"address": "127.0.0.1", "ports": {"http": self.servers[name].server_port}} for name in servers]
        self.write(FAIRLEAD, "Service", service, {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})

    def policy(self, **settings: Any) -> None:
        self.write(FAIRLEAD, "TrafficPolicy", "shop", {"targetRefs": [{"kind": "Service", "name": "shop"}], **settings})

    def who(self) -> str:
        status, _, echoed = get(self.port, "/")
        return str(echoed["who"]) if status == 200 else str(status)

    def answers(self, who: str) -> None:
        wait_until(lambda: self.who() == who)

    def clusters(self) -> set[str]:
        """The names of the clusters that Envoy has."""
        return set(re.findall(r"^(\S+?)::default_priority::", self.envoy.get("/clusters"), re.MULTILINE))

    def sent(self) -> dict[str, int]:
        """The resources that were sent, by type."""
        page = self.serve.client.request("GET", "/metrics").body.decode()
        found = re.findall(r'^fairlead_xds_resources_total\{type="(\w+)"\} ([0-9.]+)$', page, re.MULTILINE)
        return {kind: int(float(count)) for kind, count in found}


def test_who_takes_over_comes_and_goes_and_no_request_fails(children: Children, servers: dict[str, Server]) -> None:
    shop = Shop(children, servers)
    shop.answers("one")

    def ask() -> str:
        who = shop.who()
        return who if who.isdigit() else ""

    with Traffic(ask, pause=0.002) as traffic:
        shop.policy(**TO_SPARE)
        wait_until(lambda: "default/shop:80~failover/default/spare:80" in shop.clusters())
        assert shop.who() == "one"
        wait_until(
            lambda: shop.envoy.stat("cluster.default/shop_80~failover/default/spare_80.upstream_rq_completed") > 0
        )
        shop.put("shop")
        shop.answers("spare")
        before = shop.sent()
        shop.put("spare", "two")
        shop.answers("two")
        assert shop.sent() == {**before, "EDS": before["EDS"] + 1}
        shop.put("shop", "one")
        shop.answers("one")
        shop.policy(**TO_SPARE, timeouts={"idle": "30s"}, circuitBreaker={"maxRetries": 9})
        wait_until(lambda: '"max_retries": 9' in shop.envoy.get("/config_dump?resource=dynamic_active_clusters"))
        shop.put("shop")
        shop.answers("two")
        shop.policy(failover={"backendRefs": [{"name": "other"}, {"name": "spare"}]})
        shop.answers("other")
        wait_until(lambda: "default/shop:80~failover/default/spare:80" not in shop.clusters())
        shop.put("shop", "one")
        shop.answers("one")
        shop.serve.client.request("DELETE", shop.path("TrafficPolicy", "shop"))
        wait_until(lambda: not any(name.startswith(("default/spare", "default/other")) for name in shop.clusters()))
        asked = traffic.requests
        wait_until(lambda: traffic.requests > asked + 20)
    assert not traffic.failures, Counter(traffic.failures)


def test_the_share_of_ill_endpoints_goes_to_who_takes_over_and_the_ill_ones_get_nothing(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    ports = [servers[name].server_port for name in ("one", "two")]
    wanted: dict[str, Any] = {
        "shop": (ports, {"healthChecks": [CHECK], **TO_SPARE}),
        "spare": ([servers["spare"].server_port], {}),
    }
    with upstreams(tmp_path, wanted) as shop:

        def who(*expected: str) -> bool:
            return {shop.who("shop") for _ in range(30)} == set(expected)

        wait_until(lambda: who("one", "two"))
        servers["one"].failing = True
        wait_until(lambda: who("two", "spare"))
        counted = Counter(shop.who("shop") for _ in range(300))
        assert counted.keys() == {"two", "spare"}
        assert 0.55 < counted["two"] / 300 < 0.85, "half of the endpoints, with 140 % of what is needed: 70 %"
        servers["two"].failing = True
        wait_until(lambda: who("spare"))
        servers["one"].failing = servers["two"].failing = False
        wait_until(lambda: who("one", "two"))


def test_retries_are_those_of_the_service_that_is_asked_for_and_can_go_on_to_who_takes_over(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    ejecting = {"consecutive5xx": 1, "maxEjectionPercent": 100, "baseEjectionTime": "1h", "interval": "50ms"}
    wanted: dict[str, Any] = {
        "shop": ([servers["one"].server_port], {"retry": {"attempts": 1, "codes": [503]}, **TO_SPARE}),
        "gone": ([free_port()], {"outlierDetection": ejecting, **TO_SPARE}),
        "spare": ([servers["spare"].server_port], {}),
    }
    with upstreams(tmp_path, wanted) as shop:
        assert shop.who("shop", "/fail/503/once") == "one"
        assert len([each for each in servers["one"].seen if each["path"] == "/fail/503/once"]) == 2
        assert shop.who("gone") == "spare", "the endpoint that cannot be reached is ejected by the first try"


def test_hashing_holds_where_others_can_take_over_and_rules_with_sessions_keep_these_and_their_service(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    port, ports = free_port(), [servers[name].server_port for name in ("one", "two")]
    text = gateway(port) + service("spare", servers["spare"].server_port) + service("shop", *ports) + service("gone")
    hashing = {"type": "Maglev", "consistentHash": {"hashOn": [{"header": "x-user"}]}}
    targets = {"targetRefs": [{"kind": "Service", "name": name} for name in ("shop", "gone")]}
    text += document("TrafficPolicy", "shop", {**targets, "loadBalancer": hashing, **TO_SPARE})
    for name, to in (("shop", "shop"), ("kept", "shop"), ("kept-gone", "gone")):
        text += route(f"\n  - backendRefs: [{{name: {to}, port: 80}}]", hosts=f"[{name}.example.com]", name=name)
    refs = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name} for name in ("kept", "kept-gone")]
    sessions = {"cookie": {"name": "session"}, "strict": True}
    text += document("RoutePolicy", "kept", {"targetRefs": refs, "sessionAffinity": sessions})
    with serving(text, tmp_path):

        def who(host: str, **headers: str) -> str:
            status, _, echoed = get(port, "/", f"{host}.example.com", **headers)
            return str(echoed["who"]) if status == 200 else str(status)

        found = {user: {who("shop", x_user=user) for _ in range(10)} for user in map(str, range(10))}
        assert all(len(each) == 1 for each in found.values())
        assert set().union(*found.values()) == {"one", "two"}
        _, headers, echoed = get(port, "/", "kept.example.com")
        cookie = headers["set-cookie"].partition(";")[0]
        assert {who("kept", cookie=cookie) for _ in range(20)} == {echoed["who"]}
        assert who("kept-gone") == "503"


@pytest.mark.shows("TrafficPolicy.failover.backendRefs", "group", "kind", "name", "namespace", "port")
def test_a_service_a_port_of_one_one_of_another_namespace_and_a_backend_can_take_over(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    port = free_port()
    ports = {name: server.server_port for name, server in servers.items()}
    text = gateway(port) + service("spare", ports["spare"])
    numbers = [{"name": "http", "port": 80}, {"name": "more", "port": 81}]
    at = [{"address": "127.0.0.1", "ports": {"http": ports["spare"], "more": ports["one"]}}]
    text += document("Service", "several", {"ports": numbers, "endpoints": at})
    text += service("far", ports["two"], namespace="away")
    text += document("Backend", "outside", {"endpoints": [{"ip": {"address": "127.0.0.1", "port": ports["other"]}}]})
    grant = {"from": [{"group": "fairlead.dev", "kind": "TrafficPolicy", "namespace": "default"}]}
    text += document("ReferenceGrant", "grant", {**grant, "to": [{"group": "", "kind": "Service"}]}, namespace="away")
    wanted: dict[str, tuple[dict[str, Any], str]] = {
        "by-name": ({"name": "spare"}, "spare"),
        "by-port": ({"name": "several", "port": 81}, "one"),
        "by-namespace": ({"name": "far", "namespace": "away"}, "two"),
        "by-kind": ({"group": "fairlead.dev", "kind": "Backend", "name": "outside"}, "other"),
        "without-a-grant": ({"name": "spare", "namespace": "elsewhere"}, "503"),
    }
    for name, (ref, _) in wanted.items():
        text += service(name)
        text += route(f"\n  - backendRefs: [{{name: {name}, port: 80}}]", hosts=f"[{name}.example.com]", name=name)
        spec = {"targetRefs": [{"kind": "Service", "name": name}], "failover": {"backendRefs": [ref]}}
        text += document("TrafficPolicy", name, spec)
    with serving(text, tmp_path):
        found = {name: get(port, "/", f"{name}.example.com") for name in wanted}
    assert {name: echoed["who"] if status == 200 else str(status) for name, (status, _, echoed) in found.items()} == {
        name: who for name, (_, who) in wanted.items()
    }


def test_connections_and_what_sidecars_call_without_a_route_go_to_who_takes_over(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    ports = {"edge": free_port(), "egress": free_port(), "upstream": free_port()}
    numbers = [{"name": "http", "port": 80, "protocol": "HTTP"}, {"name": "raw", "port": 90, "protocol": "TCP"}]
    at = {"address": "127.0.0.1", "ports": dict.fromkeys(("http", "raw"), servers["spare"].server_port)}
    text = document("Service", "spare", {"ports": numbers, "endpoints": [at]})
    text += document("Service", "gone", {"ports": numbers, "endpoints": []})
    text += document("TrafficPolicy", "gone", {"targetRefs": [{"kind": "Service", "name": "gone"}], **TO_SPARE})
    listeners = [{"name": "raw", "port": ports["edge"], "protocol": "TCP"}]
    text += document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    rules = [{"backendRefs": [{"name": "gone", "port": 90}]}]
    text += document("TCPRoute", "raw", {"parentRefs": [{"name": "edge"}], "rules": rules})
    upstream = Upstream(ports["upstream"], "default", "gone", 90)
    sidecar = Audience("sidecar", "default", "cart", egress_port=ports["egress"], upstreams=(upstream,))

    def who(port: str, host: str = "a.example.com") -> str:
        _, _, echoed = get(ports[port], "/", host)  # an echo of HTTP, whatever carries it
        return str(echoed["who"])

    for directory in (tmp_path / "edge", tmp_path / "sidecar"):
        directory.mkdir()
    with serving(text, tmp_path / "edge"):
        assert who("edge") == "spare"
    with serving(text, tmp_path / "sidecar", sidecar):
        assert who("egress", "gone") == "spare"
        assert who("upstream") == "spare"


def test_who_takes_over_is_spoken_to_in_its_own_protocol_and_within_its_own_limits(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    port = free_port()
    text = gateway(port)
    wanted = {"spare": ({}, "spare"), "busy": ({"circuitBreaker": {"maxRequests": 0, "maxPendingRequests": 0}}, "503")}
    for name, (policy, _) in wanted.items():
        text += service(name, servers["spare"].server_port)
        text += document("TrafficPolicy", name, {"targetRefs": [{"kind": "Service", "name": name}], **policy})
        text += service(f"for-{name}", protocol="HTTP2")
        spec = {
            "targetRefs": [{"kind": "Service", "name": f"for-{name}"}],
            "failover": {"backendRefs": [{"name": name}]},
        }
        closed = {"circuitBreaker": {"maxRequests": 0, "maxPendingRequests": 0, "maxConnections": 0}}
        text += document("TrafficPolicy", f"for-{name}", {**spec, **closed})
        rules = f"\n  - backendRefs: [{{name: for-{name}, port: 80}}]"
        text += route(rules, hosts=f"[{name}.example.com]", name=name)
    with serving(text, tmp_path):
        found = {name: get(port, "/", f"{name}.example.com") for name in wanted}
    answered = {name: echoed["who"] if status == 200 else str(status) for name, (status, _, echoed) in found.items()}
    assert answered == {name: who for name, (_, who) in wanted.items()}
