"""The gate before a new root signs, where replicas share an authority: what each sees of its proxies, put together.

The loop's half of `sds/replicas.py`: it posts what this replica sees and reads what the others do.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable

from sds.keepers import BookUnavailable
from sds.replicas import BEAT, Board, Others, Sight, seen
from sds.rotation import Gate


class ReplicaGate:
    """`settle` (seconds) is how long proxies take to come to another replica."""

    def __init__(self, board: Board, settle: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._monotonic = monotonic
        self.replica = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._others = Others(self.replica, settle)
        self._last: Sight | None = None
        self._posted_at = 0.0

    async def exchange(self, own: Gate, roots: bytes) -> None:
        """Tell what this replica sees of its proxies and of a bundle (PEM), and hear what the others see.

        Raises:
            BookUnavailable: the board is away; until it is back the gate is closed.
        """
        now = self._monotonic()
        before = self._last
        sight = seen(self.replica, before.beat + 1 if before is not None else 1, roots, own)
        try:
            if before is None or now - self._posted_at >= BEAT or _news(sight, before):
                await self._board.post(sight)
                self._last, self._posted_at = sight, now
            self._others.read(await self._board.read(), self._monotonic())
            if forgotten := self._others.forgotten(self._monotonic()):
                await self._board.remove(forgotten)
        except BookUnavailable:
            self._others.lost()
            raise

    def gate(self, own: Gate, roots: bytes) -> Gate:
        """The gate by what all see."""
        return self._others.gate(own, roots, self._monotonic())


def _news(now: Sight, before: Sight) -> bool:
    return (now.roots, now.known, now.waiting, now.more) != (before.roots, before.known, before.waiting, before.more)
