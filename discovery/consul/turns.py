"""Which of many blocking queries are open while an agent takes only so many: decided without I/O.

As long as all fit, each is open all the time. When they do not, those that are needed come first and the others share
what is left, an eighth at the least; within each of the two whoever waited longest is next, and waits are so short that
each has its turn soon and that all of them together ask no more than `MOST_PER_SECOND` times a second.

An agent that says "too many" (HTTP 429) is obeyed: fewer are open from then on, so that others find room too; after
the longest wait an eighth more every `RELAX_SECONDS`. An agent counts a query that was given up until its wait has
ended, so none is given up to make room after that, and a server that starts anew may find no room for so long: waits
are no longer than keeps the idle down to `IDLE_PER_SECOND` questions. At the start they are short, until it is known
how many the agent takes.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from discovery.consul.watch_state import WAIT_SECONDS, Ask, WatchState

MOST_PER_SECOND = 75.0
SHORTEST_WAIT_SECONDS = 1.0
IDLE_PER_SECOND = 5.0
IDLE_WAIT_SECONDS = 20.0
"""The shortest wait while all fit; with many services it is longer, and `WAIT_SECONDS` at the most."""
RELAX_SECONDS = 5.0
START_SECONDS = 10.0
START_WAIT_SECONDS = 3.0
CUT_SECONDS = 1.0
"""In so much time at most a quarter less is open."""
_SHARE = 8  # one in so many places is for queries that nobody needs, while there are any
_FEWEST = 2

K = TypeVar("K")


class _Turn(Generic[K]):
    __slots__ = ("key", "needed", "opened", "queued", "state", "wait")

    def __init__(self, key: K, *, needed: bool) -> None:
        self.key = key
        self.needed = needed
        self.state = WatchState()
        self.opened: float | None = None
        self.wait = WAIT_SECONDS
        self.queued = False


class Turns(Generic[K]):
    """Queries by key, of which at most `most` are open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = most
        self._floor = _FEWEST
        self._cut_at = -math.inf
        self._relaxed_at = 0.0
        self._short_until: float | None = None
        self._now = 0.0
        self._turns: dict[K, _Turn[K]] = {}
        self._open: tuple[dict[K, _Turn[K]], dict[K, _Turn[K]]] = ({}, {})  # others, needed; in the order of opening
        self._ready: tuple[deque[_Turn[K]], deque[_Turn[K]]] = (deque(), deque())
        self._paused: list[tuple[float, int, _Turn[K]]] = []
        self._count = 0
        self._needed = 0

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, key: K) -> bool:
        return key in self._turns

    @property
    def limit(self) -> int:
        """How many may be open now."""
        return self._limit

    @property
    def open(self) -> int:
        """How many are."""
        return len(self._open[0]) + len(self._open[1])

    @property
    def crowded(self) -> bool:
        """Whether some must wait for others."""
        return len(self._turns) > self.limit

    @property
    def cycle(self) -> float:
        """After how many seconds at the latest each that is needed is asked again; 0 while none waits for others."""
        places = self._places(needed=True)
        return self._wait(needed=True) * self._needed / places if self._needed > places else 0.0

    def state(self, key: K) -> WatchState:
        """The state of a query that is there."""
        return self._turns[key].state

    def put(self, key: K, *, needed: bool) -> None:
        """Have a query, or have it needed or not."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn(key, needed=needed)
            self._needed += needed
            self._queue(turn)
        elif turn.needed != needed:
            self._needed += needed - turn.needed
            opened = self._open[turn.needed].pop(key, None)
            turn.needed = needed
            if opened is not None:
                self._open[needed][key] = turn
            elif turn.queued:
                self._ready[needed].append(turn)  # where it stood before it is passed over

    def remove(self, key: K) -> None:
        """Have a query no more; whoever asks it must stop."""
        turn = self._turns.pop(key, None)
        if turn is not None:
            self._needed -= turn.needed
            self._open[turn.needed].pop(key, None)

    def begin(self, now: float) -> list[tuple[K, Ask]]:
        """What is to be asked now; `end` tells when it was."""
        self._now = now
        if self._short_until is None:
            self._short_until = now + START_SECONDS
        self._relax(now)
        while self._paused and self._paused[0][0] <= now:
            self._queue(heapq.heappop(self._paused)[2])
        begun: list[tuple[K, Ask]] = []
        for needed in (True, False):
            while self.open < self.limit and len(self._open[needed]) < self._places(needed=needed):
                turn = self._next(needed=needed)
                if turn is None:
                    break
                step = turn.state.next_step(now, wait=self._wait(needed=needed))
                if not isinstance(step, Ask):
                    self._pause(turn)
                    continue
                turn.opened, turn.wait = now, step.wait
                self._open[needed][turn.key] = turn
                begun.append((turn.key, step))
        return begun

    def end(self, key: K) -> None:
        """A query was answered, failed or was given up; its state knows."""
        turn = self._turns.get(key)
        if turn is not None and turn.opened is not None:
            self._open[turn.needed].pop(key, None)
            turn.opened = None
            self._pause(turn)

    def overdue(self, now: float) -> list[K]:
        """Open queries that others wait for longer than is fair: they were opened when there was room."""
        found: list[K] = []
        self._now = now
        if now - self._cut_at < self._longest:
            return found
        for needed in (True, False):
            wait = self._wait(needed=needed)
            opened = self._open[needed]
            surplus = min(len(opened) - self._places(needed=needed), len(self._ready[not needed]))
            crowd = min(len(self._ready[needed]), len(opened)) if wait < self._longest else 0
            lacking = len(found) + min(max(surplus, crowd), max(1, self.limit // 4))
            for key, turn in opened.items():
                if len(found) >= lacking:
                    break
                old = turn.opened is not None and now - turn.opened >= wait
                if surplus > 0 or (turn.wait > wait and old):
                    found.append(key)
        return found

    def due(self, now: float) -> float | None:
        """When `begin` or `overdue` may have something, if nothing else happens; None: never."""
        times = [self._paused[0][0]] if self._paused else []
        if self._ready[0] or self._ready[1]:
            times.append(now + SHORTEST_WAIT_SECONDS / 2)
        if self._limit < self._most:
            times.append(max(self._relaxed_at + RELAX_SECONDS, self._cut_at + self._longest))
        return min(times, default=None)

    def anew(self, keys: Iterable[K]) -> None:
        """Ask these at once and for all there is."""
        for key in keys:
            turn = self._turns[key]
            turn.state.anew()
            if turn.opened is None:
                self._queue(turn)

    def too_many(self, now: float) -> None:
        """The agent takes no more than what is open now; but it may still count what we have just let go of."""
        self._limit = min(self._limit, max(_FEWEST, len(self._turns)))
        if now - self._cut_at >= CUT_SECONDS:
            self._cut_at = now
            self._floor = max(_FEWEST, self._limit * 3 // 4)
        self._limit = max(self._floor, (min(self._limit, self.open) - 1) * 7 // 8)
        self._relaxed_at = now

    def _relax(self, now: float) -> None:
        if self._limit < self._most and now >= max(self._relaxed_at + RELAX_SECONDS, self._cut_at + self._longest):
            self._limit = min(self._most, self._limit + max(1, self._limit // 8))
            self._relaxed_at = now

    @property
    def _longest(self) -> float:
        """How long a query waits for news while all fit."""
        return min(WAIT_SECONDS, max(IDLE_WAIT_SECONDS, len(self._turns) / IDLE_PER_SECOND))

    def _places(self, *, needed: bool) -> int:
        others = len(self._turns) - self._needed
        share = max(1, self.limit // _SHARE)
        kept = min(others, max(share, self.limit - self._needed))
        return max(1, self.limit - min(others, share)) if needed else kept

    def _wait(self, *, needed: bool) -> float:
        places = self._places(needed=needed)
        count = self._needed if needed else len(self._turns) - self._needed
        if count <= places:
            starting = self._short_until is None or self._now < self._short_until
            return START_WAIT_SECONDS if starting else self._longest
        return max(SHORTEST_WAIT_SECONDS, self.limit / MOST_PER_SECOND)

    def _next(self, *, needed: bool) -> _Turn[K] | None:
        ready = self._ready[needed]
        while ready:
            turn = ready.popleft()
            if turn.queued and turn.needed == needed and self._turns.get(turn.key) is turn:
                turn.queued = False
                return turn
        return None

    def _queue(self, turn: _Turn[K]) -> None:
        if not turn.queued and turn.opened is None and self._turns.get(turn.key) is turn:
            turn.queued = True
            self._ready[turn.needed].append(turn)

    def _pause(self, turn: _Turn[K]) -> None:
        self._count += 1
        heapq.heappush(self._paused, (turn.state.not_before, self._count, turn))
