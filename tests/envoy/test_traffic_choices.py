"""Who else chooses where requests go, and how: requests themselves, repetitions, clients' protocols, answers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.envoy.test_route_policy import policy as route_policy
from tests.envoy.test_route_policy import raw
from tests.envoy.test_upstream_connections import EMPTY_SETTINGS, PREFACE
from tests.support.fields import note
from tests.support.routing import Server, backend_server, document, gateway, get, route, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

CLIENTS = {"http": {"useClientProtocol": True}, "connection": {"socketBufferLimit": 65_536}}
POLICIES: dict[str, dict[str, Any]] = {
    "chosen": {"loadBalancer": {"endpointOverride": {"headers": ["X-Endpoint", "x-other"]}}},
    "stays": {"retry": {"attempts": 2, "conditions": ["5xx"]}},
    "moves": {"retry": {"attempts": 2, "conditions": ["5xx"], "attemptsPerPriority": 1}},
    "spoken": CLIENTS,
}
FAILOVER = {"locality": {"failover": [{"zone": "a"}, {"zone": "b"}]}}
OVERRIDES = [
    {"statuses": ["401"], "redirectTo": "https://login.example.com/?from=100%25"},
    {"statuses": ["404"], "redirectTo": "/missing", "status": 308},
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Server, Server, socket.socket]]:
    """A gateway with a host for each policy; a first backend, a second, and a socket that listens."""
    port = free_port()
    with (
        backend_server("a") as first,
        backend_server("b") as second,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        text = gateway(port)
        at = [{"address": "127.0.0.1", "ports": {"http": one.server_port}, "zone": one.name} for one in (first, second)]
        for name, spec in POLICIES.items():
            endpoints = [listening.getsockname()[1]] if name == "spoken" else []
            places = {} if endpoints else {"endpoints": at}
            text += service(name, *endpoints, protocol="GRPC" if endpoints else "HTTP", **places)
            rules = f"\n  - backendRefs: [{{name: {name}, port: 80}}]"
            text += route(rules, hosts=f"[{name}.example.com]", name=name)
            more = {"loadBalancer": FAILOVER} if "retry" in spec else {}
            targets = [{"kind": "Service", "name": name}]
            text += document("TrafficPolicy", name, {"targetRefs": targets, **spec, **more})
        text += route("\n  - backendRefs: [{name: chosen, port: 80}]")
        text += route_policy(responseOverrides=OVERRIDES)
        with serving(text, tmp_path_factory.mktemp("choices")):
            listening.settimeout(10)
            yield port, first, second, listening


@pytest.fixture
def served(edge: tuple[int, Server, Server, socket.socket]) -> tuple[int, Server, Server, socket.socket]:
    """The same, with a note of what it has for the test that runs."""
    for spec in POLICIES.values():
        note({"kind": "TrafficPolicy", "spec": spec})
    note({"kind": "RoutePolicy", "spec": {"responseOverrides": OVERRIDES}})
    return edge


@pytest.mark.shows("TrafficPolicy.loadBalancer", "endpointOverride.headers")
def test_a_request_chooses_its_endpoint_among_those_of_the_backend_alone(
    served: tuple[int, Server, Server, socket.socket],
) -> None:
    port, first, second, other = served

    def who(**headers: str) -> set[str]:
        return {get(port, "/", "chosen.example.com", **headers)[2]["who"] for _ in range(20)}

    assert who(x_endpoint=f"127.0.0.1:{second.server_port}") == {"b"}
    assert who(x_other=f"127.0.0.1:{first.server_port}") == {"a"}
    elsewhere = f"127.0.0.1:{other.getsockname()[1]}"
    assert who() | who(x_endpoint=elsewhere) | who(x_endpoint="nonsense") == {"a", "b"}


@pytest.mark.shows("TrafficPolicy.retry", "attemptsPerPriority")
def test_repetitions_leave_a_place_that_is_healthy_and_fails_where_that_is_told(
    served: tuple[int, Server, Server, socket.socket],
) -> None:
    port, first, _, _ = served
    first.failing = True
    try:
        assert get(port, "/", "stays.example.com")[0] == 500
        assert get(port, "/", "moves.example.com")[2]["who"] == "b"
    finally:
        first.failing = False
    assert get(port, "/", "moves.example.com")[2]["who"] == "a"


@pytest.mark.shows("TrafficPolicy", "http.useClientProtocol", "connection.socketBufferLimit")
def test_a_request_goes_on_in_its_clients_protocol_and_through_buffers_as_told(
    served: tuple[int, Server, Server, socket.socket],
) -> None:
    port, _, _, listening = served
    begun = {}
    for version, sent in (
        ("1", b"GET / HTTP/1.1\r\nhost: spoken.example.com\r\n\r\n"),
        ("2", PREFACE + EMPTY_SETTINGS + headers_frame("spoken.example.com")),
    ):
        with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
            client.sendall(sent)
            upstream, _ = listening.accept()
            with upstream:
                upstream.settimeout(10)
                begun[version] = upstream.recv(14)
                command = ["ss", "--no-header", "-tnm", f"( dport = :{listening.getsockname()[1]} )"]
                memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                assert "rb131072," in memory  # the kernel counts its own bookkeeping too: twice what was asked
                assert "tb131072," in memory
    assert begun["1"].startswith(b"GET /")
    assert begun["2"] == PREFACE[:14]


def headers_frame(host: str) -> bytes:
    """A request by HTTP/2 in one frame: GET / of a host, without compression of its own."""
    literal = b"\x01" + bytes([len(host)]) + host.encode()  # :authority, indexed name
    block = b"\x82\x84\x86" + literal
    return len(block).to_bytes(3) + b"\x01\x05" + (1).to_bytes(4) + block


@pytest.mark.shows("RoutePolicy.responseOverrides", "redirectTo")
def test_answers_of_a_status_become_redirects(served: tuple[int, Server, Server, socket.socket]) -> None:
    port, *_ = served
    status, headers, _ = raw(port, "/fail/401/always")
    assert (status, headers["location"]) == (302, "https://login.example.com/?from=100%25")
    status, headers, _ = raw(port, "/fail/404/always")
    assert (status, headers["location"]) == (308, "/missing")
    assert raw(port, "/")[0] == 200
