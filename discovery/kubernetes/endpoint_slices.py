"""What an EndpointSlice says of a service's endpoints, joined with the Pods and Nodes that it names.

Pure functions and the compact form in which a slice is kept. What each rule is for:
- An endpoint that is `ready` (an absent condition counts as true) is Healthy, a terminating one too if the Service
  publishes addresses that are not ready: Kubernetes says so by `ready` itself.
- One that is terminating and still `serving` is Draining. Envoy then sends it requests only where the service has no
  ready one, as kube-proxy does; sessions that stick still find it (`tests/envoy/test_draining.py`).
- Any other endpoint is left out.
- An endpoint's addresses are interchangeable by definition; the first is used.
- Zone: the endpoint's own, else its Node's; region: its Node's (slices carry none).
- Labels and service account are those of the Pod that `targetRef` names; a slice written by hand has neither.
- Port names are the Service's port names; an unnamed port has the empty name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

import msgspec

from discovery.kubernetes import wire
from discovery.kubernetes.services import pairs
from mesh.model import DiscoveredEndpoints, Endpoint, Health, Locality

_NO_CONDITIONS = wire.Conditions()
_LOCALITIES = 4096


class Workload(msgspec.Struct, frozen=True, gc=False):
    """What is used of a Pod; Pods of one ReplicaSet share it."""

    labels: tuple[tuple[str, str], ...] = ()
    service_account: str = ""
    mesh_tls: bool = False


class Place(msgspec.Struct, frozen=True, gc=False):
    """What is used of a Node."""

    region: str = ""
    zone: str = ""


_NO_WORKLOAD = Workload()
_NOWHERE = Place()


class PodEntry(msgspec.Struct, gc=False, eq=False):
    """A Pod by its name, seen or only named so far, and the slices that name it. Holds names, so no cycle can arise."""

    name: str
    workload: Workload | None = None
    slices: tuple[wire.Key, ...] = ()


class NodeEntry(msgspec.Struct, gc=False, eq=False):
    """A Node by its name, seen or only named so far, and the slices that name it."""

    name: str
    place: Place | None
    slices: set[wire.Key]


class Instance(msgspec.Struct, frozen=True, gc=False):
    """One usable endpoint of a slice."""

    address: str
    health: Health
    zone: str
    pod: PodEntry | None
    node: NodeEntry | None
    for_zones: tuple[str, ...] = ()
    for_nodes: tuple[str, ...] = ()


class Slice(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an EndpointSlice."""

    service: str
    family: wire.AddressType
    ports: tuple[tuple[str, int], ...]
    instances: tuple[Instance, ...]


class Referred(Protocol):
    """How the names of Pods and Nodes become the entries that are kept of them."""

    def pod(self, namespace: str, name: str) -> PodEntry:
        """The entry of a Pod."""

    def node(self, name: str) -> NodeEntry:
        """The entry of a Node."""


def reduced(item: wire.EndpointSlice, referred: Referred) -> Slice | None:
    """What is kept of a slice; None where no label says whose it is."""
    labels = item.metadata.labels
    service = labels.service_name if labels is not None else None
    if not service:
        return None
    namespace = item.metadata.namespace
    instances = (_instance(endpoint, namespace, referred) for endpoint in item.endpoints or ())
    return Slice(
        service=service,
        family=item.address_type,
        ports=_ports(item.ports or ()),
        instances=tuple(instance for instance in instances if instance is not None),
    )


def workload(pod: wire.Pod) -> Workload:
    """What is used of a Pod."""
    account = pod.spec.service_account_name if pod.spec is not None else None
    labels = pairs(pod.metadata.labels)
    # Without an account there is no identity that clients could check.
    return Workload(labels, account or "", bool(account) and (wire.MESH_TLS, "true") in labels)


def place(node: wire.Node) -> Place:
    """What is used of a Node."""
    labels = node.metadata.labels
    return Place(labels.region or "", labels.zone or "") if labels is not None else Place()


def row(kept: Slice) -> DiscoveredEndpoints:
    """The endpoints of a slice, as they follow from what is known of its Pods and Nodes now."""
    return DiscoveredEndpoints(tuple(sorted(_endpoint(instance, kept.ports) for instance in kept.instances)))


def health(conditions: wire.Conditions) -> Health | None:
    """What the conditions of an endpoint mean; None leaves it out."""
    ready = conditions.ready is not False
    if ready:
        return "Healthy"
    serving = ready if conditions.serving is None else conditions.serving
    return "Draining" if serving and conditions.terminating else None


def _instance(endpoint: wire.Endpoint, namespace: str, referred: Referred) -> Instance | None:
    state = health(endpoint.conditions if endpoint.conditions is not None else _NO_CONDITIONS)
    if state is None or not endpoint.addresses:
        return None
    target = endpoint.target_ref
    return Instance(
        address=endpoint.addresses[0],
        health=state,
        zone=sys.intern(endpoint.zone or ""),
        pod=referred.pod(namespace, target.name)
        if target is not None and target.kind == "Pod" and target.name
        else None,
        node=referred.node(endpoint.node_name) if endpoint.node_name else None,
        for_zones=_names(endpoint.hints.for_zones) if endpoint.hints is not None else (),
        for_nodes=_names(endpoint.hints.for_nodes) if endpoint.hints is not None else (),
    )


def _names(hints: Iterable[wire.ForZone | wire.ForNode] | None) -> tuple[str, ...]:
    return _shared_names(tuple(sorted({each.name for each in hints if each.name}))) if hints else ()


@lru_cache(_LOCALITIES)
def _shared_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sets of zones, or of nodes, are few; endpoints share them."""
    return tuple(map(sys.intern, names))


def _ports(ports: Iterable[wire.SlicePort]) -> tuple[tuple[str, int], ...]:
    found = ((sys.intern(port.name or ""), port.port) for port in ports if port.port and port.protocol != "SCTP")
    return tuple(sorted(found))


def _endpoint(instance: Instance, ports: tuple[tuple[str, int], ...]) -> Endpoint:
    pod = (instance.pod.workload if instance.pod is not None else None) or _NO_WORKLOAD
    node = (instance.node.place if instance.node is not None else None) or _NOWHERE
    return Endpoint(
        address=instance.address,
        ports=ports,
        labels=pod.labels,
        locality=_locality(node.region, instance.zone or node.zone),
        health=instance.health,
        service_account=pod.service_account,
        mesh_tls=pod.mesh_tls,
        for_zones=instance.for_zones,
        for_nodes=instance.for_nodes,
    )


@lru_cache(_LOCALITIES)
def _locality(region: str, zone: str) -> Locality:
    """Localities are few; endpoints share them."""
    return Locality(region, zone)
