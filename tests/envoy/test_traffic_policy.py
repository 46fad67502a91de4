"""What TrafficPolicies do to traffic: a real Envoy with what translation makes, real backends, real requests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.routing import (
    Server,
    backend_server,
    document,
    gateway,
    get,
    route,
    service,
    serving,
    wait_until,
)
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

TO_ECHO = "\n  - backendRefs: [{name: echo, port: 80}]"


def policy(name: str = "policy", *, kind: str = "Service", to: str = "echo", **spec: Any) -> str:
    group = "fairlead.dev" if kind == "ServiceSubset" else ""
    return document("TrafficPolicy", name, {"targetRefs": [{"group": group, "kind": kind, "name": to}], **spec})


def endpoints(*given: dict[str, Any]) -> str:
    """The Service `echo` with endpoints on the loopback address."""
    spec = {
        "ports": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        "endpoints": [{"address": "127.0.0.1", **each, "ports": {"http": each["ports"]}} for each in given],
    }
    return document("Service", "echo", spec)


@contextlib.contextmanager
def backends(*names: str) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(backend_server(name)) for name in names]


def who(port: int, path: str = "/", **headers: str) -> str:
    status, _, echoed = get(port, path, **headers)
    return str(echoed["who"]) if status == 200 else str(status)


@pytest.mark.shows("TrafficPolicy.retry", "attempts", "conditions")
def test_a_policy_retries_for_every_route_but_a_routes_own_retry_wins(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rules = """
  - matches: [{headers: [{name: own, value: "yes"}]}]
    backendRefs: [{name: echo, port: 80}]
    retry: {attempts: 1, codes: [500]}
  - backendRefs: [{name: echo, port: 80}]"""
    text = gateway(port) + service("echo", backend.server_port) + route(rules)
    with serving(text + policy(retry={"attempts": 3, "conditions": ["5xx"]}), tmp_path):
        assert get(port, "/fail/503/always")[0] == 503
        assert len(backend.seen) == 4
        assert get(port, "/fail/503/always", own="yes")[0] == 503
        assert len(backend.seen) == 5
        assert get(port, "/fail/502")[0] == 200


@pytest.mark.shows("TrafficPolicy.timeouts", "request")
def test_the_whole_request_has_the_policys_time_unless_the_route_gives_it_another(
    tmp_path: Path, backend: Server
) -> None:
    port = free_port()
    rules = """
  - matches: [{headers: [{name: own, value: "yes"}]}]
    backendRefs: [{name: echo, port: 80}]
    timeouts: {request: 0s}
  - backendRefs: [{name: echo, port: 80}]"""
    text = gateway(port) + service("echo", backend.server_port) + route(rules)
    with serving(text + policy(timeouts={"request": "100ms"}), tmp_path), ThreadPoolExecutor() as pool:
        assert get(port, "/slow")[0] == 504
        patient = pool.submit(get, port, "/slow", own="yes")
        wait_until(lambda: sum(request["headers"].get("own") == "yes" for request in backend.seen) == 1)
        assert not patient.done()
        backend.released.set()
        assert patient.result()[0] == 200


@pytest.mark.shows("TrafficPolicy.timeouts", "stream")
def test_a_stream_ends_after_its_time_whatever_moves_on_it(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(TO_ECHO)
    with serving(text + policy(timeouts={"stream": "100ms"}), tmp_path):
        assert get(port, "/slow")[0] == 504
        assert get(port, "/")[0] == 200


@pytest.mark.shows("TrafficPolicy.circuitBreaker", "maxRequests")
@pytest.mark.shows("TrafficPolicy.targetRefs", "group", "kind", "name")
def test_a_circuit_opens_at_its_limit_and_closes_again(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(TO_ECHO)
    with serving(text + policy(circuitBreaker={"maxRequests": 1}), tmp_path), ThreadPoolExecutor() as pool:
        first = pool.submit(get, port, "/slow")
        wait_until(lambda: len(backend.seen) == 1)
        status, headers, _ = get(port, "/")
        assert (status, headers["x-envoy-overloaded"]) == (503, "true")
        backend.released.set()
        assert first.result()[0] == 200
        assert get(port, "/")[0] == 200
    assert [request["path"] for request in backend.seen] == ["/slow", "/"]


@pytest.mark.shows("TrafficPolicy.loadBalancer", "type")
@pytest.mark.shows("TrafficPolicy.loadBalancer.consistentHash.hashOn", "header", "cookie.name")
def test_hashing_keeps_a_user_at_an_endpoint_and_moves_few_when_one_goes(tmp_path: Path) -> None:
    names = [f"b{number}" for number in range(5)]
    users = [f"user-{number}" for number in range(200)]
    for kind, by, headers in (
        ("Maglev", {"header": "x-user"}, lambda user: {"x_user": user}),
        ("RingHash", {"cookie": {"name": "session"}}, lambda user: {"cookie": f"session={user}"}),
    ):
        with backends(*names) as servers:
            homes = []
            for up in (servers, servers[:-1]):
                port = free_port()
                text = gateway(port) + service("echo", *(server.server_port for server in up)) + route(TO_ECHO)
                text += policy(loadBalancer={"type": kind, "consistentHash": {"hashOn": [by]}})
                with serving(text, tmp_path):
                    homes.append({user: who(port, **headers(user)) for user in users})
                    assert all(who(port, **headers(user)) == homes[-1][user] for user in users[:20])
        assert set(homes[0].values()) == set(names)
        moved = sum(homes[0][user] != homes[1][user] for user in users)
        assert 0 < moved <= len(users) * 2 / len(names)


@pytest.mark.shows("TrafficPolicy.loadBalancer.consistentHash.hashOn", "queryParameter")
def test_a_query_parameter_chooses_the_endpoint_too(tmp_path: Path) -> None:
    port = free_port()
    with backends("a", "b", "c") as servers:
        text = gateway(port) + service("echo", *(server.server_port for server in servers)) + route(TO_ECHO)
        text += policy(loadBalancer={"type": "Maglev", "consistentHash": {"hashOn": [{"queryParameter": "tenant"}]}})
        with serving(text, tmp_path):
            homes = {tenant: {who(port, f"/?tenant={tenant}") for _ in range(5)} for tenant in range(30)}
    assert all(len(found) == 1 for found in homes.values())
    assert len(set.union(*homes.values())) == 3


@pytest.mark.shows("TrafficPolicy.loadBalancer.locality.weights", "zone", "weight")
def test_localities_share_by_the_policys_weights_whatever_stands_in_them(tmp_path: Path) -> None:
    port = free_port()
    with backends("a", "b1", "b2", "c") as servers:
        a, b1, b2, c = (server.server_port for server in servers)
        text = gateway(port) + route(TO_ECHO)
        text += endpoints(
            {"ports": a, "zone": "a"}, {"ports": b1, "zone": "b"}, {"ports": b2, "zone": "b"}, {"ports": c, "zone": "c"}
        )
        text += policy(
            loadBalancer={"locality": {"weights": [{"zone": "a", "weight": 80}, {"zone": "b", "weight": 20}]}}
        )
        with serving(text, tmp_path):
            counts = Counter(who(port) for _ in range(1000))
    assert counts["c"] == 0
    sigma = (1000 * 0.8 * 0.2) ** 0.5
    assert abs(counts["a"] - 800) < 5 * sigma
    assert counts["b1"] > 0
    assert counts["b2"] > 0


@pytest.mark.shows("TrafficPolicy.loadBalancer.locality.failover", "zone")
def test_the_next_place_takes_over_when_the_first_is_unhealthy_and_gives_back(tmp_path: Path) -> None:
    port = free_port()
    checks = [{"tcp": {}, "interval": "100ms", "timeout": "100ms", "unhealthyThreshold": 1, "healthyThreshold": 1}]
    with backends("home", "away") as (home, away):
        text = gateway(port) + route(TO_ECHO)
        text += endpoints({"ports": home.server_port, "zone": "home"}, {"ports": away.server_port, "zone": "away"})
        text += policy(
            healthChecks=checks, loadBalancer={"locality": {"failover": [{"zone": "home"}, {"zone": "away"}]}}
        )
        with serving(text, tmp_path):
            assert {who(port) for _ in range(20)} == {"home"}
            address = home.server_address
            home.shutdown()
            home.server_close()
            wait_until(lambda: who(port) == "away")
            assert {who(port) for _ in range(20)} == {"away"}
            back = _again(address)
            try:
                wait_until(lambda: who(port) == "back")
            finally:
                back.shutdown()
                back.server_close()


def _again(address: Any) -> Server:
    server = Server("back")
    server.socket.close()
    server.socket = socket.create_server(address[:2])
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.mark.shows("TrafficPolicy.outlierDetection", "consecutive5xx", "interval", "baseEjectionTime")
def test_an_endpoint_that_fails_is_ejected_and_returns(tmp_path: Path) -> None:
    port = free_port()
    with backends("good", "bad") as (good, bad):
        text = gateway(port) + service("echo", good.server_port, bad.server_port) + route(TO_ECHO)
        text += policy(
            loadBalancer={"type": "RoundRobin"},
            outlierDetection={
                "consecutive5xx": 2,
                "interval": "50ms",
                "baseEjectionTime": "300ms",
                "maxEjectionPercent": 50,
            },
        )
        with serving(text, tmp_path):
            bad.failing = True
            wait_until(lambda: who(port) == "good" and len(bad.seen) >= 2)
            bad.failing = False
            wait_until(lambda: {who(port) for _ in range(4)} == {"good"})
            wait_until(lambda: {who(port) for _ in range(4)} == {"good", "bad"})


@pytest.mark.shows("TrafficPolicy.loadBalancer", "subsetFallback")
def test_a_subset_without_endpoints_falls_back_to_the_others_only_if_told(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    subset = document("ServiceSubset", "canary", {"service": "echo", "labels": {"version": "v2"}})
    rules = "\n  - backendRefs: [{group: fairlead.dev, kind: ServiceSubset, name: canary, port: 80}]"
    text = (
        gateway(port) + endpoints({"ports": backend.server_port, "labels": {"version": "v1"}}) + subset + route(rules)
    )
    with serving(text, tmp_path):
        assert who(port) == "503"
    fallback = {"subsetFallback": "AnyEndpoint"}
    with serving(text + policy(kind="ServiceSubset", to="canary", loadBalancer=fallback), tmp_path):
        assert who(port) == "echo"


def test_of_a_subset_and_its_fallbacks_the_first_that_has_a_healthy_endpoint_answers(tmp_path: Path) -> None:
    port = free_port()
    wanted = {"ada": ("ada", "canary"), "bob": ("bob", "canary"), "eve": ("eve", "mallory"), "sick": ("sick", "stable")}
    names = ("canary", "stable", "ada", "sick")
    with backends(*names) as servers:
        each = [{"ports": at.server_port, "labels": {"is": name}} for name, at in zip(names, servers, strict=True)]
        text = gateway(port) + endpoints(*each[:3], {**each[3], "health": "Unhealthy"})
        rules = ""
        for name, (first, *others) in wanted.items():
            labels, fallback = {"is": first}, [{"labels": {"is": other}} for other in others]
            text += document("ServiceSubset", name, {"service": "echo", "labels": labels, "fallback": fallback})
            rules += f"""
  - matches: [{{headers: [{{name: x-service-tag, value: {name}}}]}}]
    backendRefs: [{{group: fairlead.dev, kind: ServiceSubset, name: {name}, port: 80}}]"""
        with serving(text + route(rules), tmp_path):
            found = {name: {who(port, x_service_tag=name) for _ in range(8)} for name in wanted}
    assert found == {"ada": {"ada"}, "bob": {"canary"}, "eve": {"503"}, "sick": {"stable"}}


@pytest.mark.shows("TrafficPolicy", "proxyProtocol")
def test_a_connection_begins_with_the_proxy_protocol(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as pool:
        text = gateway(port) + service("echo", listening.getsockname()[1]) + route(TO_ECHO)
        with serving(text + policy(proxyProtocol="V1"), tmp_path):
            asked = pool.submit(get, port, "/")
            connection, _ = listening.accept()
            with connection:
                head = connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                assert asked.result()[0] == 200
    assert head.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
