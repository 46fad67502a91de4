"""Make before break: in which order types are sent, and when a cluster that is no longer wanted may leave.

The order is that of "Eventual consistency considerations" in Envoy's xds_protocol document. Its second half, which
others leave out, is here too: a removed cluster leaves a proxy only after the proxy has acknowledged the routes and
listeners that stopped naming it, and some time later still, because a request may have chosen the cluster already and
be paused in a filter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from xds.schema.type_urls import (
    TYPE_CLUSTER,
    TYPE_ENDPOINT,
    TYPE_EXTENSION_CONFIG,
    TYPE_LISTENER,
    TYPE_ROUTE,
    TYPE_SCOPED_ROUTE,
    TYPE_SECRET,
    TYPE_VIRTUAL_HOST,
)

_ORDER: Final = {
    type_url: place
    for place, type_url in enumerate(
        (
            TYPE_CLUSTER,
            TYPE_ENDPOINT,
            TYPE_LISTENER,
            TYPE_EXTENSION_CONFIG,
            TYPE_SCOPED_ROUTE,
            TYPE_ROUTE,
            TYPE_VIRTUAL_HOST,
            TYPE_SECRET,
        )
    )
}

# What names clusters, and so waits for them and holds them.
ROUTING: Final = (TYPE_LISTENER, TYPE_SCOPED_ROUTE, TYPE_ROUTE)


def in_order(type_urls: Iterable[str]) -> list[str]:
    """Types in the order in which they are sent; those without a place come last."""
    return sorted(type_urls, key=lambda type_url: (_ORDER.get(type_url, len(_ORDER)), type_url))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long ordering waits for a proxy, in seconds."""

    warm: float = 5.0
    """New routes for the clusters they need: their ACK, and the request for their endpoints."""
    grace: float = 5.0
    """A removed cluster, after the routes that stopped naming it are acknowledged."""
    leave: float = 30.0
    """A removed cluster, if the proxy never acknowledges those routes."""
    answer: float = 10.0
    """A push, for the ACK of the one before it."""


PATIENCE: Final = Patience()


class Retirement:
    """The clusters that one proxy still has and should lose. Mutable; belongs to one stream."""

    __slots__ = ("_leaving",)

    def __init__(self) -> None:
        self._leaving: dict[str, _Leaving] = {}

    def __len__(self) -> int:
        return len(self._leaving)

    def wanted_again(self, gone: Collection[str]) -> None:
        """Only those of `gone` are not wanted now: any other has its whole time before it when it goes again."""
        for name in [name for name in self._leaving if name not in gone]:
            del self._leaving[name]

    def stay(
        self, gone: Collection[str], *, settled: bool, needed: Collection[str], now: float, patience: Patience
    ) -> frozenset[str]:
        """Which of the clusters that are no longer wanted must stay for now.

        `settled`: the proxy has acknowledged all routing that it was to get. `needed` are clusters that routing which
        is to stay in force still names (an earlier version that stands because its successor was rejected).
        """
        stay = set()
        for name in gone:
            leaving = self._leaving.setdefault(name, _Leaving(since=now))
            if settled and leaving.settled is None:
                leaving.settled = now
            if name in needed or leaving.at(patience) > now:
                stay.add(name)
        return frozenset(stay)

    def left(self, names: Iterable[str]) -> None:
        """The removal of these was sent."""
        for name in names:
            self._leaving.pop(name, None)

    def deadline(self, now: float, patience: Patience) -> float | None:
        """When the next cluster may leave, if time alone will bring it."""
        times = [at for leaving in self._leaving.values() if (at := leaving.at(patience)) > now]
        return min(times, default=None)


@dataclass(slots=True)
class _Leaving:
    since: float
    settled: float | None = None

    def at(self, patience: Patience) -> float:
        bound = self.since + patience.leave
        return bound if self.settled is None else min(bound, self.settled + patience.grace)
