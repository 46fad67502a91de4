"""uvicorn inside our event loop, on a socket that we bound and with signals left to us."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from fairlead.http_protocol import DEFAULT_LIMITS, HttpLimits, protocol_with


class HttpServer(uvicorn.Server):
    """Serves an ASGI application; `should_exit` ends it after the requests under way, within `drain` seconds."""

    def __init__(self, app: Any, *, drain: float, limits: HttpLimits = DEFAULT_LIMITS) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_with(limits),
                ws="none",
                proxy_headers=False,  # who asks is told by the socket; nothing here believes X-Forwarded-For
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=max(1, round(drain)),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `fairlead serve`, which has more than this server to stop."""
        yield

    async def run_on(self, bound: socket.socket) -> None:
        """Serve a bound socket until `should_exit`."""
        await self.serve(sockets=[bound])
