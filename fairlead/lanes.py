"""The two lanes in which changes wait before they are derived and sent (DESIGN §2).

Endpoint changes do not wait: they are what makes requests fail while they are old; nor does what proxies tell (that
they are there, that they refuse something), for they wait for the answer; nor what became of objects where resources
were made, or a status would say for a while what every Envoy belies. Everything else waits for a quiet period, because
rules come in bursts (a file with ten objects, a rollout) and each burst is worth one push; but never longer than a
maximum, so that constant change is no way to starve anybody. The change of one object that is there
already, out of the quiet, does not wait either: it is whole by itself, and only what follows it may be a burst.

Pure: no clock of its own, `now` is handed in (seconds, any monotonic origin).
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from mesh.kinds.service import Service
from mesh.model import ACKNOWLEDGED, AUDIENCES, DECLARED, DISCOVERED_ENDPOINTS, REJECTIONS, Declared
from mesh.quarantine import QUARANTINE
from mesh.results import RESULTS
from mesh.tables import Change, Input

RowKey = tuple[Input[Any, Any], Any]

_AT_ONCE = frozenset({DISCOVERED_ENDPOINTS, AUDIENCES, REJECTIONS, ACKNOWLEDGED, QUARANTINE, RESULTS})


class Batch(msgspec.Struct, frozen=True):
    """Changes that are to be committed together; `since` is when the oldest of them was known."""

    changes: tuple[Change, ...]
    since: float


class Lanes:
    """Changes on their way in. Of two changes of one row only the later one is kept."""

    def __init__(self, *, quiet_period: float, quiet_period_max: float) -> None:
        self._quiet_period = quiet_period
        self._quiet_period_max = max(quiet_period, quiet_period_max)
        self._at_once: dict[RowKey, Change] = {}
        self._waiting: dict[RowKey, Change] = {}
        self._at_once_since = 0.0
        self._waiting_since = 0.0
        self._last_arrival = -math.inf

    def add(self, change: Change, *, present: Any, now: float, alone: bool = False) -> None:
        """Take in a change; `present` is what it may replace: see `goes_at_once`. `alone`: it came without others."""
        row = (change.table, change.key)
        if goes_at_once(change, present=present):
            swift = row not in self._waiting
        else:
            quiet = not self._waiting and now - self._last_arrival >= self._quiet_period
            swift = alone and quiet and present is not None and change.row is not None
            self._last_arrival = now
        if swift:
            if not self._at_once:
                self._at_once_since = now
            self._at_once[row] = change
            return
        if not self._waiting:
            self._waiting_since = now
        self._at_once.pop(row, None)
        self._waiting[row] = change
        self._last_arrival = now

    def due(self) -> float | None:
        """When `take` will have something: a time in the past means now, None that nothing waits."""
        if self._at_once:
            return self._at_once_since
        if self._waiting:
            return min(self._last_arrival + self._quiet_period, self._waiting_since + self._quiet_period_max)
        return None

    def take(self, now: float) -> Batch | None:
        """What is due: the endpoint lane, with the other lane's changes once their wait is over."""
        waiting_due = bool(self._waiting) and now >= min(
            self._last_arrival + self._quiet_period, self._waiting_since + self._quiet_period_max
        )
        if not self._at_once and not waiting_due:
            return None
        since = [self._at_once_since] if self._at_once else []
        changes = list(self._at_once.values())
        self._at_once = {}
        if waiting_due:
            since.append(self._waiting_since)
            changes.extend(self._waiting.values())
            self._waiting = {}
        return Batch(tuple(changes), min(since))

    def take_all(self, now: float) -> Batch:
        """Everything, due or not; for the first build."""
        changes = (*self._at_once.values(), *self._waiting.values())
        since = [self._at_once_since] * bool(self._at_once) + [self._waiting_since] * bool(self._waiting)
        self._at_once, self._waiting = {}, {}
        return Batch(changes, min(since, default=now))

    def __len__(self) -> int:
        return len(self._at_once) + len(self._waiting)


def goes_at_once(change: Change, *, present: Any) -> bool:
    """Whether a change must not wait. `present` is the declaration of that object which holds, be it of this source or
    of another: the first PUT over a Service from a file is no more than its new endpoints either.
    """
    if change.table in _AT_ONCE:
        return True
    if change.table is not DECLARED or not isinstance(present, Declared) or not isinstance(change.row, Declared):
        return False
    old, new = present.object, change.row.object
    if not isinstance(old, Service) or not isinstance(new, Service):
        return False
    return _without_endpoints(old) == _without_endpoints(new) and present.stale == change.row.stale


def _without_endpoints(service: Service) -> tuple[Any, ...]:
    """What else a change of the object could change in Envoy; bookkeeping such as revisions and times could not."""
    return service.metadata.labels, msgspec.structs.replace(service.spec, endpoints=())
