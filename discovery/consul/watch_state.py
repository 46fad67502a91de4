"""When a blocking query is asked and what its answer's index means, decided without I/O. Time and chance are handed in.

Consul's rules: an index that goes back, or is below 1, begins anew; one that has not changed means that the wait ended.
Beside them: a failure is tried again after a pause that grows, at random, and never sooner than `Retry-After` says.
"""

from __future__ import annotations

import msgspec

WAIT_SECONDS = 60.0
SHORTEST_WAIT_SECONDS = 1.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
NO_INDEX_PAUSE = 1.0
"""An agent that gives no index would answer at once, again and again."""


class Ask(msgspec.Struct, frozen=True):
    """Ask; with an index of 0 the answer comes at once."""

    index: int
    wait: float


class Pause(msgspec.Struct, frozen=True):
    """Do nothing for so many seconds."""

    seconds: float


class WatchState:
    """One blocking query. `index` is where it goes on."""

    def __init__(self) -> None:
        self.index = 0
        self._failures = 0
        self._not_before = 0.0

    def next_step(self, now: float, *, crowding: float = 1.0) -> Ask | Pause:
        """What to do. `crowding`: how many queries share one place; they wait for less long, so that each has turns."""
        if self._not_before > now:
            return Pause(self._not_before - now)
        return Ask(self.index, max(SHORTEST_WAIT_SECONDS, WAIT_SECONDS / max(1.0, crowding * crowding)))

    def answered(self, index: int, now: float) -> bool:
        """An answer came; whether it may say something new."""
        self._failures = 0
        if index < 1:
            self.index = 0
            self._not_before = now + NO_INDEX_PAUSE
            return True
        if index < self.index:
            self.index = 0  # what this answer says is read all the same: it is what Consul has now
            return True
        changed = index != self.index
        self.index = index
        return changed

    def failed(self, now: float, luck: float, *, retry_after: float = 0.0) -> None:
        """No answer came, or an error. The index is kept: what changed meanwhile is answered at once."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = now + max(retry_after, pause * (0.5 + luck / 2))
