"""What proxies report of the traffic to some clusters: counts of requests (LRS), and how long answers took.

Running totals since this program began, of those clusters alone that somebody watches: who wants to know what happened
since a moment keeps what it was then and subtracts. Pure; who listens to the proxies is `xds/server`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from mesh.model import Tally


class Times(msgspec.Struct, frozen=True):
    """How long answers took: pairs of a bound (ms) and how many took no longer, sorted; the last bound is infinite."""

    buckets: tuple[tuple[float, int], ...] = ()

    @property
    def count(self) -> int:
        """How many answers."""
        return self.buckets[-1][1] if self.buckets else 0

    def plus(self, more: Mapping[float, int], *, sign: int = 1) -> Times:
        """With the answers of another histogram; of one with other bounds as exactly as these bounds can say."""
        mine, other = dict(self.buckets), dict(sorted(more.items()))
        bounds = sorted(mine.keys() | other.keys())
        return Times(tuple((bound, _at(mine, bound) + sign * _at(other, bound)) for bound in bounds))

    def percentile(self, percent: float) -> float | None:
        """How long that part of the answers took at most (ms), within a bucket by its share; None without answers.

        Beyond the last finite bound it is infinite: nothing is known but that it was longer.
        """
        wanted = self.count * percent / 100
        below, before = 0.0, 0
        for bound, count in self.buckets:
            if count >= wanted and count > before:
                if math.isinf(bound):
                    return math.inf
                return below + (bound - below) * max(0.0, wanted - before) / (count - before)
            below, before = bound, count
        return None


def _at(buckets: Mapping[float, int], bound: float) -> int:
    """How many took no longer than a bound, by the nearest bound below."""
    return max((count for at, count in buckets.items() if at <= bound), default=0)


class Measures:
    """Keeps the totals of the clusters that are watched."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._times: dict[str, Times] = {}

    def watch(self, clusters: Iterable[str], timed: Iterable[str]) -> None:
        """Count for these clusters, time those with these statistics' names, and forget all others."""
        self._tallies = {name: self._tallies.get(name, Tally()) for name in clusters}
        self._times = {name: self._times.get(name, Times()) for name in timed}

    def counted(self, cluster: str, succeeded: int, failed: int) -> None:
        """A proxy reports requests that ended since its last report."""
        known = self._tallies.get(cluster)
        if known is not None:
            self._tallies[cluster] = known.plus(Tally(succeeded, failed))

    def times(self, name: str, buckets: Mapping[float, int]) -> None:
        """A proxy reports how long the answers took that came since its last report."""
        known = self._times.get(name)
        if known is not None:
            self._times[name] = known.plus(buckets)

    @property
    def timed(self) -> frozenset[str]:
        """The statistics' names of what is timed."""
        return frozenset(self._times)

    def tally(self, cluster: str) -> Tally:
        """The requests of a cluster so far."""
        return self._tallies.get(cluster, Tally())

    def timing(self, name: str) -> Times:
        """How long its answers took so far."""
        return self._times.get(name, Times())
