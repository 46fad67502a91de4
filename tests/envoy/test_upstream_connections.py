"""How a TrafficPolicy has backends connected to and asked again: limits of time, connections, HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge import MEBIBYTE, RawBackend, dialled
from tests.support.routing import Server, backend_server, document, gateway, get, route, service, serving, wait_until
from tests.support.static_envoy import free_port
from tests.support.upstreams import upstreams

pytestmark = pytest.mark.envoy

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port whose connections are never taken: its queue is full."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.shows("TrafficPolicy.timeouts", "connect", "perTry", "idle", "connectionAge")
def test_connections_and_tries_take_no_longer_than_told(tmp_path: Path, backend: Server) -> None:
    with deaf() as nobody:
        ports = [backend.server_port]
        retry = {"attempts": 2, "conditions": ["5xx"], "backoff": {"base": "1ms"}}
        wanted = {
            "plain": (ports, {}),
            "connect": ([nobody], {"timeouts": {"connect": "200ms"}}),
            "tries": (ports, {"timeouts": {"perTry": "100ms"}, "retry": retry}),
            "idle": (ports, {"timeouts": {"idle": "100ms"}}),
            "age": (ports, {"timeouts": {"connectionAge": "100ms"}}),
        }
        with upstreams(tmp_path, wanted) as shop:
            assert shop.status("connect") == 503
            assert shop.stat("connect", "upstream_cx_connect_timeout") >= 1
            assert shop.status("tries", "/slow") == 504
            assert len(backend.seen) == 3
            assert shop.stat("tries", "upstream_rq_per_try_timeout") == 3
            assert {shop.status(name) for name in ("plain", "idle", "age")} == {200}
            wait_until(lambda: shop.stat("idle", "upstream_cx_idle_timeout") == 1)
            wait_until(lambda: shop.stat("age", "upstream_cx_max_duration_reached") == 1)
            assert shop.stat("plain", "upstream_cx_destroy") == 0
            assert shop.status("age") == 200


@pytest.mark.shows("TrafficPolicy.retry", "codes", "avoidTriedHosts", "backoff.base", "backoff.max")
def test_requests_are_sent_again_for_codes_elsewhere_and_after_a_pause(tmp_path: Path) -> None:
    with backend_server("good") as good, backend_server("bad") as bad:
        bad.failing = True
        both = [good.server_port, bad.server_port]
        again = {"attempts": 1, "conditions": ["5xx"], "backoff": {"base": "1ms"}}
        random = {"loadBalancer": {"type": "Random"}}
        often = {"attempts": 12, "conditions": ["5xx"]}
        wanted: dict[str, Any] = {
            "codes": ([good.server_port], {"retry": {"attempts": 1, "codes": [418]}}),
            "others": (both, {**random, "retry": {**again, "avoidTriedHosts": True}}),
            "any": (both, {**random, "retry": {**again, "avoidTriedHosts": False}}),
            "late": ([good.server_port], {"retry": {**again, "backoff": {"base": "1h", "max": "1h"}}}),
            "bounded": ([bad.server_port], {"retry": {**often, "backoff": {"base": "50ms", "max": "50ms"}}}),
            "growing": ([bad.server_port], {"retry": {**often, "backoff": {"base": "50ms", "max": "1h"}}}),
        }
        with upstreams(tmp_path, wanted) as shop:
            assert shop.status("codes", "/fail/418/codes") == 200
            assert shop.status("codes", "/fail/419/codes") == 419
            # One try in two meets the bad one, and one repetition in two of those it again.
            assert {shop.status("others") for _ in range(40)} == {200}
            assert 500 in {shop.status("any") for _ in range(40)}
            late = shop.asking("late", "/fail/503/late")
            growing = shop.asking("growing")
            assert shop.status("bounded") == 500  # after 12 x 25 ms on average, where growth makes it 100 s
            assert not growing.done()
            assert not late.done()
            wait_until(lambda: shop.stat("growing", "upstream_rq_retry") >= 1)
            assert shop.stat("late", "upstream_rq_retry") <= 1


@pytest.mark.shows("TrafficPolicy.http", "maxRequestsPerConnection", "maxResponseHeadersKib")
@pytest.mark.shows("TrafficPolicy.tcpKeepalive", "time")
@pytest.mark.shows("TrafficPolicy.preconnect", "perEndpointPercent", "predictivePercent")
def test_connections_are_opened_kept_and_read_as_told(tmp_path: Path) -> None:
    lines = b"".join(b"x-large-%d: " % number + b"a" * 20_000 + b"\r\n" for number in range(5))
    large = b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: 0\r\n\r\n"
    with RawBackend(OK) as small, RawBackend(large) as huge, backend_server() as slow:
        guessing = {"preconnect": {"predictivePercent": 200}, "loadBalancer": {"type": "RoundRobin"}}
        wanted: dict[str, Any] = {
            "plain": ([small.port], {}),
            "once": ([small.port], {"http": {"maxRequestsPerConnection": 1}}),
            "headers": ([huge.port], {}),
            "more-headers": ([huge.port], {"http": {"maxResponseHeadersKib": 128}}),
            "alive": ([small.port], {"tcpKeepalive": {"time": "50s", "interval": "5s", "probes": 3}}),
            "longest": ([small.port], {"tcpKeepalive": {"time": "32767s", "interval": "32767s", "probes": 127}}),
            "ahead": ([slow.server_port], {"preconnect": {"perEndpointPercent": 300}}),
            "guessed": ([slow.server_port, small.port], guessing),
            "unprepared": ([slow.server_port], {}),
        }
        with upstreams(tmp_path, wanted) as shop:
            assert shop.status("guessed") == 200
            assert shop.stat("guessed", "upstream_cx_total") == 2
            for name, connections in (("plain", 1), ("once", 4)):
                assert {shop.status(name) for _ in range(4)} == {200}
                assert shop.stat(name, "upstream_cx_total") == connections
            assert [shop.status(name) for name in ("headers", "more-headers")] == [502, 200]
            assert [shop.status(name) for name in ("alive", "longest")] == [200, 200]

            def timers() -> str:
                command = ["ss", "--no-header", "-tno", "state", "established", f"( dport = :{small.port} )"]
                return subprocess.run(command, capture_output=True, text=True, check=True).stdout

            wait_until(lambda: "timer:(keepalive,4" in timers())
            slow.seen.clear()
            held = [shop.asking(name, "/slow") for name in ("ahead", "unprepared")]
            wait_until(lambda: len(slow.seen) == 2)
            assert [shop.stat(name, "upstream_cx_total") for name in ("ahead", "unprepared")] == [3, 1]
            slow.released.set()
            assert {one.result()[0] for one in held} == {200}


@pytest.mark.shows("TrafficPolicy.connection", "bufferLimit")
def test_no_more_than_the_buffer_limit_is_read_ahead(tmp_path: Path) -> None:
    body = 20 * MEBIBYTE
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % body + b"x" * body
    with RawBackend(answer) as server:
        port = free_port()
        target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
        text = gateway(port) + document(
            "ClientPolicy", "large", {"targetRefs": [target], "connections": {"bufferLimit": 64 * MEBIBYTE}}
        )
        for name, limit in (("large", 64 * MEBIBYTE), ("small", 16 * 1024)):
            text += service(name, server.port) + route(
                f"\n  - backendRefs: [{{name: {name}, port: 80}}]", hosts=f"[{name}.example.com]", name=name
            )
            targets = [{"kind": "Service", "name": name}]
            text += document("TrafficPolicy", name, {"targetRefs": targets, "connection": {"bufferLimit": limit}})
        with serving(text, tmp_path), dialled(port) as large, dialled(port) as small:
            large.sendall(b"GET / HTTP/1.1\r\nhost: large.example.com\r\n\r\n")  # and nothing is read
            wait_until(lambda: server.answered == 1)
            small.sendall(b"GET / HTTP/1.1\r\nhost: small.example.com\r\n\r\n")
            large.settimeout(10)
            received = 0
            while received < body:
                received += len(large.recv(MEBIBYTE))
            assert server.answered == 1  # the other one waits for its reader


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS, PING, WINDOW_UPDATE = 4, 6, 8


def frames(connection: socket.socket, *, until: int) -> list[tuple[int, int, bytes]]:
    """HTTP/2 frames as they come: type, stream and payload; the last is one of type `until`."""
    stream, found = connection.makefile("rb"), []
    assert stream.read(len(PREFACE)) == PREFACE
    while not found or found[-1][0] != until:
        head = stream.read(9)
        found.append((head[3], int.from_bytes(head[5:9]) & 0x7FFFFFFF, stream.read(int.from_bytes(head[:3]))))
    return found


@pytest.mark.shows(
    "TrafficPolicy.http.http2",
    "initialStreamWindowSize",
    "initialConnectionWindowSize",
    "keepaliveInterval",
    "keepaliveTimeout",
)
def test_http2_is_spoken_to_backends_as_the_policy_says(tmp_path: Path) -> None:
    http2 = {
        "initialStreamWindowSize": 70_000,
        "initialConnectionWindowSize": 200_000,
        "keepaliveInterval": "100ms",
        "keepaliveTimeout": "200ms",
    }
    with socket.create_server(("127.0.0.1", 0)) as listening:
        wanted = {"shop": ([listening.getsockname()[1]], {"http": {"http2": http2}})}
        with upstreams(tmp_path, wanted, protocol="HTTP2") as shop:
            asked = shop.asking("shop")
            connection, _ = listening.accept()
            with connection:
                connection.sendall(EMPTY_SETTINGS)
                seen = frames(connection, until=PING)
                settings = next(body for kind, _, body in seen if kind == SETTINGS)
                assert dict(struct.iter_unpack("!HI", settings))[4] == 70_000
                assert [int.from_bytes(body) for kind, at, body in seen if (kind, at) == (WINDOW_UPDATE, 0)] == [
                    134_465
                ]
                while connection.recv(4096):  # a ping that nobody answers ends it
                    pass
            assert asked.result()[0] == 503
            assert shop.stat("shop", "http2.keepalive_timeout") == 1


@pytest.mark.shows("TrafficPolicy.http.http2", "maxConcurrentStreams")
def test_no_more_streams_share_a_connection_than_told(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        few, many = (server.getsockname()[1] for server in servers)
        wanted: dict[str, Any] = {
            "few": ([few], {"http": {"http2": {"maxConcurrentStreams": 2}}}),
            "many": ([many], {}),
        }
        with upstreams(tmp_path, wanted, protocol="HTTP2") as shop:
            for name, server, connections in (("few", servers[0], 3), ("many", servers[1], 1)):
                held = [shop.asking(name) for _ in range(6)]
                wait_until(lambda name=name: shop.stat(name, "upstream_rq_total") == 6)  # type: ignore[misc]
                assert shop.stat(name, "upstream_cx_total") == connections
                for _ in range(connections):
                    server.accept()[0].close()
                assert {one.result()[0] for one in held} == {503}


@pytest.mark.shows("TrafficPolicy", "overrides")
@pytest.mark.shows("TrafficPolicy.targetRefs", "sectionName")
def test_what_is_narrower_wins_except_over_overrides(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    ports = [{"name": name, "port": number, "protocol": "HTTP"} for name, number in (("one", 80), ("two", 81))]
    at = {"address": "127.0.0.1", "ports": {"one": backend.server_port, "two": backend.server_port}}
    text = gateway(port) + document("Service", "echo", {"ports": ports, "endpoints": [at]})
    text += route(
        "\n  - matches: [{path: {value: /fail/503/two}}]\n    backendRefs: [{name: echo, port: 81}]"
        "\n  - backendRefs: [{name: echo, port: 80}]"
    )
    whole, part = {"kind": "Service", "name": "echo"}, {"kind": "Service", "name": "echo", "sectionName": "two"}
    none, once = {"retry": {"attempts": 0}}, {"retry": {"attempts": 1, "conditions": ["5xx"]}}
    narrow = document("TrafficPolicy", "narrow", {"targetRefs": [part], **once})
    for number, (wide, statuses) in enumerate(((none, [503, 200]), ({"overrides": none}, [503, 503]))):
        policies = document("TrafficPolicy", "wide", {"targetRefs": [whole], **wide}) + narrow
        with serving(text + policies, tmp_path):
            paths = (f"/fail/503/one{number}", f"/fail/503/two/{number}")
            assert [get(port, path)[0] for path in paths] == statuses


def test_a_routes_own_time_of_a_try_holds_for_the_tries_that_a_policy_wants(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port)
    text += route("\n  - {backendRefs: [{name: echo, port: 80}], timeouts: {backendRequest: 100ms}}")
    target = {"targetRefs": [{"kind": "Service", "name": "echo"}]}
    retry = {"attempts": 2, "conditions": ["5xx"], "backoff": {"base": "1ms"}}
    with serving(text, tmp_path):
        assert get(port, "/slow")[0] == 504
        assert len(backend.seen) == 1
    with serving(text + document("TrafficPolicy", "again", {**target, "retry": retry}), tmp_path):
        assert get(port, "/slow")[0] == 504
        assert len(backend.seen) == 4
