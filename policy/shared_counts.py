"""What replicas tell each other of the requests that proxies report to them, so that who judges sees all of them.

A row holds running totals since its replica began to count, and not what is new: a row that is read twice counts once,
and one that was missed is made good by the next. A replica that is seen for the first time counts from there on, so
that a new judge takes no old requests for new ones. Pure; how rows travel is `discovery.board`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.model import Tally
from policy.measures import Counts, Times

FORGOTTEN_AFTER = 300.0
"""Seconds after which a row that has not changed is that of a replica that is gone."""

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Timed(msgspec.Struct, frozen=True):
    """How long answers took: pairs of a bound in milliseconds and how many took no longer, and how many all were."""

    within: tuple[tuple[float, _Count], ...]
    count: _Count


class _Row(msgspec.Struct, frozen=True):
    """`beat` grows with time, so that a replica that has nothing new to say is known to be there."""

    beat: int = 0
    requests: Mapping[str, tuple[_Count, _Count]] = {}
    times: Mapping[str, _Timed] = {}


def written(counts: Counts, *, beat: int) -> bytes:
    """A row."""
    requests = {name: (tally.succeeded, tally.failed) for name, tally in sorted(counts.tallies.items())}
    times = {name: _Timed(_finite(found), found.count) for name, found in sorted(counts.times.items())}
    return msgspec.json.encode(_Row(beat, requests, times))


def _finite(times: Times) -> tuple[tuple[float, int], ...]:
    return tuple((bound, count) for bound, count in times.buckets if math.isfinite(bound))


def _read(content: bytes) -> Counts | None:
    """What a row says; None for anything else."""
    try:
        row = msgspec.json.decode(content, type=_Row)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    tallies = {name: Tally(*counts) for name, counts in row.requests.items()}
    times = {}
    for name, found in row.times.items():
        buckets = (*sorted(found.within), (math.inf, found.count))
        counts = [count for _, count in buckets]
        if counts != sorted(counts) or any(math.isnan(bound) for bound, _ in buckets):
            return None
        times[name] = Times(buckets)
    return Counts(tallies, times)


class Others:
    """The totals of other replicas, as their rows said last."""

    def __init__(self) -> None:
        self._totals: dict[str, Counts] = {}
        self._rows: dict[str, tuple[bytes, float]] = {}

    def take(self, rows: Mapping[str, bytes], now: float) -> Iterable[Counts]:
        """What is new in the rows of all other replicas, one by one."""
        self._rows = {
            name: known if (known := self._rows.get(name)) is not None and known[0] == content else (content, now)
            for name, content in rows.items()
        }
        totals = {name: found for name, content in rows.items() if (found := _read(content)) is not None}
        before, self._totals = self._totals, totals
        return [_more(totals[name], before[name]) for name in sorted(totals) if name in before]

    def gone(self, now: float) -> Iterable[str]:
        """The replicas whose rows have not changed for so long that they are gone."""
        return [name for name, (_, since) in sorted(self._rows.items()) if now - since >= FORGOTTEN_AFTER]


def _more(now: Counts, before: Counts) -> Counts:
    """What came to the totals; a total that went back began anew at nothing."""
    tallies = {}
    for name, tally in now.tallies.items():
        was = before.tallies.get(name, Tally())
        if was.succeeded > tally.succeeded or was.failed > tally.failed:
            was = Tally()
        tallies[name] = Tally(tally.succeeded - was.succeeded, tally.failed - was.failed)
    times = {}
    for name, found in now.times.items():
        known = before.times.get(name, Times())
        more = found.plus(dict(known.buckets), sign=-1)
        counts = [count for _, count in more.buckets]
        times[name] = more if counts == sorted(counts) and min(counts, default=0) >= 0 else found
    return Counts(tallies, times)
