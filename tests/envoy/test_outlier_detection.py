"""What outlier detection of a TrafficPolicy leaves out, and for how long: real failures, counted by a real Envoy."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.routing import Server, backend_server, wait_until
from tests.support.static_envoy import free_port
from tests.support.upstreams import Upstreams, until, upstreams

pytestmark = pytest.mark.envoy

OFF = {"consecutive5xx": 0, "interval": "50ms", "baseEjectionTime": "1h", "maxEjectionTime": "1h"}
FAILS, FAILS_OTHERWISE = "/fail/503/always", "/fail/500/always"


def ejected(shop: Upstreams, name: str, kind: str) -> int:
    return shop.stat(name, f"outlier_detection.ejections_enforced_{kind}")


@pytest.mark.shows("TrafficPolicy.outlierDetection", "consecutiveGatewayFailure")
def test_an_endpoint_that_cannot_reach_its_own_backend_is_ejected(tmp_path: Path, backend: Server) -> None:
    wanted = {"shop": ([backend.server_port], {"outlierDetection": {**OFF, "consecutiveGatewayFailure": 3}})}
    with upstreams(tmp_path, wanted) as shop:
        assert {shop.status("shop", FAILS_OTHERWISE) for _ in range(6)} == {500}
        assert ejected(shop, "shop", "consecutive_gateway_failure") == 0
        assert {shop.status("shop", FAILS) for _ in range(3)} == {503}
        wait_until(lambda: ejected(shop, "shop", "consecutive_gateway_failure") == 1)


@pytest.mark.shows("TrafficPolicy.outlierDetection", "consecutiveLocalOriginFailure", "splitExternalLocalOriginErrors")
def test_an_endpoint_that_cannot_be_reached_is_ejected_where_such_errors_are_counted_apart(tmp_path: Path) -> None:
    wanted = {}
    for name, split in (("apart", True), ("together", False)):
        outlier = {**OFF, "consecutiveLocalOriginFailure": 2, "splitExternalLocalOriginErrors": split}
        wanted[name] = ([free_port()], {"outlierDetection": outlier})
    with upstreams(tmp_path, wanted) as shop:
        for name in wanted:
            assert {shop.status(name) for _ in range(4)} == {503}
        wait_until(lambda: ejected(shop, "apart", "consecutive_local_origin_failure") == 1)
        assert ejected(shop, "together", "consecutive_local_origin_failure") == 0


@pytest.mark.shows(
    "TrafficPolicy.outlierDetection", "successRateStdevFactor", "successRateMinimumHosts", "successRateRequestVolume"
)
@pytest.mark.shows(
    "TrafficPolicy.outlierDetection",
    "failurePercentageThreshold",
    "failurePercentageMinimumHosts",
    "failurePercentageRequestVolume",
)
def test_endpoints_that_fail_more_than_others_are_ejected_if_there_are_enough_of_them_and_of_requests(
    tmp_path: Path,
) -> None:
    rates = {"successRateMinimumHosts": 4, "successRateRequestVolume": 5, "successRateStdevFactor": 1000}
    shares = {
        "failurePercentageThreshold": 60,
        "failurePercentageMinimumHosts": 4,
        "failurePercentageRequestVolume": 5,
    }
    variants: dict[str, dict[str, Any]] = {
        "rate": rates,
        "rate-lenient": {**rates, "successRateStdevFactor": 5000},
        "rate-hosts": {**rates, "successRateMinimumHosts": 5},
        "rate-volume": {**rates, "successRateRequestVolume": 1_000_000},
        "share": shares,
        "share-hosts": {**shares, "failurePercentageMinimumHosts": 5},
        "share-volume": {**shares, "failurePercentageRequestVolume": 1_000_000},
    }
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(backend_server(f"b{number}")) for number in range(4)]
        servers[0].failing = True
        ports = [server.server_port for server in servers]
        slow = {**OFF, "interval": "1s", "maxEjectionPercent": 50}
        half = {**slow, **shares}
        wanted = {name: (ports, {"outlierDetection": {**slow, **variant}}) for name, variant in variants.items()}
        wanted["half-lenient"] = ([*ports[1:], servers[1].server_port], {"outlierDetection": half})
        shop = stack.enter_context(upstreams(tmp_path, wanted))
        luck = random.Random(1)

        def ask_all() -> None:
            asked = [shop.asking(name) for name in variants for _ in range(40)]
            asked += [shop.asking("half-lenient", luck.choice(("/", "/", "/", FAILS))) for _ in range(40)]
            assert {one.result()[0] for one in asked} <= {200, 500, 503}

        def kinds(name: str) -> tuple[int, int]:
            return ejected(shop, name, "success_rate"), ejected(shop, name, "failure_percentage")

        until(lambda: kinds("rate")[0] == 1 and kinds("share")[1] == 1, ask_all)
        ask_all()
        quiet = [name for name in wanted if name not in ("rate", "share")]
        assert {name: kinds(name) for name in quiet} == dict.fromkeys(quiet, (0, 0))


@pytest.mark.shows("TrafficPolicy.loadBalancer", "panicThreshold")
@pytest.mark.shows("TrafficPolicy.outlierDetection", "maxEjectionPercent", "alwaysEjectOneHost")
def test_no_more_endpoints_are_ejected_than_allowed(tmp_path: Path) -> None:
    limits = {
        "none": {"maxEjectionPercent": 0, "alwaysEjectOneHost": False},
        "one": {"maxEjectionPercent": 0, "alwaysEjectOneHost": True},
        "half": {"maxEjectionPercent": 50, "alwaysEjectOneHost": False},
        "all": {"maxEjectionPercent": 100},
        "panic": {"maxEjectionPercent": 100},
    }
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(backend_server(f"b{number}")) for number in range(4)]
        wanted = {}
        for name, limit in limits.items():
            outlier = {**OFF, "consecutive5xx": 2, **limit}
            balancer = {"type": "RoundRobin", "panicThreshold": 50 if name == "panic" else 0}
            ports = [server.server_port for server in servers]
            wanted[name] = (ports, {"outlierDetection": outlier, "loadBalancer": balancer})
        shop = stack.enter_context(upstreams(tmp_path, wanted))
        for name in limits:
            for _ in range(16):
                shop.status(name, FAILS)
        active = {name: shop.stat(name, "outlier_detection.ejections_active") for name in limits}
        assert active == {"none": 0, "one": 1, "half": 2, "all": 4, "panic": 4}
        # Envoy tells its workers of changed health once in a second.
        wait_until(lambda: shop.status("all") == 503)
        assert [shop.status(name) for name in ("half", "panic")] == [200, 200]


@pytest.mark.shows("TrafficPolicy.outlierDetection", "maxEjectionTime", "maxEjectionTimeJitter")
def test_ejections_grow_up_to_a_bound_and_may_vary(tmp_path: Path, backend: Server) -> None:
    short = {**OFF, "consecutive5xx": 1, "baseEjectionTime": "100ms", "interval": "100ms"}
    bounds = {"bounded": {"maxEjectionTime": "100ms"}, "growing": {}, "varying": {"maxEjectionTimeJitter": "1h"}}
    balancer = {"panicThreshold": 0}
    wanted = {
        name: ([backend.server_port], {"outlierDetection": {**short, **bound}, "loadBalancer": balancer})
        for name, bound in bounds.items()
    }
    with upstreams(tmp_path, wanted) as shop:

        def count(name: str) -> int:
            return ejected(shop, name, "consecutive_5xx")

        until(
            lambda: count("bounded") >= 15,
            lambda: [shop.status(name, FAILS_OTHERWISE) for name in bounds],
        )
        # 15 x 200 ms, against 200 + 300 + 400 + 500 + 600 + 700 ms.
        assert 2 <= count("growing") <= 10
        assert count("varying") == 1
