"""When each object's status is written: at once, after a short quiet period, or later because something went wrong.

Pure: handed the time, in seconds of a clock that never goes back. It knows keys and moments, not what is written.

A Gateway's status changes with every route that comes, and one write for the last of many changes says as much as a
write for each. So what only changes counts and words waits for `QUIET` without another change, `LONGEST` at most; and
the longer it goes on changing, the longer it waits between writes, up to the same. What people and scripts wait for, a
first verdict or another one, goes out at once, though not twice within `QUIET`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

QUIET = 0.1
LONGEST = 1.0
FIRST_PAUSE = 0.5
LAST_PAUSE = 60.0
FORGIVEN_AFTER = 600.0  # a key that needed no write for that long has no history of trouble


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    doublings = min(max(failures, 1) - 1, 16)
    return float(min(LAST_PAUSE, FIRST_PAUSE * 2**doublings))


class Budget:
    """How many writes may begin: `rate` a second, `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._left = float(burst)
        self._at = 0.0

    def delay(self, now: float) -> float:
        """Seconds until one more may begin; 0 for at once."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) / self._rate

    def spend(self) -> None:
        """One has begun."""
        self._left -= 1


class _Item:
    """What is known of one key: since when it waits (None: it does not) and until when, and how its writes went."""

    __slots__ = ("busy", "due", "failures", "not_before", "pace", "since", "urgent", "written")

    def __init__(self) -> None:
        self.since: float | None = None
        self.due = 0.0
        self.urgent = False
        self.busy = False
        self.not_before = float("-inf")
        self.written = float("-inf")
        self.pace = QUIET  # between two writes of what can wait
        self.failures = 0


class Pacing(Generic[K]):
    """The keys that wait to be written. A key that was taken comes again only after `done` or `failed`.

    `rank` says which of the keys that are due goes first: the one with the lesser.
    """

    def __init__(self, rank: Callable[[K], int] = lambda _: 0) -> None:
        self._rank = rank
        self._items: dict[K, _Item] = {}
        self._later: list[tuple[float, int, K]] = []
        self._now: list[tuple[int, float, int, K]] = []
        self._count = 0

    def __len__(self) -> int:
        """How many keys wait."""
        return sum(item.since is not None for item in self._items.values())

    def add(self, key: K, now: float, *, urgent: bool) -> None:
        """Something changed for a key. `urgent`: it has another verdict; it then does not wait out earlier failures."""
        item = self._items.setdefault(key, _Item())
        if item.since is None:
            item.since = now
        if urgent:
            item.urgent = True
            item.not_before = float("-inf")
            item.due = max(now, item.written + QUIET)
        elif not item.urgent:
            quiet = min(now + QUIET, item.since + LONGEST)
            item.due = max(quiet, item.written + item.pace, item.not_before)
        self._push(key, item)

    def take(self, now: float) -> K | None:
        """The key to write now, or None."""
        while self._later and self._later[0][0] <= now:
            due, number, key = heapq.heappop(self._later)
            if self._holds(key, due):
                heapq.heappush(self._now, (self._rank(key), due, number, key))
        while self._now:
            _, due, _, key = heapq.heappop(self._now)
            if self._holds(key, due):
                item = self._items[key]
                item.since, item.urgent, item.busy = None, False, True
                return key
        return None

    def next_due(self) -> float | None:
        """When the next key is due (perhaps past), None where none waits."""
        while self._now:
            if self._holds(self._now[0][3], self._now[0][1]):
                return self._now[0][1]
            heapq.heappop(self._now)
        while self._later:
            if self._holds(self._later[0][2], self._later[0][0]):
                return self._later[0][0]
            heapq.heappop(self._later)
        return None

    def done(self, key: K, now: float, *, wrote: bool = False, again: bool = False) -> None:
        """A key that was taken has been written, or needed no write (`wrote` False).

        `again`: the same was written before, and somebody else wrote over it. Such a quarrel gets slower and slower.
        """
        item = self._items.get(key)
        if item is None:
            return
        item.busy = False
        if wrote:
            if not again or now - item.written > FORGIVEN_AFTER:
                item.failures, item.not_before = 0, float("-inf")
            if again:
                item.failures += 1
                item.not_before = now + pause(item.failures)
            item.pace = min(2 * item.pace, LONGEST) if now - item.written < 2 * LONGEST else QUIET
            item.written = now
        if item.since is not None:
            item.due = max(item.due, item.not_before, item.written + QUIET)
            self._push(key, item)

    def failed(self, key: K, now: float, *, after: float | None = None) -> None:
        """A key that was taken could not be written; it comes again `after` seconds (None: longer each time)."""
        item = self._items.get(key)
        if item is None:
            return
        item.busy = False
        item.failures += 1
        item.not_before = now + (pause(item.failures) if after is None else after)
        if item.since is None:
            item.since = now
        if not item.urgent:
            item.due = item.not_before
        self._push(key, item)

    def forget(self, key: K) -> None:
        """There is nothing to be written for a key any more."""
        self._items.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._items.clear()
        self._later.clear()
        self._now.clear()

    def _push(self, key: K, item: _Item) -> None:
        if not item.busy:
            self._count += 1
            heapq.heappush(self._later, (item.due, self._count, key))

    def _holds(self, key: K, due: float) -> bool:
        """Whether an entry of a heap is still what its key waits for."""
        item = self._items.get(key)
        return item is not None and item.since is not None and not item.busy and item.due == due
