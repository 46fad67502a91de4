"""When news is handed to the streams: at once after quiet, with pauses under constant change.

Telling 200 proxies of something and hearing their answers takes some 45 ms of CPU. If every change were told on its
own, a hundred changes a second would keep the server busy for good; so when news came during a round, the next one
starts only after a pause in proportion, and carries everything that came in between. The pause bounds what rounds cost
(a quarter of a core) and how old a change can get (some five rounds). Clients that are slow to
answer belong to no round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# The pause after a round, in lengths of the round.
_PAUSE: Final = 3.5
# A round counts as over after this many seconds, so that one slow client delays nobody.
_LONGEST: Final = 0.2
# No pause is longer than this many seconds, however many proxies there are.
_LONGEST_PAUSE: Final = 0.12


class Pacer:
    """Calls `start_round() -> number of streams told` when it is time; these report back by `done`."""

    def __init__(self, start_round: Callable[[], int], clock: Callable[[], float]) -> None:
        self._start_round = start_round
        self._clock = clock
        self._wanted = False
        self._outstanding = 0
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.round = 0

    def request(self) -> None:
        """Ask for a round."""
        self._wanted = True
        if self._timer is not None:
            return
        if self._outstanding:
            self._at(self._started + _LONGEST)
        else:
            self._begin(self._clock())

    def done(self, number: int) -> None:
        """One stream has sent what round `number` had for it, and its client has answered."""
        if number != self.round or not self._outstanding:
            return
        self._outstanding -= 1
        if not self._outstanding:
            self._finish(self._clock())

    def stop(self) -> None:
        """Start no more rounds."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self, now: float) -> None:
        self._wanted = False
        self.round += 1
        self._started = now
        self._outstanding = self._start_round()
        if not self._outstanding:
            self._finish(self._clock())

    def _finish(self, now: float) -> None:
        self._outstanding = 0
        if self._wanted:
            self._at(now + min(_PAUSE * (now - self._started), _LONGEST_PAUSE))

    def _at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, when - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._outstanding:
            self._finish(self._clock())
        elif self._wanted:
            self._begin(self._clock())
