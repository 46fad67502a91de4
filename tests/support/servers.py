"""Servers in threads of the test, which end with the block that they are for."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

import grpc


class HttpServer(http.server.ThreadingHTTPServer):
    """An HTTP server on a port of its own, whose slow answers wait for `released`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, *args: Any) -> None:
        """Say nothing of connections that end in the middle."""


S = TypeVar("S", bound=HttpServer)


@contextlib.contextmanager
def served(server: S) -> Iterator[S]:
    """Serve until the block ends; whoever waits for the server's `released` is let go then."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class GrpcServer(grpc.GenericRpcHandler):
    """Serves its own methods on `port` while the block runs."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, handlers=[self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
        self._pool.shutdown()
