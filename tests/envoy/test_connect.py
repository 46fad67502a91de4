"""CONNECT: a tunnel that ends at the gateway or goes on to a proxy, over HTTP/1.1 and HTTP/2; WebSocket over HTTP/2."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import h2.config
import h2.connection
import h2.events
import pytest

from tests.envoy.test_route_policy import policy
from tests.support.routing import Server, document, gateway, route, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

TUNNEL = (
    "\n  - name: tunnel\n    matches: [{method: CONNECT}]\n    backendRefs: [{name: tcp, port: 80}]"
    "\n  - name: plain\n    backendRefs: [{name: tcp, port: 80}]"
)


class _Echo(socketserver.BaseRequestHandler):
    """Says first what it was told first of, then sends everything back."""

    def handle(self) -> None:
        while data := self.request.recv(4096):
            if data.startswith(b"CONNECT "):
                self.request.sendall(b"HTTP/1.1 200 OK\r\nx-proxy: yes\r\n\r\n")
            else:
                self.request.sendall(data)


@pytest.fixture
def echo() -> Iterator[int]:
    """A TCP server that sends back what it gets, and grants a CONNECT; its port."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def head(connection: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = connection.recv(4096)
        assert received, answer
        answer += received
    return answer


def connected(port: int) -> tuple[socket.socket, bytes]:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(b"CONNECT a.example.com:443 HTTP/1.1\r\nHost: a.example.com:443\r\n\r\n")
    return connection, head(connection)


def exactly(connection: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count:
        received = connection.recv(4096)
        assert received, heard
        heard += received
    return heard


@pytest.mark.shows("RoutePolicy", "connect")
@pytest.mark.parametrize(("how", "header"), [("Terminate", False), ("Forward", True)])
def test_a_tunnel_carries_bytes_to_the_backend_or_goes_on_to_a_proxy(
    tmp_path: Path, echo: int, how: str, header: bool
) -> None:
    port = free_port()
    text = gateway(port) + service("tcp", echo) + route(TUNNEL) + policy("tunnel", connect=how)
    with serving(text, tmp_path):
        connection, answer = connected(port)
        with connection:
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert (b"x-proxy: yes" in answer) == header
            connection.sendall(b"\x00not HTTP\r\n")
            assert exactly(connection, 11) == b"\x00not HTTP\r\n"


def test_without_a_policy_or_where_it_refuses_there_is_no_tunnel(tmp_path: Path, echo: int) -> None:
    port = free_port()
    text = gateway(port) + service("tcp", echo) + route(TUNNEL)
    for more in ("", policy("tunnel", connect="Refuse"), policy("plain", connect="Terminate")):
        with serving(text + more, tmp_path):
            connection, answer = connected(port)
            connection.close()
            assert answer.split()[1] in (b"404", b"403")


class Http2:
    """One stream of HTTP/2, in plaintext."""

    def __init__(self, port: int, headers: list[tuple[str, str]]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.send_headers(1, headers)
        self.socket.sendall(self.h2.data_to_send())
        self.status = ""
        self.heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def until(self, count: int) -> bytes:
        """What came back, once it is that much; with 0 once there is a status."""
        while (not self.status) if not count else len(self.heard) < count:
            data = self.socket.recv(65536)
            assert data, self.heard
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self.status = dict(event.headers)[":status"]
                elif isinstance(event, h2.events.DataReceived):
                    self.heard += event.data
            self.socket.sendall(self.h2.data_to_send())
        return self.heard[:count]

    def say(self, data: bytes) -> None:
        self.h2.send_data(1, data)
        self.socket.sendall(self.h2.data_to_send())


def test_a_tunnel_over_http2_ends_at_the_gateway(tmp_path: Path, echo: int) -> None:
    port = free_port()
    text = gateway(port) + service("tcp", echo) + route(TUNNEL) + policy("tunnel", connect="Terminate")
    headers = [(":method", "CONNECT"), (":authority", "a.example.com:443")]
    with serving(text, tmp_path), Http2(port, headers) as tunnel:
        tunnel.until(0)
        assert tunnel.status == "200"
        tunnel.say(b"\x00bytes")
        assert tunnel.until(6) == b"\x00bytes"


@pytest.mark.shows("ClientPolicy.http2", "extendedConnect")
def test_a_websocket_over_http2_reaches_a_backend_of_http1(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("chat", backend.server_port)
    text += route("\n  - backendRefs: [{name: chat, port: 80}]")
    headers = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a.example.com"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
    text += document("ClientPolicy", "edge", {"targetRefs": [target], "http2": {"extendedConnect": True}})
    with serving(text, tmp_path), Http2(port, headers) as chat:
        chat.until(0)
        assert chat.status == "200"
        chat.say(b"hello")
        assert chat.until(5) == b"hello"
