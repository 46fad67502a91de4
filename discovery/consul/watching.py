"""One datacenter at work: its pulse, what its services' queries say, and what of it is kept for the next run.

The pulse is the query about the list of services, a short one. While it fails everything stands and is marked stale;
when it comes back all services are asked anew, for nobody knows what an open query has missed: a connection may be
open at one end only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, cast
from urllib.parse import quote

from discovery.consul import catalog, wire
from discovery.consul.catalog import CONSULS_OWN, NOTHING_ODD, Odd, Rows, Rule
from discovery.consul.datacenter import Datacenter
from discovery.consul.http import Answer, ConsulError, UnreachableError
from discovery.consul.polls import Polls
from discovery.consul.reading import FAILURES, Reading, decoded
from discovery.consul.trouble import Failure, Situation, Trouble, trouble
from discovery.consul.watch_state import LONGEST_PAUSE, Ask, Pause, WatchState
from discovery.consul.wire import Entry
from discovery.copies import CATALOG, Copies, name_of
from mesh.model import DiscoveredEndpointsKey, DiscoveredServiceKey
from mesh.tables import Change

PULSE_SECONDS = 10.0
LIMITED_PAUSE = 1.0
PULSE_SLACK_SECONDS = 5.0
STALE_SECONDS = 3.0
"""What could not be asked for so long is marked stale; a new leader is there sooner as a rule."""


class Query(NamedTuple):
    """A service of a datacenter; an empty datacenter is the agent's own."""

    datacenter: str
    service: str


class _Told(NamedTuple):
    """What an answer says of a service, and the instances it says it of."""

    rows: Mapping[str, Rows]
    odd: Odd
    entries: tuple[Entry, ...]


class Watching:
    """A datacenter; an empty `name` is the agent's own. `stir` is called when there may be something to `take`."""

    def __init__(
        self,
        name: str,
        rows: Datacenter,
        reading: Reading,
        polls: Polls[Query],
        stir: Callable[[], None],
        *,
        needed: Callable[[str], bool],
        copies: Copies | None,
        clock: Callable[[], float],
        luck: Callable[[], float],
    ) -> None:
        self.name = name
        self.rows = rows
        self.copies = copies
        self.began = clock()
        self._reading = reading
        self._polls = polls
        self._stir = stir
        self._needed = needed
        self._clock = clock
        self._luck = luck
        self._pulse = WatchState()
        self._trouble: Trouble | None = None
        self._troubles: dict[str, Trouble] = {}
        self._odd: dict[str, Odd] = {}
        self._whole = False
        self._digest = 0
        self._digests: dict[str, int] = {}  # of the last answer that counts, by service
        self._counts: dict[str, int] = {}  # of its instances
        self._earlier: dict[str, list[Change]] | None = None  # of an earlier run, by service, once it is asked for

    @property
    def failing(self) -> bool:
        """Whether the list of services cannot be had."""
        return self._pulse.failing_since is not None

    @property
    def troubled(self) -> bool:
        """Whether anything cannot be asked, or is not shown."""
        return self.failing or bool(self._troubles) or bool(self.rows.hidden)

    @property
    def complete(self) -> bool:
        """Whether every service was told, or will not be."""
        rows = self.rows
        return rows.listed_once and all(rows.knows(name) or self._refused(name) for name in rows.names)

    def _refused(self, name: str) -> bool:
        why = self._troubles.get(name)
        return why is not None and why.code in ("Forbidden", "Unreadable")

    def situation(self) -> Situation:
        """What is wrong."""
        services = tuple(sorted(self._troubles.items()))
        return Situation(
            self.rows.source,
            self._trouble,
            services,
            self.rows.rights_lost,
            self.rows.odd_names,
            odd_addresses=tuple(address for odd in self._odd.values() for address in odd.addresses),
            odd_meta=tuple(said for odd in self._odd.values() for said in odd.meta),
            hidden=self.rows.hidden_since(self._clock() - STALE_SECONDS),
        )

    def reorder(self, rule: Rule) -> None:
        """Take its instances in another way from now on."""
        if rule != self.rows.rule:
            self.rows.rule = rule
            self._ask_anew()  # for all there is: the same answer means something else now

    def sort_needs(self) -> None:
        """What is needed is not what it was."""
        for name in self.rows.names:
            self._put(name)

    def dismiss(self) -> None:
        """Let it go, with all its rows."""
        self.rows.clear()
        self._follow()

    # -- the list of services

    async def run(self) -> None:
        """Ask which services there are, without end."""
        while True:
            step = self._pulse.next_step(self._clock(), wait=PULSE_SECONDS)
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                # Past the cache, which tells nothing of the servers; that of Consul 1.15 keeps its first list for good.
                answer = await self._reading.ask(
                    "/v1/catalog/services", self.name, step, slack=PULSE_SLACK_SECONDS, cache=False
                )
                await self._listed(answer)
            except FAILURES as error:
                self._reading.count(error)
                self._trouble = trouble(error)
                self._pulse.failed(self._clock(), self._luck(), retry_after=_retry_after(error))
                self._stir()

    async def _listed(self, answer: Answer) -> None:
        pulse, rows = self._pulse, self.rows
        failed = self.failing
        same_index = not failed and answer.index == pulse.index > 0
        digest = hash(answer.body)
        if same_index and digest == self._digest:
            pulse.answered(answer.index, self._clock())
            return
        names = await decoded(wire.names, answer.body)
        self._digest = digest
        heard = pulse.answered(answer.index, self._clock(), size=len(answer.body))
        rights_lost, self._trouble = rows.rights_lost, None
        if not rows.listed_once and CONSULS_OWN not in names:
            self._restore_unseen(names)
        rows.listed(names, self._clock(), went_back=heard.went_back, same_index=same_index)
        self._follow()
        if failed or heard.went_back or rows.rights_lost != rights_lost:
            self._ask_anew()
        self._stir()

    def _follow(self) -> None:
        """One query for each service that there is, and no other."""
        names = self.rows.names
        for name in names:
            self._put(name)
        gone = [query for query in self._polls if query.datacenter == self.name and query.service not in names]
        for query in gone:
            self._polls.remove(query)
            self._troubles.pop(query.service, None)
            self._odd.pop(query.service, None)
            self._digests.pop(query.service, None)
            self._counts.pop(query.service, None)

    def _put(self, name: str) -> None:
        self._polls.put(Query(self.name, name), needed=self._needed(name))

    def _ask_anew(self) -> None:
        self._polls.anew([Query(self.name, name) for name in self.rows.names])

    # -- one service

    async def ask(self, name: str, state: WatchState, step: Ask) -> None:
        """Ask for the instances of a service."""
        try:
            answer = await self._reading.ask(f"/v1/health/service/{quote(name, safe='')}", self.name, step)
            same = state.failing_since is None and answer.index == state.index > 0
            digest = hash(answer.body)
            told = None if same and self._digests.get(name) == digest else await decoded(self._read, answer.body)
        except FAILURES as error:
            self._failed(name, state, error)
            return
        heard = state.answered(answer.index, self._clock(), size=len(answer.body))
        self._troubles.pop(name, None)
        if same and told is not None and 0 < len(told.entries) < self._counts.get(name, 0):
            told = None  # nothing changed in Consul, so this is what our token may see of it
        if told is None:
            return
        self._digests[name], self._counts[name] = digest, len(told.entries)
        nobody = not told.entries
        if nobody and not self.rows.knows(name):
            self._restore(name)
        hidden = name in self.rows.hidden
        there = partial(catalog.places, told.entries, self.rows.rule)
        self.rows.told(name, told.rows, self._clock(), went_back=heard.went_back, nobody=nobody, there=there)
        if hidden and not nobody:
            self._polls.anew([Query(self.name, other) for other in self.rows.hidden])
        self._odd.pop(name, None)
        if told.odd != NOTHING_ODD:
            self._odd[name] = told.odd
        self._stir()

    def _read(self, body: bytes) -> _Told:
        entries = wire.entries(body)
        return _Told(catalog.rows(entries, self.rows.rule), catalog.odd(entries, self.rows.rule), entries)

    def _failed(self, name: str, state: WatchState, error: Failure) -> None:
        why = trouble(error)
        # Agents before 1.9 close a connection too many without a word. One that is away does not answer the pulse.
        if isinstance(error, UnreachableError) and state.failures and not self.failing:
            why = Trouble("RateLimited", f"the agent closes connections: {error}")
        longest = LONGEST_PAUSE
        if why.code == "RateLimited":
            self._polls.turns.too_many(self._clock())
            longest = LIMITED_PAUSE  # how many are asked at once is less already
        self._reading.failures[why.code] += 1
        state.failed(self._clock(), self._luck(), retry_after=_retry_after(error), longest=longest)
        if self._troubles.get(name) != why:
            self._troubles[name] = why
            self._stir()

    # -- what that changes

    def take(self) -> tuple[Change, ...]:
        """What changed in the model since the last call."""
        now = self._clock()
        self._mark_stale(now)
        if self.rows.sweep(now):
            self._follow()
        taken = self.rows.take()
        if self.copies is not None:
            self.copies.note(taken)
            if not self._whole and self.complete:
                self._whole = True
                self.copies.whole(CATALOG, [name_of(change) for change in self.rows.all()])
                self.copies.forget()
                self._earlier = {}
        return taken

    def restore(self) -> None:
        """Let the copies of an earlier run stand in until Consul says something."""
        if self.copies is not None and not self.rows.listed_once:
            self.rows.restore(self.copies.discovered())

    def _restore(self, name: str) -> None:
        """Let the copy of one service stand in, which is listed and of which our token sees nothing."""
        if self._earlier is None:
            self._earlier = {}
            for copy in self.copies.discovered() if self.copies is not None else ():
                key = copy.key
                of = key.name if isinstance(key, DiscoveredServiceKey) else cast("DiscoveredEndpointsKey", key).service
                self._earlier.setdefault(of, []).append(copy)
        self.rows.restore(self._earlier.get(name, ()))

    def _restore_unseen(self, names: frozenset[str]) -> None:
        """Let all copies stand in where the first list shows that our token sees less than it did in an earlier run."""
        if self.copies is None or not self.copies.has(CATALOG):
            return
        copies = self.copies.discovered()
        saw_all = any(isinstance(copy.key, DiscoveredServiceKey) and copy.key.name == CONSULS_OWN for copy in copies)
        if saw_all or (copies and not names):
            self.rows.restore_unseen(copies)

    def _mark_stale(self, now: float) -> None:
        since = self._pulse.failing_since
        if since is not None and now - since >= STALE_SECONDS:
            self.rows.mark_all_stale()
            return
        for name in self.rows.hidden_since(now - STALE_SECONDS):
            self.rows.mark_stale(name)
        for name in self._troubles:
            query = Query(self.name, name)
            since = self._polls.turns.state(query).failing_since if query in self._polls.turns else None
            if since is not None and now - since >= STALE_SECONDS:
                self.rows.mark_stale(name)


def _retry_after(error: Failure) -> float:
    return error.retry_after if isinstance(error, ConsulError) else 0.0
