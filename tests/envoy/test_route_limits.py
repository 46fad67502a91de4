"""What RoutePolicies let through: bodies by their rate, requests while others fail, and those of other sites' pages."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.envoy.test_route_policy import policy, raw, rules
from tests.support.fields import note
from tests.support.routing import Server, backend_server, gateway, get, route, service, serving, wait_until
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

KIB = 1024
FAILING = "/fail/500/always"
STRICT = {"successRateThreshold": 100, "maxRejectionProbability": 100}
POLICIES: dict[str, dict[str, Any]] = {
    "download": {"bandwidthLimit": {"responseKibps": 64}},
    "upload": {"bandwidthLimit": {"requestKibps": 64}},
    "window": {"admissionControl": {**STRICT, "samplingWindow": "2s"}},
    "few": {"admissionControl": {**STRICT, "rpsThreshold": 1_000_000}},
    "lenient": {"admissionControl": {**STRICT, "successRateThreshold": 1}},
    "never": {"admissionControl": {**STRICT, "maxRejectionProbability": 0}},
    "missing": {"admissionControl": {**STRICT, "httpSuccessStatuses": [{"start": 100, "end": 399}]}},
    "usual": {"admissionControl": STRICT},
    "slow": {"admissionControl": STRICT},
    "eager": {"admissionControl": {**STRICT, "aggression": 100}},
    "grpc": {
        "admissionControl": {**STRICT, "grpcSuccessStatuses": [0, 14]},
        "faultInjection": {"abort": {"grpcStatus": 14}},
    },
    "pages": {"csrf": {"additionalOrigins": ["app.example.com:8443", "*.example.org"]}},
    "all": {
        "csrf": {},
        "requestBuffer": {"maxBytes": 40 * KIB},
        "bandwidthLimit": {"requestKibps": 1024, "responseKibps": 1024},
        "compression": {"algorithms": ["gzip"]},
        "admissionControl": {**STRICT, "rpsThreshold": 1_000_000},
        "faultInjection": {"delay": {"fixed": "100ms"}},
    },
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Server]]:
    """One gateway with a rule for each policy, and its backend."""
    port = free_port()
    with backend_server() as backend:
        text = gateway(port) + service("echo", backend.server_port) + route(rules(*POLICIES))
        text += "".join(policy(rule, **spec) for rule, spec in POLICIES.items())
        with serving(text, tmp_path_factory.mktemp("limits")):
            yield port, backend


@pytest.fixture
def served(edge: tuple[int, Server]) -> tuple[int, Server]:
    """The same, with a note of what it has for the test that runs."""
    for spec in POLICIES.values():
        note({"kind": "RoutePolicy", "spec": spec})
    return edge


def statuses(port: int, rule: str, path: str, times: int) -> list[int]:
    return [get(port, path, rule=rule)[0] for _ in range(times)]


@pytest.mark.shows("RoutePolicy.bandwidthLimit", "requestKibps", "responseKibps")
def test_bodies_pass_no_faster_than_told_in_either_direction(served: tuple[int, Server]) -> None:
    port, _ = served

    def took(rule: str, path: str, body: bytes) -> float:
        began = time.monotonic()
        for _ in range(4):
            assert raw(port, path, "POST", body, rule=rule)[0] == 200
        return time.monotonic() - began

    with ThreadPoolExecutor() as pool:
        download = pool.submit(took, "download", "/" + "a" * 40 * KIB, b"")
        upload = pool.submit(took, "upload", "/", b"b" * 40 * KIB)
        # 160 KiB at 64 a second, of which those of one second may have been saved up.
        assert download.result() > 1.4
        assert upload.result() > 1.4


@pytest.mark.shows("RoutePolicy.admissionControl", "samplingWindow", "rpsThreshold", "httpSuccessStatuses.start")
@pytest.mark.shows("RoutePolicy.admissionControl", "successRateThreshold", "maxRejectionProbability")
@pytest.mark.shows("RoutePolicy.admissionControl", "httpSuccessStatuses.end")
def test_requests_are_refused_while_too_many_fail_and_only_where_that_is_told(served: tuple[int, Server]) -> None:
    port, backend = served
    wait_until(lambda: get(port, FAILING, rule="window")[0] == 503)
    arrived = len(backend.seen)
    found = statuses(port, "window", FAILING, 20)
    assert 503 in found
    assert len(backend.seen) - arrived == found.count(500)
    wait_until(lambda: get(port, "/", rule="window")[0] == 200)
    assert set(statuses(port, "few", FAILING, 30)) == {500}
    assert statuses(port, "lenient", "/", 1) == [200]
    assert set(statuses(port, "lenient", FAILING, 30)) == {500}
    assert set(statuses(port, "never", FAILING, 30)) == {500}
    assert set(statuses(port, "usual", "/fail/404/always", 30)) == {404}
    wait_until(lambda: get(port, "/fail/404/always", rule="missing")[0] == 503)


@pytest.mark.shows("RoutePolicy.admissionControl", "aggression")
def test_the_more_aggressive_the_sooner_requests_are_refused(served: tuple[int, Server]) -> None:
    port, _ = served
    refused = {}
    for rule in ("slow", "eager"):
        assert get(port, FAILING, rule=rule)[0] == 500
        refused[rule] = statuses(port, rule, "/", 60).count(503)
    assert refused["slow"] < 20 < 40 < refused["eager"]


@pytest.mark.shows("RoutePolicy.admissionControl", "grpcSuccessStatuses")
def test_statuses_of_grpc_count_as_told(served: tuple[int, Server]) -> None:
    port, _ = served
    answers = [get(port, "/", rule="grpc", content_type="application/grpc")[1] for _ in range(30)]
    assert {each["grpc-message"] for each in answers} == {"fault filter abort"}


@pytest.mark.shows("RoutePolicy.csrf", "additionalOrigins")
def test_what_changes_something_comes_from_pages_of_the_host_and_of_those_allowed(served: tuple[int, Server]) -> None:
    port, _ = served

    def posted(**headers: str) -> int:
        return raw(port, "/", "POST", b"x", rule="pages", **headers)[0]

    assert posted() == posted(origin="https://evil.example") == posted(origin="https://app.example.com") == 403
    assert posted(origin="http://a.example.com") == posted(origin="https://app.example.com:8443") == 200
    assert posted(referer="https://www.example.org/form") == 200
    assert posted(origin="https://example.org.evil.example") == posted(origin="null") == 403
    assert raw(port, "/", rule="pages", origin="https://evil.example")[0] == 200
    assert raw(port, "/", "POST", b"x", rule="few", origin="https://evil.example")[0] == 200


def test_all_of_them_at_one_route_do_their_part(served: tuple[int, Server]) -> None:
    """Filters that share a place in the chain: one that holds a request back must not hide the others from it."""
    port, _ = served
    own = {"rule": "all", "origin": "http://a.example.com"}
    began = time.monotonic()
    status, headers, body = raw(port, "/" + "a" * 20 * KIB, "POST", b"b" * 32 * KIB, accept_encoding="gzip", **own)
    assert time.monotonic() - began > 0.09  # Envoy's timers may go off a little early
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(body))["headers"]["content-length"] == str(32 * KIB)
    assert raw(port, "/", "POST", b"b" * 41 * KIB, **own)[0] == 413
    assert raw(port, "/", "POST", b"b", rule="all", origin="https://evil.example")[0] == 403
