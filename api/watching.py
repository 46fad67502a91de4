"""Watching a list: server-sent events.

A watch starts with everything that is there (`ADDED`), says `SYNCED`, and goes on with what changes (`ADDED`,
`MODIFIED`, `DELETED`), each object in its latest state, with `SYNCED` after each batch. Only `SYNCED` has an id: a
client that comes back with it in `Last-Event-ID` gets what it missed since, perhaps a part of it twice, nothing never.
Where that cannot be told any more (the server restarted, or it was too long ago) comes `RESYNC`: forget what you have,
everything follows.

A watcher costs its place in the feed and what its connection buffers. One that does not read for `stalled_seconds` is
dropped, and may come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from api.feed import Feed
from api.labels import Requirement, selected
from api.rendering import encoded, shown_name
from api.shared_renderings import AT_ONCE, Rendering, SharedRenderings
from mesh.model import ObjectKey

KEEPALIVE_SECONDS = 15.0
# Between two batches each watcher lets so much time pass for every watcher there is: under constant change a hundred
# of them get ten batches a second each, and the loop has time for proxies.
PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 1.0
PIECE_BYTES = 32 * 1024  # of a large event handed on at once: what is buffered for a client that does not read

Event = tuple[bytes, bytes]  # what comes before the data, and the data, which watchers share
STILL_HERE: Event = b": still here", b""

log = logging.getLogger("fairlead.api")


class Watch:
    """One client's watch of a kind; `pieces()` are the bytes of its stream."""

    def __init__(
        self,
        *,
        renderings: SharedRenderings,
        feed: Feed,
        kind: str,
        namespace: str | None,
        labels: tuple[Requirement, ...],
        last_event_id: str = "",
        keepalive: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._renderings, self._feed = renderings, feed
        self._kind, self._namespace, self._labels = kind, namespace, labels
        self._last_event_id = last_event_id
        self._keepalive = keepalive
        # What the client holds is `_base`, which watchers share, but for the keys of `_flipped`. None: not known,
        # after a resumption.
        self._base: Mapping[ObjectKey, None] | None = None
        self._flipped: set[ObjectKey] = set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The stream, until the client goes or the feed is closed; large events in pieces."""
        async with aclosing(self._events()) as events:
            async for head, body in events:
                if len(body) <= PIECE_BYTES:
                    yield b"%b%b\n\n" % (head, body)
                    continue
                yield head
                for at in range(0, len(body), PIECE_BYTES):
                    yield body[at : at + PIECE_BYTES]
                    await asyncio.sleep(0)
                yield b"\n\n"

    async def _events(self) -> AsyncGenerator[Event]:
        with self._feed.subscribe(self._kind) as subscription:
            place = self._feed.resumable(self._last_event_id)
            said = -1  # the place of the last SYNCED; -1: none yet
            forget = bool(self._last_event_id)
            while not self._feed.closed:
                newest = self._feed.place
                keys = None if place is None else self._feed.since(place, self._kind)
                if keys is None:
                    if forget:
                        yield _event("RESYNC", b"{}", "")
                    listing = await self._renderings.listing(self._kind, self._namespace)
                    async for event in self._everything(listing.keys):
                        yield event
                    place, said, forget = listing.place, listing.place, True
                    yield self._synced(place)
                    continue
                mine = [key for key in keys if self._namespace in {None, key.namespace}]
                async for event in self._changed(mine):
                    yield event
                place, forget = newest, True
                if mine or said < 0:
                    said = place
                    yield self._synced(place)
                await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * self._feed.watchers))
                if not await subscription.rung(self._keepalive):
                    # changes of other kinds move the place too, and a client should come back with a young one
                    yield self._synced(place) if said != place else STILL_HERE
                    said = place

    def _synced(self, place: int) -> Event:
        return _event("SYNCED", b"{}", f"{self._feed.epoch}-{place}")

    async def _everything(self, keys: Mapping[ObjectKey, None]) -> AsyncIterator[Event]:
        self._base, self._flipped = keys, set()
        for number, key in enumerate(keys, 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            rendering = await self._renderings.of(key)
            if self._selects(rendering):
                yield _event("ADDED", rendering.body)
            else:
                self._flipped.add(key)

    async def _changed(self, keys: Iterable[ObjectKey]) -> AsyncIterator[Event]:
        for key in keys:
            rendering = await self._renderings.of(key)
            held = self._holds(key)
            if self._selects(rendering):
                yield _event("ADDED" if held is False else "MODIFIED", rendering.body)
                self._note(key, held=True)
            elif held is not False:
                yield _event("DELETED", encoded(shown_name(key)))
                self._note(key, held=False)

    def _selects(self, rendering: Rendering) -> bool:
        return bool(rendering.body) and selected(rendering.labels, self._labels)

    def _holds(self, key: ObjectKey) -> bool | None:
        return None if self._base is None else (key in self._base) != (key in self._flipped)

    def _note(self, key: ObjectKey, *, held: bool) -> None:
        if self._base is None:
            return
        if held == (key in self._base):
            self._flipped.discard(key)
        else:
            self._flipped.add(key)


class EventStream(StreamingResponse):
    """Server-sent events to a client that may stop reading: then it ends, after `stalled_seconds`."""

    def __init__(self, pieces: AsyncIterator[bytes], *, stalled_seconds: float) -> None:
        super().__init__(pieces, media_type="text/event-stream")
        self._stalled_seconds = stalled_seconds

    async def stream_response(self, send: Send) -> None:
        """Send pieces as they come; a connection that takes none for too long is given up."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._stalled_seconds):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            log.warning("dropped a watcher that did not read for %g s", self._stalled_seconds)


class Places:
    """How many watches there may be at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    @property
    def free(self) -> bool:
        """Whether one more may begin."""
        return self.taken < self._most

    def within(self, pieces: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        """A stream that holds a place from its first event until it ends or its client goes."""

        async def held() -> AsyncIterator[bytes]:
            self.taken += 1
            try:
                async for piece in pieces():
                    yield piece
            finally:
                self.taken -= 1

        return held()


def _event(name: str, body: bytes, event_id: str | None = None) -> Event:
    mark = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"%bevent: %b\ndata: " % (mark, name.encode()), body
