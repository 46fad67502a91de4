"""Replicas that move Rollouts, in one process and second by second, and a store that can be away or be their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from discovery.kubernetes.status_writer import StatusWriter
from discovery.stores.store import StoreNotLed, StoreUnavailable
from fairlead.rollouts.mover import COLLECTION, LedWrite, Rollouts
from mesh.all_tables import TABLES
from mesh.model import DECLARED, ROLLOUT_STATES, DeclaredKey, ObjectKey, RolloutState, Tally
from mesh.rollout_machine import Sight
from mesh.tables import Change, Engine
from tests.support.model import declared, objects

KEY = ObjectKey("Rollout", "default", "reviews")
ROLLOUT = """
kind: Rollout
metadata: {name: reviews}
spec:
  targetRef: {kind: HTTPRoute, name: reviews}
  stable: {name: reviews}
  canary: {name: reviews-v2}
  steps: [{weight: 10, pause: 3s}, {weight: 50, pause: 3s}]
  analysis: {interval: 1s, minRequests: 10, successRate: 90, failures: 2}
"""
GOOD = Sight(canary=Tally(10, 0), stable=Tally(90, 0))
BAD = Sight(canary=Tally(5, 5))


class Killed(BaseException):
    """The process ends here."""


class Documents:
    """What a store keeps of documents; it may be away, and the process may be killed as it writes."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.away: StoreUnavailable | None = None
        self.kill_in = -1
        self.before = False
        self.read = 0

    async def documents(self, collection: str) -> Mapping[str, bytes]:
        assert collection == COLLECTION
        self.read += 1
        if self.away is not None:
            raise self.away
        return dict(self.kept)

    async def write_documents(self, _collection: str, changes: Mapping[str, bytes | None]) -> None:
        if self.away is not None:
            raise self.away
        self.kill_in -= 1
        if self.kill_in == 0 and self.before:
            raise Killed
        for name, content in changes.items():
            if content is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = content
        if self.kill_in == 0:
            raise Killed

    def as_led_by(self, leader: Replica) -> LedWrite:
        """Writes as the store takes them from one whose lock it looks at; it may not know that it lost it."""

        async def write(collection: str, changes: Mapping[str, bytes | None]) -> None:
            if not leader.holds_lock:
                raise StoreNotLed("Another leads", fix="")
            await self.write_documents(collection, changes)

        return write

    async def write(self, _changes: Mapping[str, bytes | None]) -> None:
        raise AssertionError("states are written by the store alone")

    async def watch(self) -> AsyncIterator[Mapping[str, bytes]]:
        yield dict(self.kept)
        await asyncio.Event().wait()


class Looking:
    """In the place of `Sights`: everything is seen alike."""

    def __init__(self) -> None:
        self.sight = GOOD

    async def of(
        self, states: Mapping[ObjectKey, RolloutState | None], others: Mapping[ObjectKey, Any], _now: float
    ) -> Mapping[ObjectKey, Any]:
        assert not states.keys() & others.keys()
        return {key: (state, self.sight) for key, state in states.items()}

    def mark(self, _key: ObjectKey, _state: RolloutState) -> None:
        """Nothing is measured here."""


class Replica:
    """A process that moves Rollouts, one tick a second."""

    def __init__(self, store: Any, *, now: float = 1_000.0, shared: bool = False, source: str = "files") -> None:
        self.engine = Engine(TABLES)
        self.now = now
        self.leading = True
        self.term = 0
        self.holds_lock = True
        self.looking = Looking()
        self.writer: StatusWriter | None = None
        self.rollouts = Rollouts(
            self.engine,
            store,
            self.looking,  # type: ignore[arg-type]
            submit=self._commit,
            save=self._keep,
            leads=lambda _: self.leading,
            term=lambda _: self.term,
            led=lambda _: store.as_led_by(self) if shared else None,
            busy=lambda: False,
            board=store if shared else None,
            moved=lambda key, before, after: self.acted.append((key, before, after)),
            clock=lambda: self.now,
        )
        self.source = source
        self.copies: dict[str, bytes] = {}
        self.acted: list[tuple[ObjectKey, RolloutState | None, RolloutState]] = []

    async def hear(self) -> None:
        """Have what the shared store tells its watchers."""
        following = asyncio.get_running_loop().create_task(self.rollouts.follow())
        for _ in range(5):
            await asyncio.sleep(0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    def _keep(self, changes: Mapping[str, bytes | None]) -> None:
        for name, content in changes.items():
            if content is None:
                self.copies.pop(name, None)
            else:
                self.copies[name] = content

    def _commit(self, changes: Iterable[Change]) -> None:
        commit = self.engine.commit(changes)
        self.rollouts.committed(commit)
        if self.writer is not None:
            self.writer.note(commit)

    async def begin(self, text: str = ROLLOUT, *, copies: Mapping[str, bytes] | None = None) -> None:
        await self.rollouts.load(copies or {})
        self.declare(text)

    def declare(self, text: str) -> None:
        self._commit([declared(one, source=self.source) for one in objects(text)])

    def delete(self) -> None:
        self._commit([Change(DECLARED, DeclaredKey(*KEY, self.source), None)])

    async def run(self, ticks: int) -> RolloutState:
        for _ in range(ticks):
            await self.rollouts.tick()
            self.now += 1
        return self.state

    @property
    def state(self) -> RolloutState:
        state = self.engine.get(ROLLOUT_STATES, KEY)
        assert state is not None
        return state


def essence(state: RolloutState) -> tuple[Any, ...]:
    return state.phase, state.step, state.weight, state.reason
