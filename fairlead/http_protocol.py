"""HTTP/1.1 as uvicorn speaks it, with two bounds that it lacks: how long clients may take to say what they want, and
how many may be connected.

A client that sends a header now and then would hold its connection for good (slowloris), and enough of them every file
that this process may open, those of the proxies included. Slow bodies are the API's own affair (`api.bodies`).
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol


class HttpLimits(msgspec.Struct, frozen=True):
    """`head_seconds` from a connection's start, or a request's first byte, to the end of its headers."""

    head_seconds: float = 10.0
    connections: int = 1_000


DEFAULT_LIMITS = HttpLimits()


class BoundedProtocol(H11Protocol):
    """One connection."""

    limits: ClassVar[HttpLimits] = DEFAULT_LIMITS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, or send the client away."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, b"Too many connections: try again in a moment.\n")
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting as long as the headers are not complete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
        else:
            self._stop_waiting()

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
        headers = [("content-type", "text/plain"), ("content-length", str(len(text))), ("connection", "close")]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=text), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def protocol_with(limits: HttpLimits) -> type[BoundedProtocol]:
    """The protocol with other limits; uvicorn makes a connection's protocol by itself and hands it nothing of ours."""
    return type("Protocol", (BoundedProtocol,), {"limits": limits})
