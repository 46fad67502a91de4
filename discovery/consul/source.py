"""Consul as a source: the datacenters that were asked for, each service in a blocking query of its own.

The first batch has every service, so that a route which comes later finds what it names. Where the agent is away at
the start, the copies of an earlier run stand in; without any the source has not synced, unless it is optional. Other
datacenters than the agent's own never keep the server from being ready for long. Where all are asked for, which there
were is kept too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from discovery.consul import wire
from discovery.consul.catalog import Rule
from discovery.consul.datacenter import Datacenter
from discovery.consul.http import Consul, ConsulError
from discovery.consul.polls import Polls
from discovery.consul.reading import FAILURES, Reading, Reads
from discovery.consul.trouble import Situation, Trouble, crowded, told, trouble
from discovery.consul.watch_state import Ask, WatchState
from discovery.consul.watching import Query, Watching
from discovery.copies import CATALOG, Copies
from mesh.problems import Problem
from mesh.tables import Change

SOURCE = "consul"
ALL = "all"
GIVE_UP_SECONDS = 3.0
"""An agent that has failed for so long at the start is away: copies stand in."""
HANGING_SECONDS = 10.0
"""So long the list of services may take without a failure."""
ANSWERS_SECONDS = 30.0
"""So long the services themselves may take."""
LOOK_SECONDS = 60.0
"""Between two looks at which datacenters there are."""
_TICK_SECONDS = 0.25
_TROUBLED_SECONDS = 1.0
_FORBIDDEN = 403


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be read, and how. `datacenters`: others than the agent's own, in order, or `all`.

    `namespace` is that of services which say nothing; `unhealthy` keeps critical instances, `exclude` leaves services
    out (see `catalog`). `polls` is how many queries may be open at once; `reads` and `max_stale` see `Reading`.
    `optional`: the program may start though nothing was ever seen.
    """

    datacenters: tuple[str, ...] = ()
    namespace: str = "default"
    unhealthy: bool = False
    exclude: tuple[str, ...] = ()
    polls: int = 150
    reads: Reads = "default"
    max_stale: float = 30.0
    optional: bool = False


class ConsulSource:
    """A `discovery.source.Source`. `copies` makes what keeps the rows of a source for the next run; None: nothing."""

    name = SOURCE

    def __init__(
        self,
        consul: Consul,
        plan: Plan,
        *,
        copies: Callable[[str], Copies] | None = None,
        clock: Callable[[], float] = time.monotonic,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._plan = plan
        self._make_copies = copies
        self._clock = clock
        self._luck = luck
        self._reading = Reading(consul, reads=plan.reads, max_stale=plan.max_stale)
        self._polls: Polls[Query] = Polls(plan.polls, self._ask, self._fail, clock=clock)
        self._places: dict[str, Watching] = {}
        self._needed: frozenset[str] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self._gone: tuple[Change, ...] = ()
        self._problems: tuple[Problem, ...] = ()
        self._looking: Trouble | None = None
        self._looked = False

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong at present; the same tuple while nothing changes."""
        found = told(place.situation() for place in self._places.values())
        turns = self._polls.turns
        if turns.crowded:
            found += (crowded(SOURCE, services=len(turns), places=turns.limit, seconds=turns.cycle),)
        if self._looking is not None:
            found += told([Situation(f"{SOURCE} datacenters", self._looking)])
        if found != self._problems:
            self._problems = found
        return self._problems

    @property
    def copies(self) -> Sequence[Copies]:
        """What keeps the rows for the next run."""
        return [place.copies for place in self._places.values() if place.copies is not None]

    def numbers(self) -> Mapping[str, Mapping[str, float]]:
        """For the metrics page: services and stale ones by source, how the queries stand, and failures by why."""
        places, turns = self._places.values(), self._polls.turns
        return {
            "services": {place.rows.source: place.rows.services for place in places},
            "stale": {place.rows.source: place.rows.stale for place in places},
            "polls": {"open": turns.open, "allowed": turns.limit, "wanted": len(turns)},
            "cycle": {"": turns.cycle},
            "failures": self._reading.failures,
        }

    def want(self, services: frozenset[str] | None) -> None:
        """These services are needed, None: all. They come first where not all queries can be open."""
        if services != self._needed:
            self._needed = services
            for place in self._places.values():
                place.sort_needs()

    async def batches(self) -> AsyncIterator[tuple[Change, ...]]:
        """Yield everything first, then what changes, until cancelled."""
        try:
            await self._add("", 0)
            for at, name in enumerate((name for name in self._plan.datacenters if name != ALL), 1):
                await self._add(name, at)
            await self._add_all(self._earlier())
            self._start("turns", self._polls.run())
            if self._plan.datacenters:
                self._start("datacenters", self._look())
            yield await self._first()
            problems = self.problems
            while True:
                await self._stirred(self._next_look())
                batch = self._collect()
                if batch or self.problems is not problems:
                    yield batch
                    problems = self.problems
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- datacenters --------------------------------------------------------------------------------------------

    def _rule(self, name: str, priority: int) -> Rule:
        plan = self._plan
        return Rule(
            plan.namespace, priority=priority, remote=bool(name), unhealthy=plan.unhealthy, exclude=plan.exclude
        )

    async def _add(self, name: str, priority: int) -> None:
        source = f"{SOURCE}:{name}" if name else SOURCE
        copies = self._make_copies(source) if self._make_copies is not None else None
        if copies is not None:
            await copies.load()
        place = self._places[name] = Watching(
            name,
            Datacenter(source, self._rule(name, priority)),
            self._reading,
            self._polls,
            self._news.set,
            needed=self._is_needed,
            copies=copies,
            clock=self._clock,
            luck=self._luck,
        )
        self._start(source, place.run())
        if copies is not None:
            self._start(f"{source} copies", copies.run())

    def _is_needed(self, service: str) -> bool:
        return self._needed is None or service in self._needed

    async def _look(self) -> None:
        """Find out which datacenters there are and which is the agent's own, again and again."""
        state = WatchState()
        while True:
            try:
                await self._arrange(await self._own_name())
                state.answered(1, self._clock())
                self._looking = None
                pause = LOOK_SECONDS
            except FAILURES as error:
                self._reading.count(error)
                self._looking = trouble(error)
                state.failed(self._clock(), self._luck())
                pause = state.not_before - self._clock()
            self._looked = True
            self._news.set()
            await asyncio.sleep(pause)

    async def _own_name(self) -> str:
        try:
            return wire.own_datacenter(await self._reading.get("/v1/agent/self"))
        except ConsulError as error:
            if error.status != _FORBIDDEN:
                raise
        # Without the right to ask the agent about itself: the nearest is its own.
        return next(iter(wire.datacenters(await self._reading.get("/v1/catalog/datacenters"))), "")

    async def _arrange(self, own: str) -> None:
        if own and own in self._places:  # the settings name it among the others
            self._drop(own)
        if ALL not in self._plan.datacenters:
            return
        known = {*wire.datacenters(await self._reading.get("/v1/catalog/datacenters"))} - {own, ""}
        if (copies := self._places[""].copies) is not None:
            copies.list_others(sorted(known))
        await self._add_all(known, own)

    def _earlier(self) -> tuple[str, ...]:
        """The datacenters that an earlier run found, where all are asked for: they may be away now."""
        copies = self._places[""].copies
        return copies.listed() if ALL in self._plan.datacenters and copies is not None else ()

    async def _add_all(self, known: Iterable[str], own: str = "") -> None:
        listed = [name for name in self._plan.datacenters if name != ALL]
        # By name: the order by distance, which Consul gives, is another one at each server.
        order = [*listed, *sorted({*known, *self._places} - {own, "", *listed})]
        for priority, name in enumerate(order, 1):
            if name in self._places:
                self._places[name].reorder(self._rule(name, priority))
            elif name != own:
                await self._add(name, priority)

    def _drop(self, name: str) -> None:
        place = self._places.pop(name)
        self._tasks.pop(place.rows.source).cancel()
        place.dismiss()
        self._gone += place.rows.take()

    async def _ask(self, query: Query, state: WatchState, step: Ask) -> None:
        await self._places[query.datacenter].ask(query.service, state, step)

    # -- batches ------------------------------------------------------------------------------------------------

    async def _first(self) -> tuple[Change, ...]:
        began = self._clock()
        while not all(self._settled(place) for place in self._places.values()) or (
            ALL in self._plan.datacenters and not self._looked and self._clock() - began < HANGING_SECONDS
        ):
            await self._stirred(_TICK_SECONDS)
        for place in self._places.values():
            place.restore()
        return self._collect()

    def _settled(self, place: Watching) -> bool:
        """Whether the first batch need not wait for a datacenter: all is told, or cannot be and we do without."""
        waited = self._clock() - place.began
        if place.complete:
            return True
        if place.rows.listed_once and not place.failing:
            return waited >= ANSWERS_SECONDS
        away = waited >= (GIVE_UP_SECONDS if place.failing else HANGING_SECONDS)
        copied = place.copies is not None and place.copies.has(CATALOG)
        return away and (bool(place.name) or self._plan.optional or copied)

    def _collect(self) -> tuple[Change, ...]:
        changes, self._gone = self._gone, ()
        for place in self._places.values():
            changes += place.take()
        return changes

    def _next_look(self) -> float | None:
        """Seconds until something is to be done though nothing happens."""
        places = self._places.values()
        doubted = min((place.rows.doubted for place in places), default=math.inf)
        troubled = _TROUBLED_SECONDS if any(place.troubled for place in places) else math.inf
        seconds = min(max(0.0, doubted - self._clock()), troubled)
        return seconds if seconds < math.inf else None

    async def _stirred(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._news.set()

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"{SOURCE} {name}")
        task.add_done_callback(self._ended)
        self._tasks[name] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
