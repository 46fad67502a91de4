"""A gateway with a listener for each ClientPolicy, and clients and backends of it that speak in bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any, Self

from tests.support.certificates import Authority
from tests.support.routing import document, route, service
from tests.support.secrets import secret
from tests.support.static_envoy import free_port

HOST = "a.example.com"
MEBIBYTE = 2**20


def policy(name: str, section: str = "", **spec: Any) -> str:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
    return document(
        "ClientPolicy", name, {"targetRefs": [{**target, **({"sectionName": section} if section else {})}], **spec}
    )


class Edge:
    """A gateway with a listener for each policy, at `ports` by name; in `text` are all its objects."""

    def __init__(self, backend: int, protocol: str = "HTTP", *, tls: Authority | None = None, **policies: Any) -> None:
        self.ports = {name: free_port() for name in policies}
        certificates = {"tls": {"certificateRefs": [{"name": "cert"}]}} if tls is not None else {}
        listeners = [
            {"name": name, "port": port, "protocol": protocol, **certificates} for name, port in self.ports.items()
        ]
        self.text = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
        self.text += service("echo", backend)
        if protocol == "TCP":
            spec = {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "echo", "port": 80}]}]}
            self.text += document("TCPRoute", "route", spec)
        else:
            self.text += route("\n  - backendRefs: [{name: echo, port: 80}]")
        for name, spec in policies.items():
            self.text += policy(name, name, **spec) if spec else ""
        if tls is not None:
            pair = tls.server("cert")
            self.text += secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"


def dialled(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while data := connection.recv(65536):
            found += data
    return found


def raw(port: int, request: bytes) -> bytes:
    """What comes back for these bytes until the connection ends."""
    with dialled(port) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # it may be over already
            connection.sendall(request)
        return read_to_end(connection)


def first(port: int, request: bytes) -> bytes:
    """The beginning of what comes back for these bytes."""
    with dialled(port) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def answered(port: int, request: bytes) -> bool:
    """Whether these bytes are answered 200 before the connection ends."""
    return status(raw(port, request)) == 200


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


class RawBackend:
    """A backend that answers every request with the same bytes; `seen` is what came, as it came."""

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._open)

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.seen: list[bytes] = []
        self.answered = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        waiting = b""
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                waiting += data
                while b"\r\n\r\n" in waiting:
                    request, _, waiting = waiting.partition(b"\r\n\r\n")
                    self.seen.append(request)
                    connection.sendall(self.answer)
                    self.answered += 1
