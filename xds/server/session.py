"""One gRPC stream: reads requests, writes responses, and waits when there is nothing to do.

Two tasks: the reader takes requests as they come, so that they always go before pushes; the writer sends what the
stream machine has next, one message at a time. A client that does not read blocks the writer's `write`, and so only
itself: what it misses meanwhile is not queued but computed when it reads again.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Final

from xds.protocol.rejections import NackReport
from xds.protocol.requests import DeltaRequest, SotwRequest
from xds.protocol.stream import Heard, Response, Stream
from xds.server.hub import Hub
from xds.server.node_identity import Proxy
from xds.server.rpc import END

_NO_ROUND: Final = -1
# A client that leaves a response unanswered for so long is not waited for by others.
_SLOW_SECONDS: Final = 1.0


class Session:
    """A stream that has been admitted and identified."""

    __slots__ = (
        "_context",
        "_deadline",
        "_hub",
        "_implied_type",
        "_read",
        "_round",
        "_task",
        "_waiter",
        "closing",
        "connected_since",
        "lasts",
        "opened_at",
        "proxy",
        "stream",
        "writing_since",
    )

    def __init__(
        self, hub: Hub, context: Any, stream: Stream, proxy: Proxy, implied_type: str, *, lasts: float = math.inf
    ) -> None:
        self._hub = hub
        self._context = context
        self._implied_type = implied_type
        self._read = hub.readers[stream.variant]
        self._round = _NO_ROUND
        # The writer's sleep: it ends with a response that somebody found, or None to look for one.
        self._waiter: asyncio.Future[Response | None] | None = None
        self._deadline: float | None = None
        self.closing = ""
        self._task: asyncio.Task[None] | None = None
        self.stream = stream
        self.proxy = proxy
        self.connected_since = time.time()
        self.opened_at = hub.clock()
        # Seconds from then until what the proxy proved its identity with is no proof any more.
        self.lasts = lasts
        self.writing_since: float | None = None

    # -- from the hub -------------------------------------------------------------------------------------------

    def tell(self, round_number: int) -> bool:
        """Wake up and send what there is; False if the client is slow, so that nobody should wait for it."""
        self._wake()
        unanswered = self.stream.unanswered_since()
        if unanswered is not None and self._hub.clock() - unanswered > _SLOW_SECONDS:
            return False
        if self._round != _NO_ROUND:
            self._hub.done(self._round)
        self._round = round_number
        return True

    def close(self, reason: str) -> None:
        """End after what is being written."""
        self.closing = self.closing or reason
        self._wake()

    def abort(self, reason: str) -> None:
        """End at once: the client has not taken a message for too long."""
        self.closing = self.closing or reason
        if self._task is not None:
            self._task.cancel()

    # -- the stream ---------------------------------------------------------------------------------------------

    async def run(self, first: DeltaRequest | SotwRequest) -> None:
        """Serve the stream until it ends; `closing` then tells why: closed, aged, drained, stuck.

        Raises `ProtocolError` when the client breaks the protocol.
        """
        self._task = asyncio.current_task()
        self._hear(first)
        reader = asyncio.get_running_loop().create_task(self._read_requests())
        try:
            await self._write_responses()
            if reader.done() and not reader.cancelled() and (error := reader.exception()) is not None:
                raise error
        finally:
            reader.cancel()
            if self._round != _NO_ROUND:
                self._hub.done(self._round)

    async def _read_requests(self) -> None:
        read = self._context.read
        try:
            while (raw := await read()) is not END:
                self._hear(self._read(raw, self._implied_type))
                self._look()
        finally:
            self.close("closed")

    def _hear(self, request: DeltaRequest | SotwRequest) -> None:
        heard: Heard = self.stream.receive(request)
        if self._hub.doubted:
            self._hub.heard(self, request, heard)
        if heard.acked is not None:
            telemetry = self._hub.telemetry
            telemetry.acks[request.type_url] += 1
            if heard.acked.event_at is not None:
                telemetry.observe_ack(request.type_url, self._hub.clock() - heard.acked.event_at)
        elif heard.nacked is not None:
            self._hub.telemetry.nacks[request.type_url] += 1
            nacked = heard.nacked
            self._hub.on_nack(
                NackReport(self.proxy.audience.kin, self.proxy.node_id, nacked.type_url, nacked.versions, nacked.detail)
            )
        self._hub.on_heard(self.proxy.audience, request.type_url)

    async def _write_responses(self) -> None:
        stream, clock, write = self.stream, self._hub.clock, self._context.write
        while not self.closing:
            now = clock()
            response = stream.next(now)
            if response is None:
                self._rest()
                response = await self._sleep(now)
                if response is None:
                    continue
            self.writing_since = now
            await write(response.message)
            self.writing_since = None
            telemetry = self._hub.telemetry
            telemetry.responses[response.type_url] += 1
            telemetry.resources[response.type_url] += response.resources
            telemetry.bytes_sent[response.type_url] += len(response.message)

    def _look(self) -> None:
        """Find what a request made way for, on behalf of the writer if it sleeps.

        Mostly that is nothing, for most requests are ACKs, and then the writer's task need not wake up for it.
        """
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        response = self.stream.next(self._hub.clock())
        if response is not None or self.stream.deadline() != self._deadline:
            waiter.set_result(response)
        else:
            self._rest()

    def _rest(self) -> None:
        """Report that the round has arrived: all is sent, and answered."""
        if self._round != _NO_ROUND and self.stream.unanswered_since() is None:
            self._hub.done(self._round)
            self._round = _NO_ROUND

    async def _sleep(self, now: float) -> Response | None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Response | None] = loop.create_future()
        self._waiter = waiter
        deadline = self._deadline = self.stream.deadline()
        if deadline is None:
            return await waiter
        timer = loop.call_later(max(0.0, deadline - now), self._wake)
        try:
            return await waiter
        finally:
            timer.cancel()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
