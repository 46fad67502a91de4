"""Drives the engine: takes changes in, lets them wait their turn in the lanes, commits, and tells who listens.

Small batches are derived on the event loop, where they cost less than a thread switch. The first build and other large
ones go to a thread, with a short switch interval meanwhile so that streams and the API stay quick (DESIGN §7: 3 ms
instead of 36 at p99). While such a build runs, `building` is set and nobody may walk the engine's indexes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from fairlead import memory
from fairlead.lanes import Batch, Lanes
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.objects import OBJECTS
from mesh.tables import Change, Commit, Engine

LARGE = 300  # changed input rows; a batch of as many takes some tens of milliseconds
_SWITCH_INTERVAL = 0.0005
_MANY_ROWS = 2_000  # new rows after which they are put out of the garbage collector's sight

Listener = Callable[[Commit, Batch, float], None]


class Builder:
    """Owns the order of commits. Listeners are called on the loop after each, with the seconds that it took."""

    def __init__(self, engine: Engine, lanes: Lanes, *, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.building = False
        self._lanes = lanes
        self._clock = clock
        self._bell = asyncio.Event()
        self._listeners: list[Listener] = []
        self._built = False
        self._unfrozen = 0

    def listen(self, listener: Listener) -> None:
        """Be told of every commit, in the order of registration."""
        self._listeners.append(listener)

    def submit(self, changes: Iterable[Change]) -> None:
        """Take changes in; they are derived and sent when their lane says so."""
        now = self._clock()
        batch = tuple(changes)
        for change in batch:
            self._lanes.add(change, present=self._present(change), now=now, alone=len(batch) == 1)
        self._bell.set()

    def _present(self, change: Change) -> Declared | None:
        """The declaration that holds of the object which a change is about, if it is about one."""
        if change.table is not DECLARED:
            return None
        kind, namespace, name, _source = cast("DeclaredKey", change.key)
        return self.engine.get(OBJECTS, ObjectKey(kind, namespace, name))

    async def build_first(self) -> Commit:
        """Commit everything that was submitted so far, without waiting for a quiet period, as one batch."""
        batch = self._lanes.take_all(self._clock())
        return await self._commit(batch)

    async def run(self) -> None:
        """Commit what comes, without end."""
        while True:
            self._bell.clear()
            due = self._lanes.due()
            now = self._clock()
            if due is None or due > now:
                await self._wait(None if due is None else due - now)
            elif (batch := self._lanes.take(now)) is not None:
                await self._commit(batch)
                await asyncio.sleep(0)  # streams and the API get their turn even under constant change

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass

    async def _commit(self, batch: Batch) -> Commit:
        started = self._clock()
        large = len(batch.changes) > LARGE or not self._built
        if large:
            commit = await self._commit_in_thread(batch.changes)
        else:
            with memory.deriving():
                commit = self.engine.commit(batch.changes)
        took = self._clock() - started
        for listener in self._listeners:
            listener(commit, batch, took)
        self._unfrozen = 0 if large else self._unfrozen + _added(commit)
        if self._unfrozen > _MANY_ROWS:
            memory.freeze()
            self._unfrozen = 0
        return commit

    async def _commit_in_thread(self, changes: Sequence[Change]) -> Commit:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self.building = True
        try:
            with memory.adding():
                return await asyncio.to_thread(self.engine.commit, changes)
        finally:
            self.building = False
            sys.setswitchinterval(before)
            self._built = True


def _added(commit: Commit) -> int:
    return sum(old is None for rows in commit.changes.values() for old, _ in rows.values())
