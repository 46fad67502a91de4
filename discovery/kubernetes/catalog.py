"""The services of one cluster: what was seen of Services, EndpointSlices, Pods and Nodes, as rows of the model.

State without I/O. A shell puts and removes objects in whatever order they come, and takes what that changes. Objects
are reduced at once to what is used of them (`services.py`, `endpoint_slices.py`); here is kept who refers to whom, so
that a change costs the rows it touches: a Pod's those of the slices that name it, a Node's those of the slices on it.

Two rules about a service as a whole:
- Its endpoints are of one address family: that of its first clusterIP where a slice of that family has any usable
  endpoint, else of the other one, else names (FQDN). So a dual-stack service is never counted twice, and an empty slice
  of one family hides nothing.
- A slice counts only while there is its Service, and not where Kubernetes itself uses none (ExternalName).

Whatever order the news came in, the rows are those of a fresh start (`tests/property/test_kubernetes_catalog.py`).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from discovery.kubernetes import endpoint_slices, services
from discovery.kubernetes.endpoint_slices import NodeEntry, Place, PodEntry, Slice, Workload
from discovery.kubernetes.services import Told
from discovery.kubernetes.wire import EndpointSlice, Key, Malformed, Node, Pod, Service
from mesh.model import (
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
)
from mesh.problems import Problem
from mesh.tables import Change

Kind = Literal["Service", "EndpointSlice", "Pod", "Node"]
KINDS: tuple[Kind, ...] = ("Service", "EndpointSlice", "Pod", "Node")


class _Entry(msgspec.Struct, eq=False):
    """A service: what its Service says (None: not seen), its slices, and the family that was told last."""

    told: Told | None
    slices: dict[Key, Slice]
    family: str = ""


class Catalog:
    """What is known of one cluster.

    Use: `put` and `remove` as news comes, then `take` what that changes. For a list: `put` all objects of all its
    pages, then `retain` the keys that were in it, malformed ones too (their last good form stands).
    """

    def __init__(self, source: str) -> None:
        """`source` is the name under which rows are written: `kubernetes:<cluster>`."""
        self._source = source
        self._services: dict[Key, _Entry] = {}
        self._slices: dict[Key, Slice] = {}
        self._pods: dict[str, dict[str, PodEntry]] = {}
        self._nodes: dict[str, NodeEntry] = {}
        self._workloads: dict[Workload, Workload] = {}
        self._uses: Counter[Workload] = Counter()
        self._problems: dict[tuple[str, Key], tuple[Problem, ...]] = {}
        self._all_problems: tuple[Problem, ...] | None = None  # the same, sorted, until one comes or goes
        # What `take` must look at: services, with those slices that may have another row.
        self._stirred: dict[Key, set[Key]] = {}
        self._service_rows: dict[DiscoveredServiceKey, DiscoveredService] = {}
        self._endpoint_rows: dict[DiscoveredEndpointsKey, DiscoveredEndpoints] = {}

    def zone_of_node(self, name: str) -> str:
        """The zone of a Node; empty where that is not known."""
        entry = self._nodes.get(name)
        return entry.place.zone if entry is not None and entry.place is not None else ""

    # -- news

    def put(self, item: Service | EndpointSlice | Pod | Node) -> None:
        """An object is there, new or changed."""
        key = _shared(item.metadata.key)
        problems: tuple[Problem, ...] = ()
        match item:
            case Service():
                told = services.told(item)
                problems = told.problems
                self._put_service(key, told)
            case EndpointSlice():
                self._put_slice(key, endpoint_slices.reduced(item, self))
            case Pod():
                self._put_pod(key, endpoint_slices.workload(item))
            case Node():
                self._put_node(key.name, endpoint_slices.place(item))
        self._note(_kind(item), key, problems)

    def reject(self, kind: Kind, malformed: Malformed) -> None:
        """An object came that cannot be read: its last good form stands, and a problem tells of it."""
        message = f"it is not what Kubernetes' API says: {malformed.message}"
        fix = "correct the object; until then its last good form counts"
        self._note(kind, malformed.key, (Problem("MalformedObject", "error", malformed.path, message, fix),))

    def remove(self, kind: Kind, key: Key) -> None:
        """An object is gone; one that never was is no error."""
        match kind:
            case "Service":
                self._put_service(key, None)
            case "EndpointSlice":
                self._put_slice(key, None)
            case "Pod":
                self._put_pod(key, None)
            case "Node":
                self._put_node(key.name, None)
        self._note(kind, key, ())

    def retain(self, kind: Kind, keys: Iterable[Key]) -> None:
        """Remove all objects of a kind but these: what a list that has ended shows."""
        kept = set(keys)
        troubled = {key for told, key in self._problems if told == kind}
        for key in {*self._held(kind), *troubled} - kept:
            self.remove(kind, key)

    def take(self) -> tuple[Change, ...]:
        """What the news since the last call changes, sorted by table and key; empty if nothing."""
        told: list[Change] = []
        endpoints: list[Change] = []
        for key in sorted(self._stirred):
            entry = self._services[key]
            told.extend(self._service_change(key, entry))
            endpoints.extend(self._endpoint_changes(key, entry, self._stirred[key]))
            if entry.told is None and not entry.slices:
                del self._services[key]
        self._stirred.clear()
        return (*told, *endpoints)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with objects at present, sorted by object."""
        if self._all_problems is None:
            self._all_problems = tuple(problem for at in sorted(self._problems) for problem in self._problems[at])
        return self._all_problems

    # -- Pods and Nodes by name, for the slices that name them (`endpoint_slices.Referred`)

    def pod(self, namespace: str, name: str) -> PodEntry:
        """The entry of a Pod, seen or not."""
        pods = self._pods.get(namespace)
        if pods is None:
            pods = self._pods[namespace] = {}
        entry = pods.get(name)
        if entry is None:
            entry = pods[name] = PodEntry(name)
        return entry

    def node(self, name: str) -> NodeEntry:
        """The entry of a Node, seen or not."""
        entry = self._nodes.get(name)
        if entry is None:
            entry = self._nodes[name] = NodeEntry(name, None, set())
        return entry

    def _drop_pod(self, namespace: str, entry: PodEntry) -> None:
        if entry.workload is None and not entry.slices:
            pods = self._pods[namespace]
            del pods[entry.name]
            if not pods:
                del self._pods[namespace]

    def _drop_node(self, entry: NodeEntry) -> None:
        if entry.place is None and not entry.slices:
            del self._nodes[entry.name]

    # -- what news means to the state

    def _put_service(self, key: Key, told: Told | None) -> None:
        entry = self._services.get(key)
        if entry is None:
            if told is None:
                return
            entry = self._services[key] = _Entry(None, {})
        if told != entry.told:
            entry.told = told
            self._stirred.setdefault(key, set())

    def _put_slice(self, key: Key, new: Slice | None) -> None:
        old = self._slices.get(key)
        if new == old:
            return
        if old is not None and (new is None or new.service != old.service):
            service = Key(key.namespace, old.service)
            del self._services[service].slices[key]
            self._stir(service, key)
        if new is None:
            del self._slices[key]
        else:
            service = Key(key.namespace, new.service)
            entry = self._services.get(service)
            if entry is None:
                entry = self._services[service] = _Entry(None, {})
            self._slices[key] = entry.slices[key] = new
            self._stir(service, key)
        self._refer(key, old, new)

    def _refer(self, key: Key, old: Slice | None, new: Slice | None) -> None:
        """Keep, for Pods and Nodes, which slices name them."""
        before, after = _named(old), _named(new)
        only = (key,)
        for entry in after - before:
            if isinstance(entry, NodeEntry):
                entry.slices.add(key)
            else:
                # Nearly every Pod is in one slice; those of a slice share the tuple.
                entry.slices = (*entry.slices, key) if entry.slices else only
        for entry in before - after:
            if isinstance(entry, NodeEntry):
                entry.slices.discard(key)
                self._drop_node(entry)
            else:
                entry.slices = tuple(at for at in entry.slices if at != key)
                self._drop_pod(key.namespace, entry)

    def _put_pod(self, key: Key, workload: Workload | None) -> None:
        entry = self.pod(key.namespace, key.name)
        old = entry.workload
        if workload != old:
            entry.workload = self._use(workload) if workload is not None else None
            if old is not None:
                self._release(old)
            self._stir_all(entry.slices)
        self._drop_pod(key.namespace, entry)

    def _put_node(self, name: str, place: Place | None) -> None:
        entry = self.node(name)
        if place != entry.place:
            entry.place = place
            self._stir_all(entry.slices)
        self._drop_node(entry)

    def _use(self, workload: Workload) -> Workload:
        """The one instance of equal workloads."""
        workload = self._workloads.setdefault(workload, workload)
        self._uses[workload] += 1
        return workload

    def _release(self, workload: Workload) -> None:
        self._uses[workload] -= 1
        if not self._uses[workload]:
            del self._uses[workload], self._workloads[workload]

    def _stir(self, service: Key, at: Key) -> None:
        self._stirred.setdefault(service, set()).add(at)

    def _stir_all(self, slices: Iterable[Key]) -> None:
        for at in slices:
            self._stir(Key(at.namespace, self._slices[at].service), at)

    def _held(self, kind: Kind) -> Iterator[Key]:
        match kind:
            case "Service":
                yield from (key for key, entry in self._services.items() if entry.told is not None)
            case "EndpointSlice":
                yield from self._slices
            case "Pod":
                for namespace, pods in self._pods.items():
                    yield from (Key(namespace, name) for name, entry in pods.items() if entry.workload is not None)
            case "Node":
                yield from (Key("", name) for name, entry in self._nodes.items() if entry.place is not None)

    def _note(self, kind: Kind, key: Key, problems: tuple[Problem, ...]) -> None:
        """Keep the problems of an object, in the place of those that it had."""
        if problems:
            where = f"{self._source} {kind} {key}"
            placed = tuple(msgspec.structs.replace(problem, file=where) for problem in problems)
            if placed != self._problems.get((kind, key)):
                self._problems[kind, key] = placed
                self._all_problems = None
        elif self._problems and self._problems.pop((kind, key), None) is not None:
            self._all_problems = None

    # -- what the state means to the model

    def _service_change(self, key: Key, entry: _Entry) -> Iterator[Change]:
        at = DiscoveredServiceKey(self._source, *key)
        row = entry.told.row if entry.told is not None else None
        if row == self._service_rows.get(at):
            return
        if row is None:
            del self._service_rows[at]
        else:
            self._service_rows[at] = row
        yield Change(DISCOVERED_SERVICES, at, row)

    def _endpoint_changes(self, key: Key, entry: _Entry, stirred: set[Key]) -> Iterator[Change]:
        family = _family(entry)
        if family != entry.family:
            entry.family = family
            stirred = stirred.union(entry.slices)
        for name in sorted(stirred):
            kept = entry.slices.get(name)
            at = DiscoveredEndpointsKey(self._source, *key, name.name)
            used = kept is not None and kept.family == family and kept.instances
            row = endpoint_slices.row(kept) if kept is not None and used else None
            if row == self._endpoint_rows.get(at):
                continue
            if row is None:
                del self._endpoint_rows[at]
            else:
                self._endpoint_rows[at] = row
            yield Change(DISCOVERED_ENDPOINTS, at, row)


def _family(entry: _Entry) -> str:
    """The address type of the slices that count; empty where none does."""
    if entry.told is None or not entry.told.routed:
        return ""
    usable = {kept.family for kept in entry.slices.values() if kept.instances}
    order = ("IPv6", "IPv4", "FQDN") if entry.told.family == "IPv6" else ("IPv4", "IPv6", "FQDN")
    return next((family for family in order if family in usable), "")


def _named(kept: Slice | None) -> set[PodEntry | NodeEntry]:
    """The Pods and Nodes that a slice names."""
    if kept is None:
        return set()
    named = {entry for instance in kept.instances for entry in (instance.pod, instance.node)}
    return {entry for entry in named if entry is not None}


def _kind(item: Service | EndpointSlice | Pod | Node) -> Kind:
    match item:
        case Service():
            return "Service"
        case EndpointSlice():
            return "EndpointSlice"
        case Pod():
            return "Pod"
        case Node():
            return "Node"


def _shared(key: Key) -> Key:
    """The key, with the namespace that others share too."""
    return Key(sys.intern(key.namespace), key.name)
