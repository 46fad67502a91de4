"""What is known of one datacenter, as rows of the model: state without I/O.

What Consul says is believed, with two exceptions, for a mesh must not lose its endpoints because Consul lost its own
knowledge. What is held then stands, marked stale, until Consul tells of it again:

- After its index went back (a catalog that was made anew, or restored), what is missing counts as gone only when it
  is missing for `DOUBT_SECONDS`: agents register their services again, one after the other. So it is with single
  instances: the first of a hundred that is back must not get the requests of all.
- Where a service is missing though the index has not changed, or `consul` itself is, our token has lost rights: Consul
  leaves out without a word what a token may not read. Nothing is gone then. Nor is it where a service is listed and has
  not one instance: Consul lists none such, so our token may see services and not the nodes that they are on.

While no answer comes everything stands, marked stale.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping

import msgspec

from discovery.consul.catalog import CONSULS_OWN, Address, Rows, Rule, is_left_out, with_missing
from mesh.model import (
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
)
from mesh.tables import Change
from mesh.validations.metadata import is_dns_label

DOUBT_SECONDS = 30.0


class Datacenter:
    """The services of a datacenter. Tell it what Consul says, then `take` what that changes."""

    def __init__(self, source: str, rule: Rule) -> None:
        """`source` is the name under which rows are written: `consul`, or `consul:<datacenter>`."""
        self.source = source
        self.rule = rule
        self.listed_once = False
        self.odd_names: tuple[str, ...] = ()
        self._names: set[str] = set()
        self._listed: set[str] = set()
        self._told: dict[str, Mapping[str, Rows]] = {}
        self._written: dict[str, Mapping[str, Rows]] = {}
        self._stale: set[str] = set()
        self._missing: dict[str, float] = {}  # what is held, and until when
        self._hidden: dict[str, float] = {}  # what is listed and has no instance that we may see, and since when
        self._lacking: dict[str, tuple[Mapping[str, Rows], float]] = {}  # what was told without what is held beside it
        self._doubt_until = 0.0
        self._saw_all = False
        self._losing = False
        self._stirred: set[str] = set()

    @property
    def rights_lost(self) -> bool:
        """Whether services are hidden from our token that it saw."""
        return math.inf in self._missing.values()

    @property
    def names(self) -> frozenset[str]:
        """The services that there are, or that are held."""
        return frozenset(self._names)

    @property
    def stale(self) -> int:
        """How many services are marked stale."""
        return len(self._stale & self._told.keys())

    @property
    def services(self) -> int:
        """How many services have rows."""
        return len(self._told)

    def knows(self, name: str) -> bool:
        """Whether the instances of a service were told, now or by a copy."""
        return name in self._told

    @property
    def hidden(self) -> frozenset[str]:
        """The services of which we are told that they are there, and not one instance."""
        return frozenset(self._hidden)

    def hidden_since(self, then: float) -> tuple[str, ...]:
        """Those of which that is so since then; for a moment it is so of each that goes away."""
        return tuple(sorted(name for name, since in self._hidden.items() if since <= then))

    @property
    def doubted(self) -> float:
        """When `sweep` has something to do; infinity: never."""
        return min([*self._missing.values(), *(until for _, until in self._lacking.values())], default=math.inf)

    def restore(self, copies: Iterable[Change]) -> None:
        """Take in what an earlier run knew, and is not told yet. It is stale until it is."""
        services: dict[str, dict[str, DiscoveredService]] = {}
        endpoints: dict[str, dict[str, DiscoveredEndpoints]] = {}
        for copy in copies:
            key, row = copy.key, copy.row
            if isinstance(key, DiscoveredServiceKey) and row is not None:
                services.setdefault(key.name, {})[key.namespace] = msgspec.structs.replace(row, stale=False)
            elif isinstance(key, DiscoveredEndpointsKey) and row is not None:
                endpoints.setdefault(key.service, {})[key.namespace] = msgspec.structs.replace(row, stale=False)
        nothing = DiscoveredEndpoints(())
        for name, spaces in services.items():
            if self._told.get(name):
                continue
            ends = endpoints.get(name, {})
            self._told[name] = {space: (row, ends.get(space, nothing)) for space, row in sorted(spaces.items())}
            self._names.add(name)
            self.mark_stale(name)
        self._saw_all = self._saw_all or CONSULS_OWN in services

    def restore_unseen(self, copies: Iterable[Change]) -> None:
        """Take in what an earlier run knew, as the first answer shows that our token does not see it any more."""
        self.restore(copies)
        self._saw_all = True

    # -- what Consul says

    def listed(self, names: Iterable[str], now: float, *, went_back: bool = False, same_index: bool = False) -> None:
        """These are all services that there are; `same_index`: nothing has changed in Consul since it was last told."""
        listed = frozenset(name for name in names if not is_left_out(name, self.rule))
        found = {sys.intern(name) for name in listed if is_dns_label(name)}
        self.odd_names = tuple(sorted(listed - found))
        self._listed = found
        if went_back:
            self._doubt_until = now + DOUBT_SECONDS
        missing = self._names - found
        regained = CONSULS_OWN in found and self._missing.get(CONSULS_OWN) == math.inf
        self._losing = bool(missing) and (same_index or (self._saw_all and CONSULS_OWN not in found))
        self._saw_all = self._saw_all or CONSULS_OWN in found
        self.listed_once = True
        for name in missing:
            self._hidden.pop(name, None)
            self._miss(name, now, regained=regained)
        for name in found & self._missing.keys():
            if self._missing[name] == math.inf:
                del self._missing[name]
        self._names |= found

    def told(
        self,
        name: str,
        rows: Mapping[str, Rows],
        now: float,
        *,
        went_back: bool = False,
        nobody: bool = False,
        there: Callable[[], frozenset[Address]] = frozenset,
    ) -> None:
        """This is what all instances of a service say (`catalog.rows`); `nobody`: there was none, of any kind.

        `there` says where all of them are, those without requests too.
        """
        if name not in self._names:
            return
        if nobody and name in self._listed and not self._losing:
            self._hidden.setdefault(name, now)
            self._told.setdefault(name, {})
            self._missing.pop(name, None)
            return
        self._hidden.pop(name, None)
        doubtful = self._losing or went_back or now < self._doubt_until or name in self._missing
        if not rows and self._told.get(name) and doubtful:
            self._hold(name, now)
            return
        self._missing.pop(name, None)
        self._stirred.add(name)
        _, until = self._lacking.get(name, (rows, self._doubt_until))
        until = max(until, self._doubt_until, now + DOUBT_SECONDS if went_back else 0.0)
        held = with_missing(self._told.get(name, {}), rows, there()) if now < until else rows
        self._told[name] = held
        if held != rows:
            self._lacking[name] = rows, until
            self._stale.add(name)
        else:
            self._lacking.pop(name, None)
            self._stale.discard(name)

    def mark_stale(self, name: str) -> None:
        """No answer comes for a service."""
        if name in self._names and name not in self._stale:
            self._stale.add(name)
            self._stirred.add(name)

    def mark_all_stale(self) -> None:
        """No answer comes at all."""
        self._stirred |= self._names - self._stale
        self._stale |= self._names

    def sweep(self, now: float) -> bool:
        """Believe what has been missing for long enough; whether there was any."""
        for name in [name for name, (_, until) in self._lacking.items() if until <= now]:
            self._told[name], _ = self._lacking.pop(name)
            self._stale.discard(name)
            self._stirred.add(name)
        over = [name for name, until in self._missing.items() if until <= now]
        for name in over:
            if name in self._listed:
                self._missing.pop(name)
                self._stale.discard(name)
                self._told[name] = {}
                self._stirred.add(name)
            else:
                self._drop(name)
        return bool(over)

    def clear(self) -> None:
        """There is nothing any more, and that is certain."""
        for name in self.names:
            self._drop(name)

    def _miss(self, name: str, now: float, *, regained: bool) -> None:
        if self._told.get(name) and (self._losing or now < self._doubt_until):
            self._hold(name, now)
        elif name not in self._missing or (regained and self._missing[name] == math.inf):
            self._drop(name)

    def _hold(self, name: str, now: float) -> None:
        if self._losing:
            self._missing[name] = math.inf
        elif name not in self._missing:
            self._missing[name] = now + DOUBT_SECONDS
        self.mark_stale(name)

    def _drop(self, name: str) -> None:
        self._names.discard(name)
        self._told.pop(name, None)
        self._missing.pop(name, None)
        self._hidden.pop(name, None)
        self._lacking.pop(name, None)
        self._stale.discard(name)
        self._stirred.add(name)

    # -- what that means to the model

    def take(self) -> tuple[Change, ...]:
        """What changed since the last call, sorted by service."""
        changes: list[Change] = []
        for name in sorted(self._stirred):
            wanted = self._told.get(name, {})
            if name in self._stale:
                wanted = {space: _stale(rows) for space, rows in wanted.items()}
            changes.extend(self._changes(name, self._written.get(name, {}), wanted))
            if wanted:
                self._written[name] = wanted
            else:
                self._written.pop(name, None)
        self._stirred.clear()
        return tuple(changes)

    def all(self) -> Iterable[Change]:
        """Every row, as it was taken."""
        for name, rows in self._written.items():
            yield from self._changes(name, {}, rows)

    def _changes(self, name: str, before: Mapping[str, Rows], after: Mapping[str, Rows]) -> Iterable[Change]:
        for space in sorted({*before, *after}):
            old_service, old_ends = before.get(space, (None, None))
            service, ends = after.get(space, (None, None))
            if service != old_service:
                yield Change(DISCOVERED_SERVICES, DiscoveredServiceKey(self.source, space, name), service)
            if ends != old_ends:
                yield Change(DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey(self.source, space, name, name), ends)


def _stale(rows: Rows) -> Rows:
    service, endpoints = rows
    return msgspec.structs.replace(service, stale=True), msgspec.structs.replace(endpoints, stale=True)
