"""How a TrafficPolicy spreads requests: what each field changes, counted at real backends."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.routing import Server, backend_server, wait_until
from tests.support.upstreams import Upstreams, upstreams

pytestmark = pytest.mark.envoy


@contextlib.contextmanager
def backends(*names: str) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(backend_server(name)) for name in names}


def at(servers: dict[str, Server]) -> list[int]:
    return [server.server_port for server in servers.values()]


def spread(shop: Upstreams, name: str, count: int, **headers: str) -> Counter[str]:
    return Counter(shop.who(name, **headers) for _ in range(count))


@pytest.mark.shows("TrafficPolicy.loadBalancer", "choiceCount")
def test_of_more_choices_the_least_loaded_is_found_more_often(tmp_path: Path) -> None:
    with backends("busy", "free") as servers:
        wanted: dict[str, Any] = {
            "two": (at(servers), {"loadBalancer": {"type": "LeastRequest"}}),
            "many": (at(servers), {"loadBalancer": {"type": "LeastRequest", "choiceCount": 30}}),
        }
        with upstreams(tmp_path, wanted) as shop:
            for name in wanted:
                held = [shop.asking(name, "/slow")]
                wait_until(lambda: sum(len(server.seen) for server in servers.values()) > 0)
                [taken] = [one for one, server in servers.items() if server.seen]
                busy = spread(shop, name, 60)[taken]
                # Two choices among two are both the busy one in a quarter of the cases, thirty never.
                assert busy == 0 if name == "many" else busy > 0
                for server in servers.values():
                    server.released.set()
                assert held[0].result()[0] == 200
                for server in servers.values():
                    server.released.clear()
                    server.seen.clear()


@pytest.mark.shows("TrafficPolicy.loadBalancer.consistentHash.hashOn", "terminal", "cookie.ttl", "cookie.path")
def test_what_comes_first_decides_alone_where_it_says_so_and_cookies_are_given(tmp_path: Path) -> None:
    def hashing(*on: dict[str, Any]) -> dict[str, Any]:
        return {"loadBalancer": {"type": "Maglev", "consistentHash": {"hashOn": list(on)}}}

    with backends("a", "b", "c", "d") as servers:
        first, second = {"header": "x-first"}, {"header": "x-second"}
        cookie = {"cookie": {"name": "kept", "ttl": "1h", "path": "/shop"}}
        wanted = {
            "both": (at(servers), hashing(first, second)),
            "terminal": (at(servers), hashing({**first, "terminal": True}, second)),
            "cookie": (at(servers), hashing(cookie)),
        }
        with upstreams(tmp_path, wanted) as shop:

            def found(name: str, **fixed: str) -> set[str]:
                return {shop.who(name, **fixed, x_second=str(number)) for number in range(30)}

            assert len(found("both", x_first="1")) > 1
            assert len(found("terminal", x_first="1")) == 1
            assert len(found("terminal")) > 1
            _, headers, first_answer = shop.ask("cookie")
            given = headers["set-cookie"]
            assert given.startswith("kept=")
            assert "Max-Age=3600" in given
            assert "Path=/shop" in given
            kept = given.partition(";")[0]
            assert spread(shop, "cookie", 20, cookie=kept) == {first_answer["who"]: 20}


@pytest.mark.shows("TrafficPolicy.loadBalancer.consistentHash.hashOn", "sourceIp")
def test_a_client_keeps_its_endpoint_by_its_address(tmp_path: Path) -> None:
    with backends("a", "b", "c", "d") as servers:
        hashing = {"loadBalancer": {"type": "Maglev", "consistentHash": {"hashOn": [{"sourceIp": True}]}}}
        with upstreams(tmp_path, {"shop": (at(servers), hashing)}) as shop:

            def who(client: str) -> str:
                request = b"GET / HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n"
                with socket.create_connection(("127.0.0.1", shop.port), 10, (client, 0)) as connection:
                    connection.sendall(request)
                    answer = connection.makefile("rb").read()
                return str(json.loads(answer.partition(b"\r\n\r\n")[2])["who"])

            homes = {f"127.0.0.{number}": who(f"127.0.0.{number}") for number in range(1, 101)}
            assert set(homes.values()) == set(servers)
            assert all(who(client) == home for client, home in homes.items())


@pytest.mark.shows(
    "TrafficPolicy.loadBalancer.consistentHash", "tableSize", "minimumRingSize", "maximumRingSize", "balanceFactor"
)
def test_tables_and_rings_are_as_large_as_told_and_one_key_does_not_overload_its_endpoint(tmp_path: Path) -> None:
    def hashing(kind: str, **more: Any) -> dict[str, Any]:
        return {"loadBalancer": {"type": kind, "consistentHash": {"hashOn": [{"header": "x-user"}], **more}}}

    with backends("a", "b") as servers:
        wanted = {
            "table": (at(servers), hashing("Maglev", tableSize=17)),
            "small": (at(servers), hashing("RingHash", minimumRingSize=8, maximumRingSize=8)),
            "large": (at(servers), hashing("RingHash", minimumRingSize=4000)),
            "bounded": (at(servers), hashing("RingHash", balanceFactor=100)),
            "alone": (at(servers), hashing("RingHash")),
        }
        with upstreams(tmp_path, wanted) as shop:
            sizes = [shop.stat("table", f"maglev_lb.{one}_entries_per_host") for one in ("min", "max")]
            assert sizes == [8, 9]
            assert shop.stat("small", "ring_hash_lb.size") == 8
            assert shop.stat("large", "ring_hash_lb.size") >= 4000
            for name, reached in (("alone", 1), ("bounded", 2)):
                held = []
                for count in range(1, 7):  # only those that have reached an endpoint count
                    held.append(shop.asking(name, "/slow", x_user="one"))
                    wait_until(lambda count=count: sum(len(one.seen) for one in servers.values()) == count)  # type: ignore[misc]
                assert sum(bool(server.seen) for server in servers.values()) == reached
                for server in servers.values():
                    server.released.set()
                assert {one.result()[0] for one in held} == {200}
                for server in servers.values():
                    server.released.clear()
                    server.seen.clear()


@pytest.mark.shows("TrafficPolicy.loadBalancer.locality.weights", "region", "subZone")
@pytest.mark.shows("TrafficPolicy.loadBalancer.locality.failover", "region", "subZone")
@pytest.mark.shows("TrafficPolicy.loadBalancer.locality", "overprovisioningPercent")
def test_places_are_known_by_region_and_sub_zone_and_spill_over_as_told(tmp_path: Path) -> None:
    checks = [{"http": {"path": "/"}, "interval": "50ms", "unhealthyThreshold": 1, "healthyThreshold": 1}]
    with backends("eu-x", "eu-y", "us") as servers:
        x, y, us = at(servers)
        places = [
            {"ports": x, "region": "eu", "zone": "a", "subZone": "x"},
            {"ports": y, "region": "eu", "zone": "a", "subZone": "y"},
            {"ports": us, "region": "us", "zone": "a"},
        ]
        weights = [{"region": "eu", "subZone": "x", "weight": 90}, {"region": "us", "weight": 10}]
        failover = [{"region": "eu", "subZone": "y"}, {"region": "eu"}]
        home = [{"region": "eu"}, {"region": "us"}]

        def spilling(percent: int) -> dict[str, Any]:
            locality = {"failover": home, "overprovisioningPercent": percent}
            return {"healthChecks": checks, "loadBalancer": {"panicThreshold": 0, "locality": locality}}

        wanted: dict[str, Any] = {
            "weights": (places, {"loadBalancer": {"locality": {"weights": weights}}}),
            "failover": (places, {"loadBalancer": {"locality": {"failover": failover}}}),
            "eager": (places, spilling(100)),
            "patient": (places, spilling(200)),
        }
        with upstreams(tmp_path, wanted) as shop:
            counts = spread(shop, "weights", 500)
            assert counts["eu-y"] == 0
            assert abs(counts["us"] - 50) < 5 * (500 * 0.1 * 0.9) ** 0.5
            assert spread(shop, "failover", 20) == {"eu-y": 20}
            servers["eu-x"].failing = True
            # Half of the first place is left: enough for half of its requests, or said to be for all of them.
            wait_until(lambda: spread(shop, "eager", 20)["us"] > 0)
            wait_until(lambda: spread(shop, "patient", 20)["eu-x"] + spread(shop, "patient", 20)["500"] == 0)
            assert spread(shop, "patient", 60) == {"eu-y": 60}
            counts = spread(shop, "eager", 200)
            assert abs(counts["us"] - 100) < 5 * (200 * 0.5 * 0.5) ** 0.5


@pytest.mark.shows("TrafficPolicy.loadBalancer.orca", "blackoutPeriod", "weightUpdatePeriod", "metricNames")
@pytest.mark.shows("TrafficPolicy.loadBalancer.orca", "errorUtilizationPenalty", "weightExpirationPeriod")
def test_endpoints_that_report_less_load_get_more(tmp_path: Path) -> None:
    with backends("idle", "busy") as servers:
        servers["idle"].reporting = "named_metrics.own=0.1,cpu_utilization=0.9,rps_fractional=100,eps=50"
        servers["busy"].reporting = "named_metrics.own=0.9,cpu_utilization=0.1,rps_fractional=100,eps=0"
        quick = {"blackoutPeriod": "1ms", "weightUpdatePeriod": "100ms", "weightExpirationPeriod": "1h"}

        def orca(**more: Any) -> dict[str, Any]:
            return {"loadBalancer": {"type": "ClientSideWeightedRoundRobin", "orca": {**quick, **more}}}

        wanted = {
            "cpu": (at(servers), orca(errorUtilizationPenalty=0)),
            "own": (at(servers), orca(errorUtilizationPenalty=0, metricNames=["named_metrics.own"])),
            "errors": (at(servers), orca(errorUtilizationPenalty=100, metricNames=["named_metrics.own"])),
            "waiting": (at(servers), orca(errorUtilizationPenalty=0, blackoutPeriod="1h")),
            "late": (at(servers), orca(errorUtilizationPenalty=0, weightUpdatePeriod="1h")),
            "forgetful": (at(servers), orca(errorUtilizationPenalty=0, weightExpirationPeriod="1ms")),
        }
        with upstreams(tmp_path, wanted) as shop:
            wait_until(lambda: spread(shop, "own", 40)["idle"] > 30)
            wait_until(lambda: spread(shop, "cpu", 40)["busy"] > 30)
            wait_until(lambda: spread(shop, "errors", 40)["busy"] > 30)
            for name in ("waiting", "late", "forgetful"):
                counts = spread(shop, name, 100)
                assert abs(counts["idle"] - 50) <= 10, name
