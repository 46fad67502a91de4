"""Which proxies do not trust a new root yet: the gate of `sds.rotation`, kept by what streams and agents say.

Pure; handed the time. Four things are no consent: that the bundle with the root has not gone out yet, or not by another
way that carries it too (`wait_for`), that the server has just started and its proxies are still coming back, and that a
proxy which did not have the bundle when it was last heard of is away (`away`): its stream ended, or it was given a
certificate and has no stream yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sds.rotation import Gate


class Seen(NamedTuple):
    """What a witness sees, as names of nodes: who takes its roots from us over a stream (`holding`), and who of those
    has not acknowledged the present bundle.
    """

    lacking: frozenset[str]
    holding: frozenset[str]


Witness = Callable[[], Seen]


class _Away(NamedTuple):
    trusts: bytes
    since: float


class RootGate:
    """`settle` is in seconds, `now` of a monotonic clock."""

    def __init__(self, settle: float, now: float) -> None:
        self._settle = settle
        self._ready_at = now + settle
        self._witnesses: list[Witness] = []
        self._ways: list[Callable[[bytes], bool]] = []
        self._published = b""
        self._away: dict[str, _Away] = {}

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

    def away(self, node: str, now: float, *, current: bool | None) -> None:
        """A proxy that takes its roots from us has no stream from now on, or not yet. `current`: it has what is
        published now; a bundle that is published later it has not. None: its agent was given that, and whoever lacked
        it before may lack it still.
        """
        if current is None and node in self._away:
            return
        self._away.pop(node, None)
        self._away[node] = _Away(b"" if current is False else self._published, now)
        # Beside an authority that is not ours nobody looks, and names are what proxies say.
        while (oldest := next(iter(self._away))) != node and now - self._away[oldest].since >= self._settle:
            del self._away[oldest]

    def seen(self) -> Seen:
        """What all witnesses see."""
        seen = [witness() for witness in self._witnesses]
        return Seen(
            frozenset().union(*(one.lacking for one in seen)), frozenset().union(*(one.holding for one in seen))
        )

    def look(self, roots: bytes, now: float) -> Gate:
        """The gate for a bundle (PEM)."""
        lacking, holding = self.seen()
        self._away = {
            node: away for node, away in self._away.items() if node not in holding and now - away.since < self._settle
        }
        known = bool(roots) and roots == self._published and now >= self._ready_at
        known = known and all(spread(roots) for spread in self._ways)
        lost = (node for node, away in self._away.items() if away.trusts != roots)
        return Gate(tuple(sorted({*lacking, *lost})), known)
