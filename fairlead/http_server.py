"""uvicorn inside our event loop, on a socket that we bound and with signals left to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from fairlead.http_protocol import DEFAULT_LIMITS, HttpLimits, protocol_with

_DATE_SECONDS = 1.0


class HttpServer(uvicorn.Server):
    """Serves an ASGI application until `stop`, which lets the requests under way end, within `drain` seconds.

    With `tls`, which makes a context when it begins to serve, it speaks HTTPS.
    """

    def __init__(
        self,
        app: Any,
        *,
        drain: float,
        limits: HttpLimits = DEFAULT_LIMITS,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
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
                ssl_context_factory=(lambda _config, _default: tls()) if tls is not None else None,
            )
        )
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more requests, and end."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Wait for the end, and once a second for a new date; uvicorn looks ten times, which wakes an idle server."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_SECONDS):
                    await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `fairlead serve`, which has more than this server to stop."""
        yield

    async def run_on(self, bound: socket.socket) -> None:
        """Serve a bound socket until `stop`."""
        await self.serve(sockets=[bound])
