"""Routing tried on a real Envoy: backends that do what a path says, config as YAML, requests exactly as written.

`serving` runs one Envoy on what translation makes of a text, without any server of ours: what is tested is the
translation and nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change, Engine
from tests.support.model import declared, objects
from tests.support.servers import HttpServer, served
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import running
from xds.translate.offline import translated
from xds.translate.tables import TABLES

EDGE = Audience("gateway", "default", "edge")
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body held back until the headers are acknowledged costs 40 ms
    server: Server

    def do_GET(self) -> None:
        """Answer as the path says; the body tells what arrived."""
        request = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        first = self.server.note(request)
        if self.headers.get("upgrade", "").lower() == "websocket":
            self._talk()
        elif self.server.failing:
            self._answer(500, request)
        elif self.server.delay:
            time.sleep(self.server.delay)
            self._answer(200, request)
        elif self.path.startswith("/slow"):
            self.server.released.wait(10)
            self._answer(200, request)
        elif self.path.startswith("/reset") and first:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
        elif self.path.startswith("/fail/"):
            status = int(self.path.split("/")[2])
            self._answer(status if first or self.path.endswith("/always") else 200, request)
        else:
            self._answer(200, request)

    def do_POST(self) -> None:
        """Like a GET, once the body is there."""
        with contextlib.suppress(OSError, ValueError):
            self.rfile.read(int(self.headers.get("content-length", "0")))
            while self.headers.get("transfer-encoding") and (size := int(self.rfile.readline(), 16)):
                self.rfile.read(size + 2)
            if self.headers.get("transfer-encoding"):
                self.rfile.readline()
        self.do_GET()

    def _answer(self, status: int, request: dict[str, Any]) -> None:
        body = json.dumps({**request, "who": self.server.name}).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if self.server.reporting:
                self.send_header("endpoint-load-metrics", f"TEXT {self.server.reporting}")
            self.end_headers()
            self.wfile.write(body)

    def _talk(self) -> None:
        """Switch to WebSocket (RFC 6455 §4.2.2), then send every byte back."""
        key = (self.headers["sec-websocket-key"] + WEBSOCKET_GUID).encode()
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key).digest()).decode())
        self.end_headers()
        with contextlib.suppress(OSError):
            while data := self.connection.recv(4096):
                self.connection.sendall(data)
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class Server(HttpServer):
    """A backend on a port of its own.

    `/slow` answers once `released` is set; the first request to `/reset…` has its connection reset; `/fail/503` answers
    503 to its first request (`/fail/503/always`: to every one); a WebSocket upgrade is granted, and what is sent comes
    back. All else is 200, after `delay` seconds. While `failing` everything is 500. `seen` are the requests that came.
    Answers carry `reporting` as ORCA's report of the endpoint's load.
    """

    def __init__(self, name: str = "echo") -> None:
        self.name = name
        self.failing = False
        self.reporting = ""
        self.delay = 0.0
        self.seen: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        super().__init__(_Handler)

    def note(self, request: dict[str, Any]) -> bool:
        """Remember a request; whether it is the first for its path."""
        with self._lock:
            first = all(other["path"] != request["path"] for other in self.seen)
            self.seen.append(request)
            return first


@contextlib.contextmanager
def backend_server(name: str = "echo") -> Iterator[Server]:
    """A backend that serves until the block ends."""
    with served(Server(name)) as server:
        yield server


def gateway(port: int, *hostnames: str) -> str:
    """The Gateway `edge` with one HTTP listener per hostname (none: one for any host), each named after its place."""
    listeners = [
        {"name": f"l{number}", "port": port, "protocol": "HTTP", **({"hostname": hostname} if hostname else {})}
        for number, hostname in enumerate(hostnames or ("",))
    ]
    spec = {"gatewayClassName": "fairlead", "listeners": listeners}
    return document("Gateway", "edge", spec)


def service(name: str, *ports: int, protocol: str = "HTTP", namespace: str = "default", **spec: Any) -> str:
    """A Service with port 80 and an endpoint on the loopback address at each of some ports."""
    endpoints = [{"address": "127.0.0.1", "ports": {"http": port}} for port in ports]
    spec = {"ports": [{"name": "http", "port": 80, "protocol": protocol}], "endpoints": endpoints, **spec}
    return document("Service", name, spec, namespace=namespace)


def route(rules: str, *, hosts: str = "[a.example.com]", name: str = "route", parent: str = "{name: edge}") -> str:
    """An HTTPRoute; `rules` and `parent` as YAML."""
    return f"""
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{parent}]
  hostnames: {hosts}
  rules:{rules}
---
"""


def document(kind: str, name: str, spec: dict[str, Any], *, namespace: str = "default") -> str:
    """An object as a YAML document, ready to be followed by another."""
    return json.dumps({"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}) + "\n---\n"


@contextlib.contextmanager
def serving(text: str, directory: Path, audience: Audience = EDGE) -> Iterator[None]:
    """A real Envoy with what an audience sees of a text."""
    engine = Engine(TABLES)
    changes = [declared(each) for each in objects(text.rstrip().removesuffix("---"))]
    engine.commit([*changes, Change(AUDIENCES, audience, Connected())])
    assert engine.faults == {}
    with running(static_bootstrap(translated(engine, audience), admin_port=0), directory):
        yield


def get(port: int, path: str, host: str = "a.example.com", **headers: str) -> tuple[int, dict[str, str], Any]:
    """One GET on a connection of its own: status, headers, and what the backend says arrived (None without one).

    Underscores in header names stand for dashes.
    """
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"host": host, **sent})
        response = connection.getresponse()
        body = response.read()
    echoed = json.loads(body) if body.startswith(b"{") else None
    return response.status, {name.lower(): value for name, value in response.getheaders()}, echoed


def send(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Bytes as they are, on a connection of their own: the status, headers and body of the (first) answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once something holds; a test fails that waits for 10 seconds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in 10 s"
        time.sleep(0.01)
