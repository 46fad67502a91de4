"""What replicas with one authority tell each other before a new root signs: who of their proxies lacks it.

Each has a `Sight` of its own and knows the others' (`Others`). Every replica that is there must have published the very
bundle, know its proxies, and wait for none of them. Pure, and handed the time; clocks of different machines are never
compared. A replica that is gone is waited for until its proxies have had the time to come to another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from sds.rotation import Gate

BEAT: Final = 5.0
"""So often, in seconds, a replica says that it is there, and whenever something changed."""
GONE: Final = 20.0
"""One that has said nothing for so long is gone."""
FORGOTTEN: Final = 3_600.0
"""What it left behind is removed after this."""
_MOST_NAMES: Final = 100


class Sight(msgspec.Struct, frozen=True):
    """What a replica sees: `roots` is the `digest` of the bundle that it has published, `beat` grows with each word."""

    replica: str
    beat: int
    roots: str
    known: bool
    waiting: tuple[str, ...] = ()
    more: int = 0
    """How many are waited for beside those that are named."""


class Board(Protocol):
    """Where replicas put their sights. Raises `sds.keepers.BookUnavailable`."""

    async def post(self, sight: Sight) -> None:
        """Put one in the place of the replica's last."""
        ...

    async def read(self) -> tuple[Sight, ...]:
        """All of them; what cannot be read is left out."""
        ...

    async def remove(self, replicas: Iterable[str]) -> None:
        """Take those of replicas away that are long gone."""
        ...


def digest(roots: bytes) -> str:
    """Which bundle (PEM) it is."""
    return hashlib.sha256(roots).hexdigest()[:16]


def seen(replica: str, beat: int, roots: bytes, gate: Gate) -> Sight:
    """The sight of a replica whose own gate is this."""
    named = gate.waiting[:_MOST_NAMES]
    return Sight(replica, beat, digest(roots), gate.known, named, len(gate.waiting) - len(named))


class Others:
    """The other replicas as one of them knows them. `settle` (seconds) is how long proxies take to come elsewhere."""

    def __init__(self, replica: str, settle: float) -> None:
        self._replica = replica
        self._settle = settle
        self._heard: dict[str, tuple[Sight, float]] = {}
        self._read = False

    def read(self, sights: Iterable[Sight], now: float) -> None:
        """The board says this now (a monotonic clock)."""
        self._read = True
        found = {sight.replica: sight for sight in sights if sight.replica != self._replica}
        for replica, sight in found.items():
            before = self._heard.get(replica)
            if before is None or before[0].beat != sight.beat:
                self._heard[replica] = (sight, now)
        self._heard = {replica: heard for replica, heard in self._heard.items() if replica in found}

    def lost(self) -> None:
        """The board cannot be read: nobody knows what the others see."""
        self._read = False

    def gate(self, own: Gate, roots: bytes, now: float) -> Gate:
        """The gate for a bundle, by what all replicas see."""
        waiting, known = list(own.waiting), own.known and self._read
        for sight, at in self._heard.values():
            age = now - at
            if age >= GONE + self._settle:
                continue
            if age < GONE:
                known = known and sight.known and sight.roots == digest(roots)
                waiting += [*sight.waiting, *([f"{sight.more} more of {sight.replica}"] if sight.more else [])]
            elif sight.waiting or not sight.known or sight.roots != digest(roots):
                known = False  # its proxies are on their way
        return Gate(tuple(sorted(set(waiting))), known)

    def forgotten(self, now: float) -> list[str]:
        """Whose sights may be removed."""
        return sorted(replica for replica, (_, at) in self._heard.items() if now - at >= FORGOTTEN)
