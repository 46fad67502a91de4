"""Which objects changed, for those who watch: a ring of the latest changes.

The program publishes the keys of objects whose declaration or status changed, after every commit. A watcher keeps its
place in the ring and asks for the keys since then, each once, however often it changed: a slow one costs no memory. One
that fell out of the ring, or comes from before a restart, is told to start over.

Owned by the event loop: `publish` must be called on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Self

from mesh.model import ObjectKey

RING = 20_000


class Feed:
    """The ring. `epoch` names this run of the program: a place from another run means nothing here."""

    def __init__(self, epoch: str, *, ring: int = RING) -> None:
        self.epoch = epoch
        self.closed = False
        self._number = 0
        self._changes: deque[tuple[int, ObjectKey]] = deque(maxlen=ring)
        self._bells: set[asyncio.Event] = set()

    @property
    def place(self) -> int:
        """The number of the newest change."""
        return self._number

    @property
    def watchers(self) -> int:
        """How many wait at the ring."""
        return len(self._bells)

    def publish(self, keys: Iterable[ObjectKey]) -> None:
        """Tell watchers that these objects, or their statuses, are new, changed or gone."""
        for key in keys:
            self._number += 1
            self._changes.append((self._number, key))
        for bell in self._bells:
            bell.set()

    def close(self) -> None:
        """End all watches, so that the server can stop."""
        self.closed = True
        for bell in self._bells:
            bell.set()

    def resumable(self, event_id: str) -> int | None:
        """The place that an event id of ours names, None when it cannot be resumed from."""
        epoch, _, number = event_id.rpartition("-")
        if epoch != self.epoch or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        place = int(number)
        return place if self._covers(place) and place <= self._number else None

    def since(self, place: int) -> tuple[ObjectKey, ...] | None:
        """The keys that changed after a place, each once, in the order of their latest change; None: too long ago."""
        if not self._covers(place):
            return None
        keys: dict[ObjectKey, None] = {}
        for number, key in reversed(self._changes):
            if number <= place:
                break
            keys.setdefault(key)
        return tuple(reversed(keys))

    def _covers(self, place: int) -> bool:
        return place >= (self._changes[0][0] - 1 if self._changes else self._number)

    def subscribe(self) -> Subscription:
        """A bell that rings when something was published; close it when done."""
        return Subscription(self._bells)


class Subscription:
    """One watcher's bell, used as a context manager."""

    def __init__(self, bells: set[asyncio.Event]) -> None:
        self._bells = bells
        self._bell = asyncio.Event()

    def __enter__(self) -> Self:
        self._bells.add(self._bell)
        return self

    def __exit__(self, *_: object) -> None:
        self._bells.discard(self._bell)

    async def rung(self, within: float) -> bool:
        """Wait for news, at most so many seconds; whether there is any."""
        try:
            async with asyncio.timeout(within):
                await self._bell.wait()
        except TimeoutError:
            return False
        self._bell.clear()
        return True
