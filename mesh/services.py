"""Services as the mesh knows them: those of all sources under one name, their endpoints, who may see them, subsets.

The same namespace and name is the same service, whether Kubernetes, Consul or a `Service` object tells of it (DESIGN
§3). What routes and clusters depend on (ports, labels, visibility) and what changes all the time (endpoints) are
separate tables, so that a moved endpoint touches nothing but its own assignment.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from mesh.kinds.service import Service as ServiceObject
from mesh.kinds.service import ServiceEndpoint
from mesh.kinds.servicesubset import ServiceSubset
from mesh.model import (
    AUDIENCES,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_ENDPOINTS_BY_SERVICE,
    DISCOVERED_SERVICES,
    DISCOVERED_SERVICES_BY_NAME,
    Audience,
    Connected,
    Declared,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    Locality,
    ObjectKey,
    ServiceKey,
    ServicePort,
)
from mesh.objects import OBJECTS, find
from mesh.tables import Look, derived, each

EVERYWHERE = "*"
OWN_NAMESPACE = "."
VISIBLE_PARTS = 64


class Service(msgspec.Struct, frozen=True):
    """What clients of a service need to know of it, merged over its sources.

    `sources` names who tells of it; `own` says that a `Service` object of ours is among them. `external_name` is the
    DNS name that stands for it where it has no endpoints of its own.
    """

    ports: tuple[ServicePort, ...]
    labels: tuple[tuple[str, str], ...] = ()
    export_to: tuple[str, ...] = ()
    external_name: str = ""
    sources: tuple[str, ...] = ()
    own: bool = False

    def port(self, number: int, *, udp: bool = False) -> ServicePort | None:
        """The port of that number over TCP, or over UDP; or None."""
        return next((port for port in self.ports if port.port == number and port.udp == udp), None)


class ServiceEndpoints(msgspec.Struct, frozen=True):
    """All endpoints of a service, sorted, their ports named as the merged service names them.

    `own` are those that our `Service` object lists, for a backendRef that means only them.
    """

    endpoints: tuple[Endpoint, ...]
    own: tuple[Endpoint, ...] = ()


class ClientsKey(NamedTuple):
    """The clients of a namespace that see the mesh alike: its sidecars, or its proxyless gRPC clients."""

    namespace: str
    grpc: bool


class VisibleKey(NamedTuple):
    """One of the parts of what clients may see; services are spread over them by name."""

    clients: ClientsKey
    part: int


class Visible(msgspec.Struct, frozen=True):
    """Services that clients may see, sorted."""

    services: tuple[ServiceKey, ...]


class SubsetKey(NamedTuple):
    """The name of a `ServiceSubset`."""

    namespace: str
    name: str


class Subset(msgspec.Struct, frozen=True):
    """The endpoints of a service that carry all these labels (sorted pairs); `fallback` are those of who takes over."""

    service: ServiceKey
    labels: tuple[tuple[str, str], ...]
    fallback: tuple[tuple[tuple[str, str], ...], ...] = ()

    def arranged(self, endpoints: Iterable[Endpoint], *, any_endpoint: bool = False) -> list[Endpoint]:
        """Its endpoints, and as later priorities those that take over; with `any_endpoint` at last all others.

        Each takes over as a whole, so that an endpoint in another place that is wanted more comes before a near one.
        """
        wanted = [set(labels) for labels in (self.labels, *self.fallback, *([()] if any_endpoint else []))]
        ranks: list[list[Endpoint]] = [[] for _ in wanted]
        for endpoint in endpoints:
            at = next((at for at, labels in enumerate(wanted) if labels <= set(endpoint.labels)), None)
            if at is not None:
                ranks[at].append(endpoint)
        found: list[Endpoint] = []
        for rank in ranks:
            after = max((one.priority + 1 for one in found), default=0)
            found += [msgspec.structs.replace(one, priority=after + one.priority) if after else one for one in rank]
        return found


def _declared_service(key: ObjectKey, _row: Declared) -> tuple[ServiceKey, ...]:
    return (ServiceKey(key.namespace, key.name),) if key.kind == "Service" else ()


def _discovered_service(key: DiscoveredServiceKey, _row: DiscoveredService) -> tuple[ServiceKey]:
    return (ServiceKey(key.namespace, key.name),)


def _own(look: Look, key: ServiceKey) -> ServiceObject | None:
    return find(look, ServiceObject, ObjectKey("Service", key.namespace, key.name))


def _own_ports(own: ServiceObject) -> tuple[ServicePort, ...]:
    return tuple(ServicePort(port.name, port.port, port.protocol) for port in own.spec.ports)


def _discovered(look: Look, key: ServiceKey) -> tuple[tuple[str, DiscoveredService], ...]:
    found = ((at.source, look(DISCOVERED_SERVICES, at)) for at in look.keys(DISCOVERED_SERVICES_BY_NAME, key))
    return tuple((source, row) for source, row in found if row is not None)


def _ports(tellers: Iterable[tuple[ServicePort, ...]]) -> dict[tuple[int, bool], ServicePort]:
    ports: dict[tuple[int, bool], ServicePort] = {}
    for told in tellers:
        for port in told:
            ports.setdefault((port.port, port.udp), port)
    return ports


def _tellers(own: ServiceObject | None, rows: Iterable[tuple[str, DiscoveredService]]) -> list[tuple[ServicePort, ...]]:
    """The ports as each source tells them, the one that is believed first: our own object, then sources by name."""
    return [*([_own_ports(own)] if own is not None else []), *(row.ports for _, row in rows)]


@derived("services", each(OBJECTS, _declared_service), each(DISCOVERED_SERVICES, _discovered_service))
def SERVICES(key: ServiceKey, look: Look) -> Service | None:  # noqa: N802
    """Each service once, merged over its sources; where they differ on a port number our own object is believed."""
    own = _own(look, key)
    rows = _discovered(look, key)
    if own is None and not rows:
        return None
    labels: dict[str, str] = {}
    for _, row in reversed(rows):
        labels |= dict(row.labels)
    exports = {namespace for _, row in rows for namespace in row.export_to}
    if own is not None:
        labels |= own.metadata.labels
        exports |= set(own.spec.export_to)
    ports = _ports(_tellers(own, rows))
    return Service(
        ports=tuple(ports[number] for number in sorted(ports)),
        labels=tuple(sorted(labels.items())),
        export_to=tuple(sorted(exports - {OWN_NAMESPACE})),
        external_name=next((row.external_name for _, row in rows if row.external_name), ""),
        sources=(*(["fairlead.dev"] if own is not None else []), *(source for source, _ in rows)),
        own=own is not None,
    )


def _visibility(key: ServiceKey, row: Service) -> Iterable[tuple[str, int]]:
    part = visible_part(key)
    return ((namespace, part) for namespace in (key.namespace, *row.export_to))


def visible_part(key: ServiceKey) -> int:
    """The part of `VISIBLE` in which a service is."""
    return zlib.crc32("/".join(key).encode()) % VISIBLE_PARTS


SERVICES_BY_VISIBILITY = SERVICES.index("visibility", _visibility)


@derived(
    "endpoints",
    each(OBJECTS, _declared_service),
    each(DISCOVERED_SERVICES, _discovered_service),
    each(DISCOVERED_ENDPOINTS, lambda key, _: (ServiceKey(key.namespace, key.service),)),
)
def ENDPOINTS(key: ServiceKey, look: Look) -> ServiceEndpoints | None:  # noqa: N802
    """The endpoints of each service, of all sources; there is a row (perhaps empty) for every service."""
    service = look(SERVICES, key)
    if service is None:
        return None
    names = {(port.port, port.udp): port.name for port in service.ports}
    told = {source: row.ports for source, row in _discovered(look, key)}
    endpoints: set[Endpoint] = set()
    for at in look.keys(DISCOVERED_ENDPOINTS_BY_SERVICE, key):
        row = look(DISCOVERED_ENDPOINTS, at)
        if row is not None:
            renamed = _renames(told.get(at.source, ()), names)
            endpoints.update(_renamed(endpoint, renamed) for endpoint in row.endpoints)
    own = _own(look, key)
    ours = _own_endpoints(own) if own is not None else ()
    return ServiceEndpoints(endpoints=tuple(sorted(endpoints.union(ours))), own=ours)


def _renames(told: tuple[ServicePort, ...], names: Mapping[tuple[int, bool], str]) -> dict[str, str]:
    """How a source's port names differ from the merged service's, which sources share by port number."""
    return {port.name: name for port in told if (name := names.get((port.port, port.udp), port.name)) != port.name}


def _renamed(endpoint: Endpoint, renamed: Mapping[str, str]) -> Endpoint:
    if not renamed:
        return endpoint
    ports = tuple(sorted((renamed.get(name, name), number) for name, number in endpoint.ports))
    return msgspec.structs.replace(endpoint, ports=ports)


def _own_endpoints(own: ServiceObject) -> tuple[Endpoint, ...]:
    """The endpoints as written; a port that one leaves out is served at the service port's own number."""
    numbers = {port.name: port.port for port in own.spec.ports}
    return tuple(sorted(endpoint_of(written, {**numbers, **written.ports}) for written in own.spec.endpoints))


def endpoint_of(written: ServiceEndpoint, ports: Mapping[str, int]) -> Endpoint:
    """An endpoint that somebody wrote down, with the numbers at which it serves its ports."""
    return Endpoint(
        address=written.address,
        ports=tuple(sorted(ports.items())),
        labels=tuple(sorted(written.labels.items())),
        weight=written.weight,
        locality=Locality(written.region, written.zone, written.sub_zone),
        health=written.health,
        priority=written.priority,
        service_account=written.service_account,
        mesh_tls=written.mesh_tls,
        for_zones=tuple(sorted(set(written.for_zones))),
    )


def clients_of(audience: Audience) -> ClientsKey | None:
    """The clients that proxies of an audience belong to; a gateway's are none."""
    if audience.kind == "gateway":
        return None
    return ClientsKey(audience.namespace, audience.kind == "grpc")


def _visible(key: Audience, _row: Connected) -> Iterable[VisibleKey]:
    clients = clients_of(key)
    return (VisibleKey(clients, part) for part in range(VISIBLE_PARTS)) if clients is not None else ()


@derived("visible", each(AUDIENCES, _visible))
def VISIBLE(key: VisibleKey, look: Look) -> Visible | None:  # noqa: N802
    """What sidecars and gRPC clients may see, in parts: among thousands of services a new one costs its part alone."""
    own = look.keys(SERVICES_BY_VISIBILITY, (key.clients.namespace, key.part))
    everywhere = look.keys(SERVICES_BY_VISIBILITY, (EVERYWHERE, key.part))
    services = tuple(sorted({*own, *everywhere}))
    return Visible(services) if services else None


@derived(
    "subsets",
    each(OBJECTS, lambda key, _: (SubsetKey(key.namespace, key.name),) if key.kind == "ServiceSubset" else ()),
)
def SUBSETS(key: SubsetKey, look: Look) -> Subset | None:  # noqa: N802
    """Each `ServiceSubset`, whether its service exists or not."""
    subset = find(look, ServiceSubset, ObjectKey("ServiceSubset", key.namespace, key.name))
    if subset is None:
        return None
    labels = tuple(sorted(subset.spec.labels.items()))
    fallback = tuple(tuple(sorted(each.labels.items())) for each in subset.spec.fallback)
    return Subset(ServiceKey(key.namespace, subset.spec.service), labels, fallback)
