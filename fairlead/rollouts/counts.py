"""Replicas tell each other what proxies report to them, for the one that judges a Rollout: the loops around the rows.

A replica pins what it counted for Rollouts that another one moves (`policy/shared_counts.py`), in one row, at most
every `WRITE_SECONDS`, and only while there is such a Rollout; all read what the others pinned. Where that cannot be
done, who judges sees less than there is, which moves nothing by itself: too little is no verdict.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from discovery.board import Board, BoardAwayError
from policy.measures import Counts, Measures
from policy.shared_counts import Others, written

COLLECTION: Final = "rollout-counts"
"""What the board is called."""
WRITE_SECONDS: Final = 2.0
BEAT_SECONDS: Final = 60.0
"""A row is written anew after so long, though there is nothing new: its replica is there."""
_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 5.0

_log = logging.getLogger(__name__)


class SharedCounts:
    """One replica's part. `run` writes and `listen` reads, both without end; `clock` never goes back (seconds)."""

    def __init__(self, measures: Measures, board: Board, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._measures = measures
        self._board = board
        self._clock = clock
        self._me = uuid.uuid4().hex
        self._others = Others()
        self._beat = 0
        self._pinned: Counts | None = None
        self._wrote = float("-inf")
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """Pin what was counted, without end."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Pin what was counted, if there is something to say and it is time."""
        now, counts = self._clock(), self._measures.shared
        nothing = not counts.tallies and not counts.times
        if nothing and self._pinned is None:
            return
        wait = WRITE_SECONDS if counts != self._pinned else BEAT_SECONDS
        if now < self._wrote + wait and not nothing:
            return
        self._wrote, self._beat = now, self._beat + 1
        changes = {self._me: None if nothing else written(counts, beat=self._beat)}
        try:
            await self._board.write({**dict.fromkeys(self._gone(now)), **changes})
        except BoardAwayError as error:
            self._trouble("written", str(error))
            return
        self._trouble("written", "")
        self._pinned = None if nothing else counts

    def _gone(self, now: float) -> list[str]:
        return [name for name in self._others.gone(now) if name != self._me]

    async def listen(self) -> None:
        """Count what others pin, without end."""
        while True:
            try:
                rows = self._board.watch()
                async with aclosing(rows):  # type: ignore[type-var]  # an iterator to callers, a generator to us
                    async for found in rows:
                        self._trouble("read", "")
                        others = {name: content for name, content in found.items() if name != self._me}
                        for more in self._others.take(others, self._clock()):
                            self._measures.heard(more)
            except BoardAwayError as error:
                self._trouble("read", str(error))
            await asyncio.sleep(_RETRY_SECONDS * (0.5 + random.random()))  # noqa: S311 - replicas must not ask in step

    async def close(self) -> None:
        """Take down what was pinned, if that can be done at once."""
        if self._pinned is not None:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._board.write({self._me: None})
            except (BoardAwayError, TimeoutError):
                _log.info("what was counted for other replicas is left behind; they remove it in a while")

    def _trouble(self, what: str, words: str) -> None:
        """Say a trouble once, and that it is over."""
        before = self._troubles.get(what, "")
        if words and words != before:
            _log.warning(
                "requests that other replicas hear of do not count for now: rows cannot be %s: %s", what, words
            )
        elif before and not words:
            _log.info("rows of replicas can be %s again", what)
        self._troubles[what] = words
