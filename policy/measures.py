"""What proxies report of the traffic to some clusters: counts of requests (LRS), and how long answers took.

Running totals since this program began, of those clusters alone that somebody watches: who wants to know what happened
since a moment keeps what it was then and subtracts. What other replicas were told counts too, and is kept apart from
what proxies report here. Pure; who listens to proxies is `xds/server`, and to replicas `fairlead/rollouts/counts.py`.
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


class Counts(msgspec.Struct, frozen=True):
    """Requests by cluster, and how long answers took by the name of a cluster's statistics."""

    tallies: Mapping[str, Tally]
    times: Mapping[str, Times]


class Measures:
    """Keeps the totals of the clusters that are watched."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._times: dict[str, Times] = {}
        self._here = Counts({}, {})

    def watch(self, clusters: Iterable[str], timed: Iterable[str]) -> None:
        """Count for these clusters, time those with these statistics' names, and forget all others."""
        self._tallies = {name: self._tallies.get(name, Tally()) for name in clusters}
        self._times = {name: self._times.get(name, Times()) for name in timed}

    def share(self, clusters: Iterable[str], timed: Iterable[str]) -> None:
        """Of these other replicas want to know what proxies report here."""
        here = self._here
        self._here = Counts(
            {name: here.tallies.get(name, Tally()) for name in clusters},
            {name: here.times.get(name, Times()) for name in timed},
        )

    @property
    def shared(self) -> Counts:
        """What proxies have reported here of what other replicas want to know."""
        return self._here

    def counted(self, cluster: str, succeeded: int, failed: int) -> None:
        """A proxy reports requests that ended since its last report."""
        more = Tally(succeeded, failed)
        self._count(cluster, more)
        here = self._here
        if cluster in here.tallies:
            self._here = Counts({**here.tallies, cluster: here.tallies[cluster].plus(more)}, here.times)

    def times(self, name: str, buckets: Mapping[float, int]) -> None:
        """A proxy reports how long the answers took that came since its last report."""
        self._time(name, buckets)
        here = self._here
        if name in here.times:
            self._here = Counts(here.tallies, {**here.times, name: here.times[name].plus(buckets)})

    def heard(self, more: Counts) -> None:
        """Another replica tells what proxies have reported to it since it told last."""
        for cluster, tally in more.tallies.items():
            self._count(cluster, tally)
        for name, times in more.times.items():
            self._time(name, dict(times.buckets))

    def _count(self, cluster: str, more: Tally) -> None:
        known = self._tallies.get(cluster)
        if known is not None:
            self._tallies[cluster] = known.plus(more)

    def _time(self, name: str, buckets: Mapping[float, int]) -> None:
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
