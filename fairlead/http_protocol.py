"""HTTP/1.1 as uvicorn speaks it, with three bounds that it lacks: how long clients may take to say what they want, how
long that may be, and how many may be connected.

A client that sends a header now and then would hold its connection for good (slowloris), and enough of them every file
that this process may open, those of the proxies included. Slow bodies are the API's own affair (`api.bodies`).

The parser is httptools (llhttp, in C), for a write is on the way of an endpoint's change to Envoy, and uvicorn's other
one, h11, is Python.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol


class HttpLimits(msgspec.Struct, frozen=True):
    """`head_seconds` from a connection's start, or a request's first byte, to the end of its headers, which with the
    request line take at most `head_bytes`; up to 64 kB more may have been read before the bound is noticed.
    """

    head_seconds: float = 10.0
    head_bytes: int = 64 * 1024
    connections: int = 1_000


DEFAULT_LIMITS = HttpLimits()


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[HttpLimits] = DEFAULT_LIMITS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, or send the client away."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, b"Too many connections: try again in a moment.\n")
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting as long as the headers are not complete."""
        if self.transport.is_closing():
            return
        counted = self._in_head
        super().data_received(data)
        # Between requests too: the parser skips blank lines there, and uvicorn then no longer waits for the next one.
        if self.transport.is_closing() or not (self._in_head or self.cycle.response_complete):
            self._stop_waiting()
            return
        self._wait()
        if counted:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes:
                self._refuse(431, b"The headers of the request are too large.\n")

    def on_message_begin(self) -> None:
        """A request's first byte is there."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The client has said what it wants."""
        self._in_head = False
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.limits.head_seconds, self._too_late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, b"The headers of the request did not come in time.\n")

    def _refuse(self, status: int, text: bytes) -> None:
        head = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)
        self.transport.close()


def protocol_with(limits: HttpLimits) -> type[BoundedProtocol]:
    """The protocol with other limits; uvicorn makes a connection's protocol by itself and hands it nothing of ours."""
    return type("Protocol", (BoundedProtocol,), {"limits": limits})
