"""The tables of route configurations and scopes: virtual hosts joined into what is sent.

What can grow large is joined in two steps, hosts into parts and parts into the whole, so that one changed virtual host
among N costs about √N look-ups and one pass over the bytes: the route configuration of sidecars, which names every
service they may see, and those of gateways over state-of-the-world, which hold all hosts of a filter chain. The latter
are made only while such proxies are there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.attachments import HostKey, ListenerKey
from mesh.gateways import Gateway, GatewayKey
from mesh.hostnames import ANY
from mesh.services import ClientsKey
from mesh.tables import Look, derived, each
from xds.resources import Resource, ResourceKey
from xds.schema.type_urls import TYPE_ROUTE, TYPE_SCOPED_ROUTE
from xds.translate import names
from xds.translate.framing import resource
from xds.translate.gateway_tables import (
    ENTRANCES,
    HOSTS,
    HOSTS_BY_RESOURCE,
    SHARED_HOSTS,
    SOTW_GATEWAYS,
    ChainKey,
    Host,
    HostOnPort,
    ListenerEntrance,
    SharedHost,
    chains,
)
from xds.translate.route_configuration import route_configuration
from xds.translate.route_tables import CLIENTS, SERVICE_HOSTS, VIRTUAL_HOSTS, Clients, SeenPortKey
from xds.translate.scoped_routes import scope_name, scoped_route_configuration, shared_chain
from xds.translate.sidecar import EGRESS
from xds.translate.virtual_host import BuiltVirtualHost, misdirected_host

PARTS_PER_CONFIGURATION = 64


class PartKey(NamedTuple):
    """One of the parts in which a route configuration is joined; hosts are spread over them by name."""

    configuration: ResourceKey
    part: int


class Part(msgspec.Struct, frozen=True):
    """The framed virtual hosts of a part, what they need, and whether one of them runs code of users."""

    framed: bytes
    needs: frozenset[str]
    runs_code: bool


def _part(configuration: ResourceKey, name: str) -> PartKey:
    return PartKey(configuration, zlib.crc32(name.encode()) % PARTS_PER_CONFIGURATION)


def _service_part(key: SeenPortKey, _row: BuiltVirtualHost) -> tuple[PartKey, ...]:
    return () if key.clients.grpc else (_part(egress_routes_key(key.clients), f"{key.service}:{key.port}"),)


def egress_routes_key(clients: ClientsKey) -> ResourceKey:
    """The route configuration that all sidecars of a namespace share."""
    return ResourceKey(TYPE_ROUTE, EGRESS, names.clients_scope(clients.namespace, grpc=False))


def chain_routes_key(chain: ChainKey) -> ResourceKey:
    """The route configuration that holds all hosts of a gateway's filter chain."""
    return ResourceKey(TYPE_ROUTE, chain.name, chain.scope)


def _gateway_part(key: HostKey, row: Host) -> tuple[PartKey, ...]:
    return (_part(chain_routes_key(row.chain), key.hostname),)


def _chains(key: GatewayKey, row: Gateway) -> tuple[ResourceKey, ...]:
    return tuple(chain_routes_key(chain) for chain in chains(key, row))


def _chain_parts(key: GatewayKey, row: Gateway) -> Iterable[PartKey]:
    return (PartKey(routes, part) for routes in _chains(key, row) for part in range(PARTS_PER_CONFIGURATION))


def _shared_part(key: HostOnPort, row: SharedHost) -> tuple[PartKey, ...]:
    """The part of every chain of its port; the configuration is nobody's, and named after what they have in common."""
    shared = ResourceKey(TYPE_ROUTE, shared_chain(row.resource.name.partition("/")[0]), row.resource.scope)
    return (_part(shared, key.hostname),)


def _shared_with(key: PartKey) -> PartKey:
    """Where SHARED_HOSTS of a chain's part are found."""
    configuration = key.configuration
    return PartKey(ResourceKey(configuration.type_url, shared_chain(configuration.name), configuration.scope), key.part)


SERVICE_HOSTS_BY_PART = SERVICE_HOSTS.index("part", _service_part)
HOSTS_BY_PART = HOSTS.index("part", _gateway_part)
SHARED_HOSTS_BY_PART = SHARED_HOSTS.index("part", _shared_part)
SHARED_HOSTS_BY_RESOURCE = SHARED_HOSTS.index("resource", lambda _, row: (row.resource,))


@derived("route_parts", each(SERVICE_HOSTS, _service_part), each(SOTW_GATEWAYS, _chain_parts))
def ROUTE_PARTS(key: PartKey, look: Look) -> Part | None:  # noqa: N802
    """The parts of large route configurations: those that sidecars share, and those of gateways' chains."""
    own = look.keys(HOSTS_BY_PART, key)
    at_gateway = (look(VIRTUAL_HOSTS, host) for host in own)
    hosts = [*look.rows(SERVICE_HOSTS_BY_PART, key), *(host for host in at_gateway if host is not None)]
    known = {host.hostname for host in own}
    shared = look.keys(SHARED_HOSTS_BY_PART, _shared_with(key)) if key.configuration.name.startswith("https-") else ()
    hosts += [misdirected_host(at.hostname) for at in shared if at.hostname not in known]
    if not hosts:
        return None
    return Part(
        framed=b"".join(host.framed for host in hosts),
        needs=_needs(hosts),
        runs_code=any(host.runs_code for host in hosts),
    )


PARTS_BY_CONFIGURATION = ROUTE_PARTS.index("configuration", lambda key, _: (key.configuration,))


def _egress(key: ClientsKey, _row: Clients) -> tuple[ResourceKey, ...]:
    return () if key.grpc else (egress_routes_key(key),)


@derived("egress_routes", each(CLIENTS, _egress))
def EGRESS_ROUTES(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """What the sidecars of a namespace may reach, shared by all of them; the port of a Host header counts here."""
    return _joined(key, look, ignore_port=False)


@derived("gateway_routes", each(SOTW_GATEWAYS, _chains))
def GATEWAY_ROUTES(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """All hosts of each filter chain, wildcards and any host included, for gateways over state-of-the-world."""
    return _joined(key, look, ignore_port=True)


def _joined(key: ResourceKey, look: Look, *, ignore_port: bool) -> Resource:
    parts = look.rows(PARTS_BY_CONFIGURATION, key)
    asleep = not any(part.runs_code for part in parts)
    content = route_configuration(key.name, (part.framed for part in parts), ignore_port=ignore_port, asleep=asleep)
    return resource(key.type_url, key.name, content, needs=set().union(*(part.needs for part in parts)))


def _scope(_key: HostKey, row: Host) -> tuple[ResourceKey, ...]:
    return (row.resource,)


def _broad_scope(_key: ListenerKey, row: ListenerEntrance) -> tuple[ResourceKey, ...]:
    return (ResourceKey(TYPE_SCOPED_ROUTE, scope_name(row.chain.name, ANY), row.chain.scope),)


def _shared_scope(_key: HostOnPort, row: SharedHost) -> tuple[ResourceKey, ...]:
    return (row.resource,)


@derived("scoped_routes", each(HOSTS, _scope), each(ENTRANCES, _broad_scope), each(SHARED_HOSTS, _shared_scope))
def SCOPED_ROUTES(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The scopes of gateways' filter chains; each chain has its broad one, be it empty, and HTTPS ports share some."""
    rows = (look(VIRTUAL_HOSTS, host) for host in look.keys(HOSTS_BY_RESOURCE, key))
    hosts = [row for row in rows if row is not None]
    hosts += [misdirected_host(at.hostname) for at in look.keys(SHARED_HOSTS_BY_RESOURCE, key)]
    awake = any(host.runs_code for host in hosts)
    follows = any(host.follows for host in hosts)
    content = scoped_route_configuration(
        key.name, (host.framed_in_scope for host in hosts), awake=awake, follows=follows
    )
    return resource(key.type_url, key.name, content, needs=_needs(hosts))


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
    return resource(key.type_url, key.name, content, needs=_needs(hosts))


def _needs(hosts: Iterable[BuiltVirtualHost]) -> frozenset[str]:
    """What proxies must have before routes of these hosts are sent."""
    return frozenset(need for host in hosts for need in host.needs)
