"""The tables of route configurations and scopes: virtual hosts joined into what is sent.

A large route configuration is joined in two steps, hosts into parts and parts into the whole, so that one changed
virtual host among N costs about √N look-ups and one pass over the bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.attachments import HostKey
from mesh.tables import Look, derived, each
from xds.resources import Resource, ResourceKey
from xds.schema.type_urls import TYPE_ROUTE, TYPE_SCOPED_ROUTE
from xds.translate import names
from xds.translate.framing import resource
from xds.translate.gateway_tables import HOSTS, HOSTS_BY_RESOURCE, ROUTINGS, ChainKey, Host, Routing
from xds.translate.route_configuration import route_configuration
from xds.translate.route_tables import CLIENTS, SERVICE_HOSTS, VIRTUAL_HOSTS, Clients, ClientsKey, SeenPortKey
from xds.translate.scoped_routes import (
    MIXED_CASE,
    chain_and_host,
    mixed_case_scope,
    scope_name,
    scoped_route_configuration,
)
from xds.translate.sidecar import EGRESS
from xds.translate.virtual_host import BuiltVirtualHost, misdirected_host

PARTS_PER_CONFIGURATION = 64


class PartKey(NamedTuple):
    """One of the parts in which a route configuration is joined; hosts are spread over them by name."""

    configuration: ResourceKey
    part: int


class Part(msgspec.Struct, frozen=True):
    """The framed virtual hosts of a part, and the clusters that they name."""

    framed: bytes
    clusters: frozenset[str]


def _part(configuration: ResourceKey, name: str) -> PartKey:
    return PartKey(configuration, zlib.crc32(name.encode()) % PARTS_PER_CONFIGURATION)


def _host_part(key: HostKey, row: Host) -> tuple[PartKey, ...]:
    return (_part(row.resource, key.hostname),) if row.resource.type_url == TYPE_ROUTE else ()


def _service_part(key: SeenPortKey, _row: BuiltVirtualHost) -> tuple[PartKey, ...]:
    return () if key.clients.grpc else (_part(egress_routes_key(key.clients), f"{key.service}:{key.port}"),)


def egress_routes_key(clients: ClientsKey) -> ResourceKey:
    """The route configuration that all sidecars of a namespace share."""
    return ResourceKey(TYPE_ROUTE, EGRESS, names.clients_scope(clients.namespace, grpc=False))


HOSTS_BY_PART = HOSTS.index("part", _host_part)
SERVICE_HOSTS_BY_PART = SERVICE_HOSTS.index("part", _service_part)


@derived("route_parts", each(HOSTS, _host_part), each(SERVICE_HOSTS, _service_part))
def ROUTE_PARTS(key: PartKey, look: Look) -> Part | None:  # noqa: N802
    """The parts of all route configurations."""
    hosts = [*_hosts(look, look.keys(HOSTS_BY_PART, key)), *look.rows(SERVICE_HOSTS_BY_PART, key)]
    clusters = frozenset(cluster for host in hosts for cluster in host.clusters)
    return Part(framed=b"".join(host.framed for host in hosts), clusters=clusters)


PARTS_BY_CONFIGURATION = ROUTE_PARTS.index("configuration", lambda key, _: (key.configuration,))


def _over_rds(key: ChainKey, row: Routing) -> tuple[ResourceKey, ...]:
    return (ResourceKey(TYPE_ROUTE, key.name, key.scope),) if row.scoping is None else ()


ROUTINGS_BY_CONFIGURATION = ROUTINGS.index("configuration", _over_rds)


@derived("route_configurations", each(ROUTINGS, _over_rds))
def ROUTE_CONFIGURATIONS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The routes of each filter chain of a gateway that gets them over RDS."""
    misdirected = [
        misdirected_host(hostname)
        for routing in look.rows(ROUTINGS_BY_CONFIGURATION, key)
        for hostname in routing.misdirected
    ]
    return _configuration(look, key, misdirected, ignore_port=True)


def _egress(key: ClientsKey, _row: Clients) -> tuple[ResourceKey, ...]:
    return () if key.grpc else (egress_routes_key(key),)


@derived("egress_routes", each(CLIENTS, _egress))
def EGRESS_ROUTES(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """What the sidecars of a namespace may reach, shared by all of them; the port of a Host header counts here."""
    return _configuration(look, key, (), ignore_port=False)


def _configuration(look: Look, key: ResourceKey, more: Iterable[bytes], *, ignore_port: bool) -> Resource:
    parts = look.rows(PARTS_BY_CONFIGURATION, key)
    content = route_configuration(key.name, (*(part.framed for part in parts), *more), ignore_port=ignore_port)
    return resource(key.type_url, key.name, content, needs=set().union(*(part.clusters for part in parts)))


def _scope(_key: HostKey, row: Host) -> tuple[ResourceKey, ...]:
    return (row.resource,) if row.resource.type_url == TYPE_SCOPED_ROUTE else ()


def _mixed_case(key: ChainKey, row: Routing) -> tuple[ResourceKey, ...]:
    if row.scoping is None:
        return ()
    return (ResourceKey(TYPE_SCOPED_ROUTE, scope_name(key.name, MIXED_CASE), key.scope),)


@derived("scoped_routes", each(HOSTS, _scope), each(ROUTINGS, _mixed_case))
def SCOPED_ROUTES(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The scopes of the filter chains that have them, and for each such chain the one for capital letters."""
    chain, host = chain_and_host(key.name)
    if host == MIXED_CASE:
        return resource(key.type_url, key.name, mixed_case_scope(chain))
    hosts = _hosts(look, look.keys(HOSTS_BY_RESOURCE, key))
    content = scoped_route_configuration(key.name, (host.framed for host in hosts))
    return resource(key.type_url, key.name, content, needs=_clusters(hosts))


def _grpc_route(key: SeenPortKey, _row: BuiltVirtualHost) -> tuple[ResourceKey, ...]:
    return (grpc_route_key(key),) if key.clients.grpc else ()


def grpc_route_key(key: SeenPortKey) -> ResourceKey:
    """The route configuration of a service port for the gRPC clients of a namespace."""
    scope = names.clients_scope(key.clients.namespace, grpc=True)
    return ResourceKey(TYPE_ROUTE, names.mesh_authority(key.service, key.port), scope)


SERVICE_HOSTS_BY_GRPC_ROUTE = SERVICE_HOSTS.index("grpc_route", _grpc_route)


@derived("grpc_routes", each(SERVICE_HOSTS, _grpc_route))
def GRPC_ROUTES(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The routes of each service port that gRPC clients of a namespace see."""
    hosts = look.rows(SERVICE_HOSTS_BY_GRPC_ROUTE, key)
    content = route_configuration(key.name, (host.framed for host in hosts), ignore_port=False)
    return resource(key.type_url, key.name, content, needs=_clusters(hosts))


def _hosts(look: Look, keys: Iterable[HostKey]) -> list[BuiltVirtualHost]:
    rows = (look(VIRTUAL_HOSTS, key) for key in keys)
    return [row for row in rows if row is not None]


def _clusters(hosts: Iterable[BuiltVirtualHost]) -> set[str]:
    """The clusters that must be warm before routes of these hosts are sent."""
    return {cluster for host in hosts for cluster in host.clusters}
