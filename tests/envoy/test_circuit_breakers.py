"""What circuit breakers of a TrafficPolicy hold back: each limit at a real Envoy, beside a Service without it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.routing import Server, backend_server, wait_until
from tests.support.upstreams import upstreams

pytestmark = pytest.mark.envoy


@pytest.mark.shows("TrafficPolicy.circuitBreaker", "maxConnections", "maxPendingRequests", "maxConnectionsPerEndpoint")
def test_connections_and_requests_that_wait_for_one_are_limited(tmp_path: Path) -> None:
    breakers: dict[str, dict[str, Any]] = {
        "plain": {},
        "connections": {"maxConnections": 1},
        "endpoint": {"maxConnectionsPerEndpoint": 1},
        "waiting": {"maxConnections": 1, "maxPendingRequests": 1},
    }
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(backend_server(name)) for name in breakers}
        wanted = {
            name: ([servers[name].server_port], {"circuitBreaker": breaker} if breaker else {})
            for name, breaker in breakers.items()
        }
        shop = stack.enter_context(upstreams(tmp_path, wanted))
        asked = {name: [shop.asking(name, "/slow")] for name in breakers}
        wait_until(lambda: all(len(server.seen) == 1 for server in servers.values()))
        for name in breakers:  # one that waits for its connection to be made would count as waiting, too
            asked[name] += [shop.asking(name, "/slow") for _ in range(1 if name == "waiting" else 2)]
        wait_until(lambda: len(servers["plain"].seen) == 3)
        for name in ("connections", "endpoint"):
            wait_until(lambda name=name: shop.stat(name, "upstream_rq_pending_active") == 2)  # type: ignore[misc]
        wait_until(lambda: shop.stat("waiting", "upstream_rq_pending_active") == 1)
        status, headers, _ = shop.ask("waiting")
        assert (status, headers["x-envoy-overloaded"]) == (503, "true")
        assert [len(servers[name].seen) for name in ("connections", "endpoint", "waiting")] == [1, 1, 1]
        for server in servers.values():
            server.released.set()
        assert {one.result()[0] for found in asked.values() for one in found} == {200}


@pytest.mark.shows("TrafficPolicy.circuitBreaker", "maxRetries", "retryBudget.percent", "retryBudget.minConcurrency")
def test_retries_in_flight_are_limited_by_number_or_by_a_share(tmp_path: Path, backend: Server) -> None:
    retry = {"attempts": 1, "conditions": ["5xx"]}
    limits: dict[str, dict[str, Any]] = {
        "plain": {},
        "none": {"maxRetries": 0},
        "nothing": {"retryBudget": {"percent": 0, "minConcurrency": 0}},
        "least": {"retryBudget": {"percent": 0, "minConcurrency": 1}},
        "share": {"retryBudget": {"percent": 100, "minConcurrency": 0}},
    }
    wanted = {
        name: ([backend.server_port], {"retry": retry, "circuitBreaker": limit}) for name, limit in limits.items()
    }
    with upstreams(tmp_path, wanted) as shop:
        found = {name: shop.status(name, f"/fail/503/{name}") for name in limits}
        assert found == {"plain": 200, "none": 503, "nothing": 503, "least": 200, "share": 200}
        assert shop.stat("none", "upstream_rq_retry_overflow") == 1


@pytest.mark.shows("TrafficPolicy.circuitBreaker", "maxConnectionPools")
def test_endpoints_with_connections_at_once_are_limited(tmp_path: Path) -> None:
    with backend_server("one") as one, backend_server("two") as two:
        ports = [one.server_port, two.server_port]
        wanted = {
            "plain": (ports, {"loadBalancer": {"type": "RoundRobin"}}),
            "pools": (ports, {"loadBalancer": {"type": "RoundRobin"}, "circuitBreaker": {"maxConnectionPools": 1}}),
        }
        with upstreams(tmp_path, wanted) as shop:
            for name, statuses in (("plain", {200}), ("pools", {200, 503})):
                one.seen.clear()
                two.seen.clear()
                held = shop.asking(name, "/slow")
                wait_until(lambda: len(one.seen) + len(two.seen) == 1)
                assert {shop.status(name) for _ in range(4)} == statuses
                one.released.set()
                two.released.set()
                assert held.result()[0] == 200
                one.released.clear()
                two.released.clear()
            assert shop.stat("pools", "upstream_cx_pool_overflow") > 0
