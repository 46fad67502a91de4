"""What ClientPolicies do to clients: a real Envoy with what translation makes, real clients, byte for byte.

Each listener of a gateway has a policy of its own, so that one Envoy shows several.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import subprocess
import urllib.request
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.edge import (
    HOST,
    MEBIBYTE,
    Edge,
    RawBackend,
    answered,
    dialled,
    first,
    raw,
    read_to_end,
    status,
)
from tests.support.routing import Server, document, get, send, serving, wait_until

pytestmark = pytest.mark.envoy

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS, PING, WINDOW_UPDATE = 4, 6, 8


# -- who the client is ------------------------------------------------------------------------------------------------


CLIENT = {"request": {"set": [{"name": "x-client", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}]}}


def who(port: int, **headers: str) -> str:
    """The address that the backend is told."""
    _, _, echoed = get(port, "/", **headers)
    address: str = echoed["headers"]["x-client"]
    return address


@pytest.mark.shows("ClientPolicy.clientAddress", "trustedHops", "trustedCidrs", "header")
@pytest.mark.shows("ClientPolicy.targetRefs", "group", "kind", "name", "sectionName")
def test_the_clients_address_is_taken_from_those_who_are_trusted(tmp_path: Path, backend: Server) -> None:
    edge = Edge(
        backend.server_port,
        plain={},
        hops={"clientAddress": {"trustedHops": 2}},
        ranges={"clientAddress": {"trustedCidrs": ["127.0.0.0/8", "10.0.0.0/8"]}},
        strangers={"clientAddress": {"trustedCidrs": ["10.0.0.0/8"]}},
        header={"clientAddress": {"header": "X-Real-IP"}},
    )
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
    text = edge.text + document("RoutePolicy", "who", {"targetRefs": [target], "headers": CLIENT})
    chain = "192.0.2.9, 192.0.2.1, 10.0.0.1"
    with serving(text, tmp_path):
        found = {name: who(port, x_forwarded_for=chain) for name, port in edge.ports.items()}
        assert found == {
            "plain": "127.0.0.1",
            "hops": "192.0.2.1",
            "ranges": "192.0.2.1",
            "strangers": "127.0.0.1",
            "header": "127.0.0.1",
        }
        assert who(edge.ports["header"], x_real_ip="192.0.2.7") == "192.0.2.7"
        assert who(edge.ports["plain"], x_real_ip="192.0.2.7") == "127.0.0.1"


def test_no_way_of_finding_the_address_lets_strangers_steer_the_proxy(tmp_path: Path, backend: Server) -> None:
    edge = Edge(
        backend.server_port,
        plain={},
        ranges={"clientAddress": {"trustedCidrs": ["10.0.0.0/8"]}},
        header={"clientAddress": {"header": "x-real-ip"}},
    )
    forged = {"x_envoy_decorator_operation": "a", "x_envoy_downstream_service_node": "b", "x_envoy_internal": "true"}
    with serving(edge.text, tmp_path):
        for name, port in edge.ports.items():
            _, _, echoed = get(
                port, "/", **forged, x_forwarded_proto="https", x_request_id="mine", x_real_ip="10.1.1.1"
            )
            seen = echoed["headers"]
            assert seen["x-forwarded-proto"] == "http", name
            assert seen["x-request-id"] != "mine", name
            assert {header for header in seen if header.startswith("x-envoy-")} <= {"x-envoy-external-address"}, name
            assert get(port, f"/fail/503/{name}", x_envoy_retry_on="5xx")[0] == 503, name


@pytest.mark.shows("ClientPolicy.proxyProtocol", "optional")
def test_connections_begin_with_the_proxy_protocol(tmp_path: Path, backend: Server) -> None:
    edge = Edge(backend.server_port, demanded={"proxyProtocol": {}}, optional={"proxyProtocol": {"optional": True}})
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
    text = edge.text + document("RoutePolicy", "who", {"targetRefs": [target], "headers": CLIENT})
    request = f"GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode()
    first = b"PROXY TCP4 192.0.2.5 192.0.2.6 1111 80\r\n"
    signature = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    second = signature + socket.inet_aton("192.0.2.8") + socket.inet_aton("192.0.2.6") + struct.pack("!HH", 1, 80)
    with serving(text, tmp_path):
        for port in edge.ports.values():
            assert b'"x-client": "192.0.2.5"' in raw(port, first + request)
            assert b'"x-client": "192.0.2.8"' in raw(port, second + request)
        assert b'"x-client": "127.0.0.1"' in raw(edge.ports["optional"], request)
        assert raw(edge.ports["demanded"], request) == b""


# -- TLS --------------------------------------------------------------------------------------------------------------


def shaken(port: int, **limits: Any) -> tuple[str, str, str] | None:
    """Version, cipher and protocol that a client with such limits agrees on; None where there is no agreement."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(limits.get("alpn", ["h2", "http/1.1"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of versions before 1.2, which are what is tried
        context.minimum_version = limits.get("lowest", context.minimum_version)
        context.maximum_version = limits.get("highest", context.maximum_version)
    if "ciphers" in limits:
        context.set_ciphers(limits["ciphers"])
    if "curve" in limits:
        context.set_ecdh_curve(limits["curve"])
    try:
        with dialled(port) as plain, context.wrap_socket(plain, server_hostname=HOST) as connection:
            cipher = connection.cipher()
            return str(connection.version()), cipher[0] if cipher else "", connection.selected_alpn_protocol() or ""
    except (ssl.SSLError, ConnectionResetError):
        return None


@pytest.mark.shows("ClientPolicy.tls", "minVersion", "maxVersion", "ciphers", "curves", "alpn")
def test_tls_is_spoken_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    edge = Edge(
        backend.server_port,
        "HTTPS",
        tls=Authority(tmp_path),
        plain={},
        modern={"tls": {"minVersion": "1.3"}},
        old={"tls": {"maxVersion": "1.2", "ciphers": ["ECDHE-ECDSA-CHACHA20-POLY1305"]}},
        curved={"tls": {"curves": ["P-384"], "alpn": ["http/1.1"]}},
    )
    only_12 = ssl.TLSVersion.TLSv1_2
    with serving(edge.text, tmp_path):
        port = edge.ports.__getitem__
        assert shaken(port("plain"))[::2] == ("TLSv1.3", "h2")  # type: ignore[index]
        assert shaken(port("plain"), highest=only_12)[0] == "TLSv1.2"  # type: ignore[index]
        assert shaken(port("modern"))[0] == "TLSv1.3"  # type: ignore[index]
        assert shaken(port("modern"), highest=only_12) is None
        assert shaken(port("old"))[:2] == ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305")  # type: ignore[index]
        assert shaken(port("old"), ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") is None
        assert shaken(port("plain"), curve="prime256v1") is not None
        assert shaken(port("curved"), curve="prime256v1") is None
        assert shaken(port("curved"), curve="secp384r1")[2] == "http/1.1"  # type: ignore[index]


def test_tls_before_1_2_is_spoken_only_where_a_policy_names_it(tmp_path: Path, backend: Server) -> None:
    edge = Edge(
        backend.server_port,
        "HTTPS",
        tls=Authority(tmp_path),
        plain={},
        oldest={"tls": {"minVersion": "1.0"}},
        old={"tls": {"minVersion": "1.1", "maxVersion": "1.1", "ciphers": ["ECDHE-ECDSA-AES256-SHA"]}},
    )

    def agreed(name: str, version: ssl.TLSVersion) -> str:
        found = shaken(edge.ports[name], lowest=version, highest=version, ciphers="ALL:@SECLEVEL=0")
        return found[0] if found is not None else ""

    one, two, three, four = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    with serving(edge.text, tmp_path):
        assert [agreed("plain", version) for version in (one, two, three)] == ["", "", "TLSv1.2"]
        found = [agreed("oldest", version) for version in (one, two, three, four)]
        assert found == ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
        assert [agreed("old", version) for version in (one, two, three)] == ["", "TLSv1.1", ""]


@pytest.mark.shows("ClientPolicy.timeouts", "tlsHandshake")
def test_a_handshake_that_takes_too_long_ends_with_the_connection(tmp_path: Path, backend: Server) -> None:
    edge = Edge(backend.server_port, "HTTPS", tls=Authority(tmp_path), hasty={"timeouts": {"tlsHandshake": "300ms"}})
    with serving(edge.text, tmp_path):
        wait_until(lambda: shaken(edge.ports["hasty"]) is not None)  # a busy machine may take too long, too
        assert raw(edge.ports["hasty"], b"") == b""  # in 10 s at most, where Envoy itself would wait for 15
        assert raw(edge.ports["hasty"], b"\x16\x03\x01\x02\x00\x01") == b""


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.shows("ClientPolicy.headers", "maxRequestKib", "maxCount", "underscores")
def test_headers_beyond_the_limits_are_refused_and_underscores_as_the_policy_says(
    tmp_path: Path, backend: Server
) -> None:
    edge = Edge(
        backend.server_port,
        plain={},
        small={"headers": {"maxRequestKib": 8}},
        few={"headers": {"maxCount": 10}},
        reject={"headers": {"underscores": "Reject"}},
        drop={"headers": {"underscores": "Drop"}},
    )
    large = {"x-large": "a" * 10_000}
    many = {f"x-h{number}": "1" for number in range(12)}

    def asked(name: str, headers: dict[str, str]) -> tuple[int, bytes]:
        lines = "".join(f"{header}: {value}\r\n" for header, value in headers.items())
        request = f"GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{lines}\r\n"
        code, _, body = send(edge.ports[name], request.encode())
        return code, body

    with serving(edge.text, tmp_path):
        assert [asked(name, large)[0] for name in ("plain", "small")] == [200, 431]
        assert [asked(name, many)[0] for name in ("plain", "few")] == [200, 431]
        assert [asked(name, {"x_user": "1"})[0] for name in ("plain", "reject", "drop")] == [200, 400, 200]
        seen = [b"x_user" in asked(name, {"x_user": "1"})[1] for name in ("plain", "drop")]
        assert seen == [True, False]


@pytest.mark.shows("ClientPolicy.path", "normalize", "mergeSlashes", "escapedSlashes")
def test_paths_are_made_plain_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    edge = Edge(
        backend.server_port,
        plain={},
        asis={"path": {"normalize": False, "mergeSlashes": False, "escapedSlashes": "Keep"}},
        reject={"path": {"escapedSlashes": "Reject"}},
        unescape={"path": {"escapedSlashes": "Unescape"}},
        redirect={"path": {"escapedSlashes": "Redirect"}},
    )

    def path_of(name: str, path: str) -> str:
        code, _, echoed = get(edge.ports[name], path)
        return str(echoed["path"]) if code == 200 else str(code)

    with serving(edge.text, tmp_path):
        assert path_of("plain", "/a/../b//c") == "/b/c"
        assert path_of("asis", "/a/../b//c") == "/a/../b//c"
        wanted = {"plain": "307", "redirect": "307", "asis": "/a%2Fb", "reject": "400", "unescape": "/a/b"}
        assert {name: path_of(name, "/a%2Fb") for name in wanted} == wanted


@pytest.mark.shows("ClientPolicy.http1", "absoluteUrl", "http10.defaultHost", "preserveHeaderCase", "enableTrailers")
@pytest.mark.shows("TrafficPolicy.http.http1", "preserveHeaderCase", "enableTrailers")
def test_http1_is_spoken_as_the_policy_says(tmp_path: Path) -> None:
    with RawBackend(TRAILERS) as server:
        edge = Edge(
            server.port,
            plain={},
            relative={"http1": {"absoluteUrl": False}},
            old={"http1": {"http10": {"defaultHost": HOST}}},
            older={"http1": {"http10": {}}},
            exact={"http1": {"preserveHeaderCase": True, "enableTrailers": True}},
        )
        http1 = {"http1": {"preserveHeaderCase": True, "enableTrailers": True}}
        targets = [{"kind": "Service", "name": "echo"}]
        text = edge.text + document("TrafficPolicy", "echo", {"targetRefs": targets, "http": http1})
        absolute = f"GET http://{HOST}/ HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode()
        plain = f"GET / HTTP/1.1\r\nhost: {HOST}\r\nX-MiXed: 1\r\nconnection: close\r\n\r\n".encode()
        bare = b"GET / HTTP/1.0\r\n\r\n"
        with serving(text, tmp_path):
            port = edge.ports.__getitem__
            assert [status(raw(port(name), absolute)) for name in ("plain", "relative")] == [200, 404]
            assert [status(raw(port(name), bare)) for name in ("plain", "old", "older")] == [426, 200, 400]
            server.seen.clear()
            answer = raw(port("plain"), plain)
            assert b"x-after: 1" not in answer.lower()
            assert b"x-mixed: 1" in server.seen[0]
            answer = raw(port("exact"), plain)
            assert b"x-after: 1" in answer.lower()
            assert b"X-MiXed: 1" in server.seen[1]


def frames(connection: socket.socket, *, until: int) -> Iterator[tuple[int, int, bytes]]:
    """HTTP/2 frames as they come, type, stream and payload; the last is one of type `until`."""
    stream = connection.makefile("rb")
    while True:
        head = stream.read(9)
        kind, number = head[3], int.from_bytes(head[5:9]) & 0x7FFFFFFF
        yield kind, number, stream.read(int.from_bytes(head[:3]))
        if kind == until:
            return


@pytest.mark.shows(
    "ClientPolicy.http2",
    "maxConcurrentStreams",
    "initialStreamWindowSize",
    "initialConnectionWindowSize",
    "keepaliveInterval",
    "keepaliveTimeout",
)
def test_http2_is_spoken_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    http2 = {
        "maxConcurrentStreams": 7,
        "initialStreamWindowSize": 70_000,
        "initialConnectionWindowSize": 200_000,
        "keepaliveInterval": "100ms",
        "keepaliveTimeout": "200ms",
    }
    edge = Edge(backend.server_port, plain={}, tuned={"http2": http2})

    def told(name: str) -> dict[int, int]:
        with dialled(edge.ports[name]) as connection:
            connection.sendall(PREFACE + EMPTY_SETTINGS)
            payload = next(body for kind, _, body in frames(connection, until=SETTINGS) if kind == SETTINGS)
        return dict(struct.iter_unpack("!HI", payload))

    with serving(edge.text, tmp_path):
        assert told("plain")[3] == 100
        assert told("tuned")[3] == 7
        assert told("tuned")[4] == 70_000
        with dialled(edge.ports["tuned"]) as connection:
            connection.sendall(PREFACE + EMPTY_SETTINGS)
            seen = list(frames(connection, until=PING))
            assert [int.from_bytes(body) for kind, at, body in seen if (kind, at) == (WINDOW_UPDATE, 0)] == [134_465]
            read_to_end(connection)  # a ping that nobody answers ends it


# -- time and limits --------------------------------------------------------------------------------------------------


@pytest.mark.shows("ClientPolicy.timeouts", "requestHeaders", "request", "stream", "streamIdle", "idle", "connection")
def test_what_takes_too_long_ends(tmp_path: Path, backend: Server) -> None:
    edge = Edge(
        backend.server_port,
        headers={"timeouts": {"requestHeaders": "200ms"}},
        request={"timeouts": {"request": "300ms"}},
        stream={"timeouts": {"stream": "300ms"}},
        still={"timeouts": {"streamIdle": "300ms"}},
        idle={"timeouts": {"idle": "300ms"}},
        age={"timeouts": {"connection": "300ms"}},
        off={"timeouts": {"requestHeaders": "0s", "request": "0s", "streamIdle": "0s", "idle": "0s", "stream": "0s"}},
    )
    whole = f"GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
    slow = f"GET /slow HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
    half = f"POST /slow HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 9\r\n\r\nabc".encode()
    with serving(edge.text, tmp_path):
        port = edge.ports.__getitem__
        assert status(first(port("headers"), whole[:-2])) == 408
        assert status(first(port("request"), half)) == 408
        assert status(first(port("stream"), slow)) in (408, 504)
        assert status(first(port("still"), slow)) in (408, 504)
        for at in (port("idle"), port("age")):
            # The answer comes, then the connection ends by itself; on a busy machine it may end before the request.
            wait_until(partial(answered, at, whole))
        assert get(port("off"), "/")[0] == 200


def test_a_tcp_connection_on_which_nothing_moves_ends(tmp_path: Path, backend: Server) -> None:
    edge = Edge(backend.server_port, "TCP", idle={"timeouts": {"idle": "300ms"}})
    with serving(edge.text, tmp_path):
        wait_until(lambda: status(raw(edge.ports["idle"], b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")) == 200)
        assert raw(edge.ports["idle"], b"") == b""


@pytest.mark.shows("ClientPolicy.connections", "limit", "maxRequests")
def test_connections_and_their_requests_are_limited(tmp_path: Path, backend: Server) -> None:
    edge = Edge(backend.server_port, one={"connections": {"limit": 1}}, twice={"connections": {"maxRequests": 2}})
    request = f"GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
    with serving(edge.text, tmp_path):
        with dialled(edge.ports["one"]) as only:
            only.sendall(request)
            assert status(only.recv(65536)) == 200
            assert raw(edge.ports["one"], request) == b""

        def another() -> bool:
            with contextlib.suppress(OSError):
                return status(first(edge.ports["one"], request)) == 200
            return False

        wait_until(another)
        answer = raw(edge.ports["twice"], request * 2)
        assert answer.count(b"HTTP/1.1 200") == 2
        assert answer.count(b"connection: close") == 1


@pytest.mark.shows("ClientPolicy.connections", "bufferLimit")
def test_no_more_than_the_buffer_limit_is_read_ahead(tmp_path: Path) -> None:
    body = 40 * MEBIBYTE
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % body + b"x" * body
    request = f"GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
    with RawBackend(answer) as server:
        edge = Edge(
            server.port,
            large={"connections": {"bufferLimit": 64 * MEBIBYTE}},
            small={"connections": {"bufferLimit": 16 * 1024}},
        )
        with serving(edge.text, tmp_path):

            def paused() -> int:
                admin = (tmp_path / "admin").read_text()
                name = "cluster.default/echo_80.upstream_flow_control_paused_reading_total"
                stats = json.loads(urllib.request.urlopen(f"http://{admin}/stats?format=json").read())["stats"]
                return int(next(each["value"] for each in stats if each.get("name") == name))

            with dialled(edge.ports["large"]) as client:
                client.sendall(request)  # and nothing is read
                wait_until(lambda: server.answered == 1)
                assert paused() == 0
            with dialled(edge.ports["small"]) as client:
                client.sendall(request)
                wait_until(lambda: paused() > 0)
                assert server.answered == 1


@pytest.mark.shows("ClientPolicy.tcpKeepalive", "time")
def test_the_kernel_asks_silent_clients_whether_they_are_there(tmp_path: Path, backend: Server) -> None:
    keepalive = {"probes": 3, "time": "50s", "interval": "5s"}
    edge = Edge(backend.server_port, plain={}, asking={"tcpKeepalive": keepalive})

    def timers(port: int) -> str:
        command = ["ss", "--no-header", "-tno", "state", "established", f"( sport = :{port} )"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with serving(edge.text, tmp_path):
        with dialled(edge.ports["asking"]):
            wait_until(lambda: "timer:(keepalive,4" in timers(edge.ports["asking"]))
        with dialled(edge.ports["plain"]):
            wait_until(lambda: timers(edge.ports["plain"]) != "")
            assert "keepalive" not in timers(edge.ports["plain"])


TRAILERS = (
    b"HTTP/1.1 200 OK\r\nX-CaSing: 1\r\ntransfer-encoding: chunked\r\ntrailer: x-after\r\n\r\n"
    b"2\r\nok\r\n0\r\nx-after: 1\r\n\r\n"
)
