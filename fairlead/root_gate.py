"""Which proxies do not trust a new root yet: the gate of `sds.rotation`, kept by what streams and agents say.

Pure; handed the time. Four things are no consent: that the bundle with the root has not gone out yet, or not by another
way that carries it too (`wait_for`), that the server has just started and its proxies are still coming back, and that a
proxy which lacked the root is away for a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sds.rotation import Gate


class Seen(NamedTuple):
    """What a witness sees, as names of nodes: who is connected, who of them takes its roots from us (`holding`), and
    who of those has not acknowledged the present bundle.
    """

    lacking: frozenset[str]
    holding: frozenset[str]
    connected: frozenset[str]


Witness = Callable[[], Seen]


class RootGate:
    """`settle` is in seconds, `now` of a monotonic clock."""

    def __init__(self, settle: float, now: float) -> None:
        self._settle = settle
        self._ready_at = now + settle
        self._witnesses: list[Witness] = []
        self._ways: list[Callable[[bytes], bool]] = []
        self._published = b""
        # Who lacked the bundle when last seen, and since when they are away.
        self._away: dict[str, float] = {}
        self._lacked: frozenset[str] = frozenset()

    def restart(self, now: float) -> None:
        """Proxies may connect from now on."""
        self._ready_at = now + self._settle

    def ask_too(self, witness: Witness) -> None:
        """Ask somebody else as well."""
        self._witnesses.append(witness)

    def wait_for(self, spread: Callable[[bytes], bool]) -> None:
        """Know nothing as long as `spread` says of a bundle (PEM) that another way has not carried it everywhere."""
        self._ways.append(spread)

    def published(self, roots: bytes) -> None:
        """The bundle that streams are told of from now on."""
        self._published = roots

    def look(self, roots: bytes, now: float) -> Gate:
        """The gate for a bundle (PEM)."""
        seen = [witness() for witness in self._witnesses]
        connected = frozenset().union(*(one.connected for one in seen))
        lacking = frozenset().union(*(one.lacking for one in seen))
        for node in self._lacked - connected:
            self._away.setdefault(node, now)
        self._away = {
            node: since for node, since in self._away.items() if node not in connected and now - since < self._settle
        }
        self._lacked = lacking
        known = bool(roots) and roots == self._published and now >= self._ready_at
        known = known and all(spread(roots) for spread in self._ways)
        return Gate(tuple(sorted({*lacking, *self._away})), known)
