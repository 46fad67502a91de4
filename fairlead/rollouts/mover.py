"""Moves Rollouts: the loop around `mesh.rollout_machine`, what it is shown, and where their states are kept.

A step forward is written down before it takes effect, so that a process which is killed at any moment goes on where it
was. All else takes effect at once and is written when that can be done: a store that is away must not keep users on a
bad version.

Of several replicas one acts (`leads`). All of them see the others' states: in a store that they share (`follow`), or in
the status of an object in Kubernetes (`observed`); of two states the later one holds. One that begins
to act on what a shared store holds reads that first, for what it has heard may be late. One that acts no more, and does
not know it yet, writes nothing there (`led`), and what another came to after it holds for it too. What a replica knows
from elsewhere it keeps for itself too, for a start at which neither can be asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec

from discovery.board import Board, BoardAwayError
from discovery.stores.store import Store, StoreNotLed, StoreUnavailable, TooLarge
from fairlead.rollouts.sights import Sights
from mesh.kinds.rollout import Rollout
from mesh.model import ROLLOUT_STATES, ObjectKey, RolloutState
from mesh.objects import OBJECTS, find, source_of
from mesh.rollout_json import rollout_from_json
from mesh.rollout_machine import Command, advance, order
from mesh.tables import Change, Commit, Engine, Present

COLLECTION = "rollouts"  # of the store's documents
TICK_SECONDS: Final = 1.0

LedWrite = Callable[[str, Mapping[str, bytes | None]], Awaitable[None]]
"""As `Store.write_documents`; raises StoreNotLed where another leads by now."""

_log = logging.getLogger(__name__)


class NotLeadingError(Exception):
    """Another replica moves it."""


class NotKnownError(Exception):
    """There is no such Rollout."""


class NotKeptError(Exception):
    """The store cannot be written, and so nothing was done; says why, and `fix` what to do."""

    def __init__(self, problem: str, *, fix: str) -> None:
        self.fix = fix
        super().__init__(problem)


class Kept(msgspec.Struct, frozen=True):
    """A state as a document of the store."""

    key: ObjectKey
    state: RolloutState


class Rollouts:
    """All Rollouts. `load` before the first build, `run` after it, `committed` at each commit.

    `board` has the states where other replicas use the same `store`; `save` keeps documents in this replica's own.
    `leads` tells of a source whether this replica acts on its objects, `term` a number that grows with each replica
    that does, and `led` how to write states of its objects where the store itself says who acts. `busy` says that the
    engine's indexes may not be read now. `moved` hears of each state that this replica came to by acting, with the one
    before. `clock` is in seconds since 1970.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        sights: Sights,
        *,
        submit: Callable[[Iterable[Change]], None],
        save: Callable[[Mapping[str, bytes | None]], None],
        leads: Callable[[str], bool],
        busy: Callable[[], bool],
        board: Board | None = None,
        term: Callable[[str], int] = lambda _source: 0,
        led: Callable[[str], LedWrite | None] = lambda _source: None,
        moved: Callable[[ObjectKey, RolloutState | None, RolloutState], None] = lambda _key, _before, _after: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._store = store
        self._sights = sights
        self._submit = submit
        self._save = save
        self._leads = leads
        self._busy = busy
        self._board = board
        self._term = term
        self._led = led
        self._moved = moved
        self._clock = clock
        self._acting: frozenset[str] = frozenset()
        self._known: set[ObjectKey] = set()
        self._states: dict[ObjectKey, RolloutState] = {}
        self._unsaved: dict[ObjectKey, RolloutState | None] = {}
        self._turn = asyncio.Lock()
        self.ended: Counter[str] = Counter()

    async def load(self, copies: Mapping[str, bytes]) -> None:
        """Take back the states of an earlier run, or of other replicas. A shared store that is away is asked later."""
        self._adopt(copies)
        try:
            self._adopt(await self._store.documents(COLLECTION))
        except StoreUnavailable as error:
            _log.warning("states of rollouts cannot be read for now: %s", error)

    def _adopt(self, documents: Mapping[str, bytes]) -> None:
        for name, content in sorted(documents.items()):
            try:
                kept = msgspec.json.decode(content, type=Kept)
            except msgspec.DecodeError:
                _log.warning("the state of rollout %s cannot be read; it begins anew", name)
                continue
            self._take(kept.key, kept.state)

    def observed(self, key: ObjectKey, raw: Mapping[str, Any] | None) -> None:
        """An object as an API server holds it: what the leader wrote into its status is how far it is."""
        if key.kind != Rollout.__name__ or raw is None:
            return
        status = raw.get("status")
        state = rollout_from_json(status.get("rollout")) if isinstance(status, dict) else None
        if state is not None:
            self._take(key, state)

    def _take(self, key: ObjectKey, state: RolloutState) -> None:
        known = self._states.get(key)
        if known is None or (state.term, state.revision) > (known.term, known.revision):
            self._unsaved.pop(key, None)  # whoever acts now has gone on from what was written
            self._put(key, state)
            self._save({_name(key): _document(key, state)})

    def _put(self, key: ObjectKey, state: RolloutState) -> None:
        known = self._states.get(key)
        self._states[key] = state
        self._sights.mark(key, state)
        self._submit([Change(ROLLOUT_STATES, key, state)])
        if known is not None and (known.phase, known.step) == (state.phase, state.step):
            return
        _log.info("%s: %s, step %d, %d %%: %s", key, state.phase, state.step, state.weight, state.message)
        if known is not None and known.phase != state.phase:
            self.ended[state.phase] += 1

    def numbers(self) -> Mapping[str, Mapping[str, int]]:
        """For the metrics page: how many are in each phase, and how many came to it."""
        return {
            "phases": Counter(self._states[key].phase for key in self._known if key in self._states),
            "transitions": self.ended,
        }

    def committed(self, commit: Commit) -> None:
        """Hear of a commit: which Rollouts there are. With an object its state goes."""
        for key, (_, new) in commit.of(OBJECTS).items():
            if key.kind != Rollout.__name__:
                continue
            if new is not None:
                self._known.add(key)
                continue
            self._known.discard(key)
            if self._states.pop(key, None) is not None:
                self._unsaved[key] = None
                self._save({_name(key): None})
                self._submit([Change(ROLLOUT_STATES, key, None)])

    async def run(self) -> None:
        """Look, decide and move, without end."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_SECONDS)

    async def follow(self) -> None:
        """Hear of the states that other replicas write into a shared store, without end."""
        told = False
        while self._board is not None:
            try:
                rows = self._board.watch()
                async with aclosing(rows):  # type: ignore[type-var]  # an iterator to callers, a generator to us
                    async for found in rows:
                        told = False
                        self._adopt(found)
            except BoardAwayError as error:
                if not told:
                    _log.info("states of rollouts cannot be followed for now: %s", error)
                told = True
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> None:
        """One round."""
        if not (self._known or self._unsaved) or self._busy():
            self._acting = frozenset()
            return
        look = Present(self._engine)
        of = {key: source_of(look, key) for key in sorted(self._known)}
        mine = [key for key, source in of.items() if self._leads(source)]
        acting = frozenset(of[key] for key in mine)
        if not await self._catch_up(acting):
            acting, mine = frozenset(), []
        self._acting = acting
        states = {key: self._states.get(key) for key in of}
        sights = await self._sights.of({key: states.pop(key) for key in mine}, states, self._clock())
        async with self._turn:
            await self._move(sights)

    async def _catch_up(self, sources: frozenset[str]) -> bool:
        """Whether this replica knows all that those did who acted before it on what these sources have.

        It need not look again while it acts: nobody else writes then.
        """
        if self._board is None or sources <= self._acting:
            return True
        try:
            self._adopt(await self._store.documents(COLLECTION))
        except StoreUnavailable:
            return False  # whoever acted before may have moved on: nothing is decided on an old state
        return True

    async def _move(self, sights: Mapping[ObjectKey, Any]) -> None:
        look, now = Present(self._engine), self._clock()
        after: dict[ObjectKey, RolloutState] = {}
        for key, (seen, sight) in sights.items():
            rollout, state = find(look, Rollout, key), self._states.get(key)
            if rollout is None or state is not seen or not self._leads(source_of(look, key)):
                continue  # changed while its sight was taken: the next round sees it as it is
            moved = advance(rollout, state, sight, now)
            if moved != state:
                after[key] = self._signed(moved, state, source_of(look, key))
        try:
            await self._apply(after, unwritten=True)
        except StoreNotLed as error:
            _log.info("rollouts are not moved: %s", error)

    def _signed(self, state: RolloutState, before: RolloutState | None, source: str) -> RolloutState:
        """A state that this replica came to, in its term; a lease that was made anew does not take terms back."""
        return msgspec.structs.replace(state, term=max(self._term(source), before.term if before is not None else 0))

    async def _apply(self, after: Mapping[ObjectKey, RolloutState], *, unwritten: bool = False) -> str:
        """Write states down and put them in force; why not, where that cannot be done.

        The way back is put in force all the same; with `unwritten` all that gives the canary no more than it has.

        Raises:
            StoreNotLed: another replica acts by now, and nothing was put in force.
        """
        waiting = self._waiting(after)
        if not waiting:
            return ""
        try:
            await self._write(waiting)
        except StoreNotLed:
            raise
        except (StoreUnavailable, TooLarge) as error:
            _log.warning("states of rollouts cannot be written for now: %s", error)
            for key, state in after.items():
                known = self._states.get(key)
                if state.phase == "RolledBack" or (unwritten and known is not None and state.weight <= known.weight):
                    self._act(key, state)
                    self._unsaved[key] = state
            return str(error)
        for key, written in waiting.items():
            if self._unsaved.get(key) is written:
                self._unsaved.pop(key, None)
        for key, state in after.items():
            if key in self._known:
                self._act(key, state)
                if self._board is not None:
                    self._save({_name(key): _document(key, state)})
        return ""

    def _waiting(self, after: Mapping[ObjectKey, RolloutState]) -> Mapping[ObjectKey, RolloutState | None]:
        """What is to be written: not what this replica once came to and another acts on now."""
        look = Present(self._engine)
        mine = {
            key: state
            for key, state in self._unsaved.items()
            if state is None or self._leads(source_of(look, key))  # whoever hears that an object is gone may say so
        }
        return {**mine, **after}

    async def _write(self, waiting: Mapping[ObjectKey, RolloutState | None]) -> None:
        look = Present(self._engine)
        ways: dict[LedWrite, dict[str, bytes | None]] = {}
        for key, state in waiting.items():
            led = self._led(source_of(look, key)) if state is not None else None
            ways.setdefault(led or self._store.write_documents, {})[_name(key)] = _document(key, state)
        for write, documents in ways.items():
            await write(COLLECTION, documents)

    def _act(self, key: ObjectKey, state: RolloutState) -> None:
        before = self._states.get(key)
        self._put(key, state)
        self._moved(key, before, state)

    async def order(self, key: ObjectKey, command: Command) -> RolloutState:
        """Follow a person's command, to this state.

        Raises:
            NotKnownError: there is no such Rollout.
            NotLeadingError: another replica moves it.
            RefusedError: it cannot be followed as things are.
            NotKeptError: it could not be written down.
        """
        async with self._turn:
            look = Present(self._engine)
            rollout = find(look, Rollout, key)
            if rollout is None:
                raise NotKnownError(f"{key} does not exist.")
            source = source_of(look, key)
            if not self._leads(source):
                raise NotLeadingError("Another replica moves it.")
            if not await self._catch_up(frozenset([source])):
                raise NotKeptError("The store does not answer.", fix="Try again when the store is back.")
            state = self._states.get(key)
            after = order(rollout, state, command, self._clock())
            if after == state:
                return after
            after = self._signed(after, state, source)
            try:
                why = await self._apply({key: after})
            except StoreNotLed as error:
                raise NotLeadingError("Another replica moves it.") from error
            if why and after.phase != "RolledBack":
                raise NotKeptError(f"It cannot be written down: {why}", fix="Try again when the store is back.")
            _log.info("%s: %s, by hand", key, command)
            return after


def _name(key: ObjectKey) -> str:
    return "/".join(key)


def _document(key: ObjectKey, state: RolloutState | None) -> bytes | None:
    return msgspec.json.encode(Kept(key, state)) if state is not None else None
