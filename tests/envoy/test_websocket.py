"""WebSockets pass through a real Envoy, at gateways and through sidecars, and outlive a change of their route."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fairlead.processes import Children
from mesh.model import Audience
from tests.support.programs import start_envoy, start_serve
from tests.support.routing import Server, gateway, route, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

# The example of RFC 6455 §1.2.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def opened(port: int, host: str) -> socket.socket:
    """A connection that has become a WebSocket."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        _shake_hands(connection, host)
    except BaseException:
        connection.close()
        raise
    return connection


def _shake_hands(connection: socket.socket, host: str) -> None:
    head = f"GET /chat HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    connection.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = connection.recv(4096)
        assert received, answer
        answer += received
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    assert f"sec-websocket-accept: {ACCEPT}".encode() in answer.lower().replace(
        ACCEPT.lower().encode(), ACCEPT.encode()
    )


def talks(connection: socket.socket, said: bytes) -> bool:
    """Whether what is said comes back."""
    connection.sendall(said)
    heard = b""
    while len(heard) < len(said):
        heard += connection.recv(4096)
    return heard == said


def test_a_gateway_passes_websockets_on(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("chat", backend.server_port)
    text += route("\n  - backendRefs: [{name: chat, port: 80}]", hosts="[a.example.com, '*.b.org']")
    with serving(text, tmp_path):
        for host in ("a.example.com", "A.example.com:80", "x.b.org"):
            with opened(port, host) as connection:
                assert talks(connection, b"\x81\x05hello")
                assert talks(connection, b"\x82\x03\x00\xff\r")


def test_sidecars_pass_websockets_out_and_in(tmp_path: Path, backend: Server) -> None:
    egress, ingress = free_port(), free_port()
    audience = Audience("sidecar", "default", "chat", backend.server_port, ingress, egress)
    with serving(service("chat", backend.server_port), tmp_path, audience):
        for port in (egress, ingress):
            with opened(port, "chat.default") as connection:
                assert talks(connection, b"hello")


def test_an_open_websocket_outlives_a_change_of_its_route(children: Children, backend: Server) -> None:
    port = free_port()
    folder = children.folder / "config"
    folder.mkdir()
    rule = "\n  - matches: [{path: {value: %s}}]\n    backendRefs: [{name: chat, port: 80}]"

    def write(path: str) -> None:
        made = gateway(port) + service("chat", backend.server_port) + route(rule % path)
        versions = {"Gateway": "gateway.networking.k8s.io/v1", "Service": "fairlead.dev/v1alpha1"}
        for kind, version in versions.items():
            made = made.replace(f'"kind": "{kind}"', f'"apiVersion": "{version}", "kind": "{kind}"', 1)
        new = folder / "config.yaml.new"
        new.write_text(made.replace("kind: HTTPRoute", f"apiVersion: {versions['Gateway']}\nkind: HTTPRoute"))
        new.rename(folder / "config.yaml")

    def is_open() -> bool:
        try:
            opened(port, "a.example.com").close()
        except (OSError, AssertionError):
            return False
        return True

    write("/chat")
    running = start_serve(children, "--files", str(folder))
    start_envoy(children, "gateway", "edge", xds=running.xds)
    children.wait_until(is_open, what="the route")
    with opened(port, "a.example.com") as connection:
        assert talks(connection, b"before")
        write("/other")
        children.wait_until(lambda: not is_open(), what="the changed route")
        assert talks(connection, b"after")
