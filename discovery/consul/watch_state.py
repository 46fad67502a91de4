"""When a blocking query is asked and what its answer's index means, decided without I/O. Time and chance are handed in.

Consul's rules: an index that goes back, or is below 1, begins anew; one that has not changed means that the wait ended.
An agent that says so long before the wait has ended would say it again and again, and is given a pause.
Beside them: a failure is tried again after a pause that grows, at random, and never sooner than `Retry-After` says; and
after a failure the question is one that is answered at once, for one that waits does not tell that all is well again.
"""

from __future__ import annotations

import msgspec

WAIT_SECONDS = 60.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
NO_INDEX_PAUSE = 1.0
"""An agent that gives no index would answer at once, again and again."""
NO_NEWS_PAUSE = 1.0
"""An agent whose cache is stuck says at once that nothing is new (seen with 1.15 and the cached list of services)."""
BYTES_PER_SECOND = 10_000_000.0
"""How fast one query takes answers in: a large service that changes all the time must not fill a core."""


class Ask(msgspec.Struct, frozen=True):
    """Ask; with an index of 0 the answer comes at once."""

    index: int
    wait: float


class Pause(msgspec.Struct, frozen=True):
    """Do nothing for so many seconds."""

    seconds: float


class Heard(msgspec.Struct, frozen=True):
    """What an answer's index means: whether it may say something new, and whether Consul's index went back."""

    news: bool
    went_back: bool = False


class WatchState:
    """One blocking query. `index` is where it goes on; `failing_since` is set while it gets no good answer."""

    __slots__ = ("_failures", "_not_before", "_patient_until", "failing_since", "index")

    def __init__(self) -> None:
        self.index = 0
        self.failing_since: float | None = None
        self._failures = 0
        self._not_before = 0.0
        self._patient_until = 0.0  # an answer before then has news, unless something is wrong with the agent

    @property
    def failures(self) -> int:
        """How many times in a row there was no good answer."""
        return self._failures

    @property
    def not_before(self) -> float:
        """When it may be asked again."""
        return self._not_before

    def next_step(self, now: float, *, wait: float = WAIT_SECONDS) -> Ask | Pause:
        """What to do; `wait` is how long an answer may take that says nothing new."""
        if self._not_before > now:
            return Pause(self._not_before - now)
        index = 0 if self.failing_since is not None else self.index
        self._patient_until = now + wait / 2 if index else 0.0
        return Ask(index, wait)

    def answered(self, index: int, now: float, *, size: int = 0) -> Heard:
        """An answer of so many bytes came."""
        failed, self.failing_since, self._failures = self.failing_since is not None, None, 0
        before, self.index = self.index, index
        if index < 1:
            self.index = 0
            self._not_before = now + NO_INDEX_PAUSE
            return Heard(news=True, went_back=before > 0)
        if index != before:
            self._not_before = now + size / BYTES_PER_SECOND
        else:
            self._not_before = now + NO_NEWS_PAUSE if now < self._patient_until else now
        if index < before:
            self.index = 0  # what this answer says is read all the same: it is what Consul has now
            return Heard(news=True, went_back=True)
        return Heard(news=failed or index != before)

    def failed(self, now: float, luck: float, *, retry_after: float = 0.0, longest: float = LONGEST_PAUSE) -> None:
        """No answer came, or an error. The index is kept, to tell then whether it went back."""
        pause = min(longest, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        if self.failing_since is None:
            self.failing_since = now
        self._not_before = now + max(retry_after, pause * (0.5 + luck / 2))

    def anew(self) -> None:
        """Ask at once, and for all there is: it is not known what was missed."""
        self._not_before = 0.0
        self.index = 0
