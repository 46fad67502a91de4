"""Authorizers for tests, over HTTP and over Envoy's gRPC protocol: they answer as told and keep what they are asked."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc

from tests.support.servers import GrpcServer, HttpServer, served
from xds.schema import message

CHECK = "/envoy.service.auth.v3.Authorization/Check"
CheckRequest = message("envoy.service.auth.v3.CheckRequest")
CheckResponse = message("envoy.service.auth.v3.CheckResponse")
PERMISSION_DENIED = 7


class Asked(NamedTuple):
    """A request as it arrived; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpAuthorizer

    def do_GET(self) -> None:
        """Answer as the server was told."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers, body))
        self.server.released.wait(10)
        with contextlib.suppress(OSError):
            self.send_response_only(self.server.status)
            for name, value in ({"content-length": str(len(self.server.body))} | self.server.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(self.server.body)

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class HttpAuthorizer(HttpServer):
    """Answers with `status`, `headers` and `body` while `released`; `asked` are the requests, oldest first."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.asked: list[Asked] = []
        super().__init__(_Handler)
        self.released.set()


@contextlib.contextmanager
def http_authorizer() -> Iterator[HttpAuthorizer]:
    """An authorizer over HTTP that serves until the block ends."""
    with served(HttpAuthorizer()) as server:
        yield server


class GrpcAuthorizer(GrpcServer):
    """Serves on `port` while the block runs, and answers with the bytes of `answer` while `released`."""

    def __init__(self) -> None:
        self.answer = CheckResponse().SerializeToString()  # status OK
        self.asked: list[Any] = []
        self.released = threading.Event()
        self.released.set()
        super().__init__()

    def __exit__(self, *_: object) -> None:
        self.released.set()
        super().__exit__()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The one method there is."""
        return grpc.unary_unary_rpc_method_handler(self._check) if details.method == CHECK else None

    def _check(self, data: bytes, _context: object) -> bytes:
        self.asked.append(CheckRequest.FromString(data).attributes.request.http)
        self.released.wait(10)
        return self.answer

    def grant(self, **headers: str) -> None:
        """Let requests pass, with headers for the backend."""
        answer = CheckResponse()
        answer.ok_response.SetInParent()
        for name, value in headers.items():
            option = answer.ok_response.headers.add()
            option.header.key, option.header.value = name.replace("_", "-"), value
        self.answer = answer.SerializeToString()

    def refuse(self, status: int, body: str, **headers: str) -> None:
        """Let none pass, and tell the client so."""
        answer = CheckResponse()
        answer.status.code = PERMISSION_DENIED
        answer.denied_response.status.code = status
        answer.denied_response.body = body
        for name, value in headers.items():
            option = answer.denied_response.headers.add()
            option.header.key, option.header.value = name.replace("_", "-"), value
        self.answer = answer.SerializeToString()
