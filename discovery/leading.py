"""What it means to lead, whatever it was agreed by: a Lease of Kubernetes, a session of Consul.

A leader believes itself only for a while after the *beginning* of the last renewal that came through, and that while
ends well before anybody else may take over. `Tenure` decides and is handed the time; `Teller` tells in time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

# Seconds; client-go's defaults for leader election.
LEASE_DURATION = 15
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0
_JITTER = 0.5  # of the retry period; replicas that wait for one leader's end must not all ask at once


class Tenure:
    """Whether one replica may act as leader. Times are of a clock that never goes back."""

    def __init__(self) -> None:
        self._since = -1.0  # beginning of the renewal that came through last; negative: none holds

    def renewed(self, began: float) -> None:
        """A renewal that was sent at `began` came through."""
        self._since = began

    def lost(self) -> None:
        """Another leads, or nobody."""
        self._since = -1.0

    def holds(self, now: float) -> bool:
        """Whether this replica may act as leader."""
        return self._since >= 0 and now < self._since + RENEW_DEADLINE


class Teller:
    """Calls `changed(leading)` at each change, also when a tenure runs out because a renewal hangs.

    `what` is the thing that is held, for the log; `holder` says who holds it.
    """

    def __init__(
        self, what: str, tenure: Tenure, *, holder: Callable[[], str], changed: Callable[[bool], None]
    ) -> None:
        self._what = what
        self._tenure = tenure
        self._holder = holder
        self._changed = changed
        self._told = False
        self._trouble = ""
        self._deadline: asyncio.TimerHandle | None = None

    def renewed(self) -> None:
        """A renewal came through: look again when it has run out."""
        self.stop()
        self._deadline = asyncio.get_running_loop().call_later(RENEW_DEADLINE, self.tell)

    def tell(self) -> None:
        """Look, and tell if it has changed."""
        leading = self._tenure.holds(time.monotonic())
        if leading != self._told:
            self._told = leading
            words = "this replica leads" if leading else f"{self._holder() or 'nobody'} holds it now"
            _log.info("%s: %s", self._what, words)
            self._changed(leading)

    def troubled(self, words: str, *, answers: str) -> None:
        """Say once that it cannot be had, and once that who decides of it `answers` again (`words` empty)."""
        if words and not self._trouble:
            _log.warning("%s cannot be had for now: %s", self._what, words)
        elif self._trouble and not words:
            _log.info("%s: %s answers again", self._what, answers)
        self._trouble = words

    def stop(self) -> None:
        """Forget the timer."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def keep_trying(attempt: Callable[[float], Awaitable[None]], tenure: Tenure, teller: Teller) -> None:
    """Try, hold, try again, without end; each attempt is told when it began."""
    while True:
        began = time.monotonic()
        await attempt(began)
        teller.tell()
        jitter = 0.0 if tenure.holds(time.monotonic()) else _JITTER * random.random()  # noqa: S311
        await asyncio.sleep(max(0.0, began + RETRY_PERIOD * (1 + jitter) - time.monotonic()))
