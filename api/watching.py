"""Watching a list: server-sent events.

A watch starts with everything that is there (`ADDED`), says `SYNCED`, and goes on with what changes (`ADDED`,
`MODIFIED`, `DELETED`), each object in its latest state, with `SYNCED` after each batch. Only `SYNCED` has an id: a
client that comes back with it in `Last-Event-ID` gets what it missed since, perhaps a part of it twice, nothing never.
Where that cannot be told any more (the server restarted, or it was too long ago) comes `RESYNC`: forget what you have,
everything follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from api.feed import Feed
from api.labels import Requirement, selected
from api.objects import Objects
from api.ports import Item, World
from api.rendering import encoded, shown_name, shown_object
from mesh.model import ObjectKey

KEEPALIVE_SECONDS = 15.0
AT_ONCE = 100  # objects rendered before other work on the loop gets its turn


class Watch:
    """One client's watch of a kind; `events()` are the bytes of its stream."""

    def __init__(
        self,
        *,
        objects: Objects,
        world: World,
        feed: Feed,
        kind: str,
        namespace: str | None,
        labels: tuple[Requirement, ...],
        last_event_id: str = "",
        keepalive: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._objects, self._world, self._feed = objects, world, feed
        self._kind, self._namespace, self._labels = kind, namespace, labels
        self._last_event_id = last_event_id
        self._keepalive = keepalive
        # What the client holds; None while that is not known, after a resumption.
        self._known: set[ObjectKey] | None = None

    async def events(self) -> AsyncIterator[bytes]:
        """The stream, until the client goes or the feed is closed."""
        with self._feed.subscribe() as subscription:
            place = self._feed.resumable(self._last_event_id) if self._last_event_id else None
            resync = place is None and bool(self._last_event_id)
            while not self._feed.closed:
                newest = self._feed.place
                keys = None if place is None else self._feed.since(place)
                if keys is None:
                    if resync:
                        yield _event("RESYNC", {}, "")
                    async for event in self._everything():
                        yield event
                    yield _event("SYNCED", {}, f"{self._feed.epoch}-{newest}")
                elif keys or self._known is None:
                    async for event in self._changed(keys):
                        yield event
                    yield _event("SYNCED", {}, f"{self._feed.epoch}-{newest}")
                place, resync = newest, True
                if not await subscription.rung(self._keepalive):
                    yield b": still here\n\n"

    async def _everything(self) -> AsyncIterator[bytes]:
        self._known = set()
        for number, item in enumerate(await self._objects.list(self._kind, self._namespace)):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            key = _key(item)
            if selected(item.object.metadata.labels, self._labels):
                self._known.add(key)
                yield _event("ADDED", shown_object(item, self._world.status(key)))

    async def _changed(self, keys: Iterable[ObjectKey]) -> AsyncIterator[bytes]:
        for key in keys:
            if key.kind != self._kind or (self._namespace is not None and key.namespace != self._namespace):
                continue
            item = await self._objects.find(key)
            if item is not None and selected(item.object.metadata.labels, self._labels):
                new = self._known is not None and key not in self._known
                if self._known is not None:
                    self._known.add(key)
                shown = shown_object(item, self._world.status(key))
                yield _event("ADDED" if new else "MODIFIED", shown)
            elif self._known is None or key in self._known:
                if self._known is not None:
                    self._known.discard(key)
                yield _event("DELETED", shown_name(key))


class Places:
    """How many watches there may be at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    @property
    def free(self) -> bool:
        """Whether one more may begin."""
        return self.taken < self._most

    def within(self, events: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        """A stream that holds a place from its first event until it ends or its client goes."""

        async def held() -> AsyncIterator[bytes]:
            self.taken += 1
            try:
                async for event in events():
                    yield event
            finally:
                self.taken -= 1

        return held()


def _key(item: Item) -> ObjectKey:
    return ObjectKey(item.object.kind, item.object.metadata.namespace, item.object.metadata.name)


def _event(name: str, value: Any, event_id: str | None = None) -> bytes:
    mark = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (mark, name.encode(), encoded(value))
