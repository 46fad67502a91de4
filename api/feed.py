"""Which objects changed, for those who watch: the latest changes of each kind, every key once.

The program publishes the keys of objects whose declaration or status changed, after every commit. A watcher keeps its
place, a number, and asks for the keys since then: a slow one costs no memory. One whose place was forgotten, or comes
from before a restart, is told to start over.

Owned by the event loop: `publish` must be called on it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Self

from mesh.model import ObjectKey

RING = 20_000  # keys remembered of each kind


class _Ring:
    """The changes of one kind: key → number of its latest change, oldest first, and who waits for more."""

    def __init__(self) -> None:
        self.changes: OrderedDict[ObjectKey, int] = OrderedDict()
        self.forgotten = 0  # the number of the newest change that is not remembered
        self.bells: set[asyncio.Event] = set()


class Feed:
    """The rings. `epoch` names this run of the program: a place from another run means nothing here."""

    def __init__(self, epoch: str, *, ring: int = RING) -> None:
        self.epoch = epoch
        self.closed = False
        self._most = ring
        self._number = 0
        self._rings: dict[str, _Ring] = {}

    @property
    def place(self) -> int:
        """The number of the newest change."""
        return self._number

    @property
    def watchers(self) -> int:
        """How many wait for changes."""
        return sum(len(ring.bells) for ring in self._rings.values())

    def publish(self, keys: Iterable[ObjectKey]) -> None:
        """Tell watchers that these objects, or their statuses, are new, changed or gone."""
        touched: dict[str, _Ring] = {}
        for key in keys:
            ring = touched.setdefault(key.kind, self._ring(key.kind))
            self._number += 1
            ring.changes[key] = self._number
            ring.changes.move_to_end(key)
            if len(ring.changes) > self._most:
                _, ring.forgotten = ring.changes.popitem(last=False)
        for ring in touched.values():
            _toll(ring)

    def close(self) -> None:
        """End all watches, so that the server can stop."""
        self.closed = True
        for ring in self._rings.values():
            _toll(ring)

    def resumable(self, event_id: str) -> int | None:
        """The place that an event id of ours names, None when it is none of this run."""
        epoch, _, number = event_id.rpartition("-")
        if epoch != self.epoch or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        place = int(number)
        return place if place <= self._number else None

    def since(self, place: int, kind: str) -> tuple[ObjectKey, ...] | None:
        """The keys of a kind that changed after a place, each once, in the order of their latest change.

        None: the place is too long ago to tell.
        """
        ring = self._ring(kind)
        if place < ring.forgotten:
            return None
        keys: list[ObjectKey] = []
        for key, number in reversed(ring.changes.items()):
            if number <= place:
                break
            keys.append(key)
        return tuple(reversed(keys))

    def unchanged(self, key: ObjectKey, *, since: int) -> bool:
        """Whether an object is known to be as it was at a place."""
        ring = self._ring(key.kind)
        return since >= ring.forgotten and ring.changes.get(key, 0) <= since

    def subscribe(self, kind: str) -> Subscription:
        """A bell that rings when something of a kind was published; close it when done."""
        return Subscription(self._ring(kind).bells)

    def _ring(self, kind: str) -> _Ring:
        return self._rings.setdefault(kind, _Ring())


def _toll(ring: _Ring) -> None:
    for bell in ring.bells:
        bell.set()


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
