"""The tables that turn route objects and hostnames into virtual hosts, for gateways and for clients inside the mesh."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.attachments import HostKey, service_routes
from mesh.backends import Backend
from mesh.envoy_patches import Patched
from mesh.model import AUDIENCES, Audience, Connected, ObjectKey, ServiceKey
from mesh.request_authentication import Guarded
from mesh.request_routes import find_request_route
from mesh.services import SERVICES, VISIBLE, ClientsKey, clients_of
from mesh.tables import Look, derived, each
from mesh.tries import of_backends
from xds.translate.gateway_tables import HOSTS, Host
from xds.translate.http_route import BuiltRoute, RouteAt, build_route
from xds.translate.jwt_authn import requirement_name
from xds.translate.names import cluster_name, mesh_authority
from xds.translate.redirect import Entrance
from xds.translate.scoped_routes import is_broad
from xds.translate.sidecar import domains, http_ports
from xds.translate.traffic import endpoint_selection, with_failover
from xds.translate.virtual_host import (
    BuiltVirtualHost,
    domain,
    misdirected_host,
    patched_host,
    service_host,
    virtual_host,
)

# Inside the mesh there is no listener whose port a redirect could mean.
MESH_ENTRANCE = Entrance("http", 0)


class SeenKey(NamedTuple):
    """A service that such clients may see."""

    clients: ClientsKey
    service: ServiceKey


class SeenPortKey(NamedTuple):
    """A port of such a service."""

    clients: ClientsKey
    service: ServiceKey
    port: int


class Clients(msgspec.Struct, frozen=True):
    """That such clients are connected, or lately were."""


class Seen(msgspec.Struct, frozen=True):
    """The numbers of a service's HTTP ports."""

    ports: tuple[int, ...]


class SeenPort(msgspec.Struct, frozen=True):
    """What is in front of a service's port: its HTTP ports, and the routes that apply on the way to it."""

    ports: tuple[int, ...]
    routes: tuple[ObjectKey, ...]


def _clients(key: Audience, _row: Connected) -> tuple[ClientsKey, ...]:
    clients = clients_of(key)
    return (clients,) if clients is not None else ()


@derived("clients", each(AUDIENCES, _clients))
def CLIENTS(key: ClientsKey, look: Look) -> Clients:  # noqa: N802, ARG001
    """All groups of clients."""
    return Clients()


@derived("seen", each(VISIBLE, lambda key, row: (SeenKey(key.clients, service) for service in row.services)))
def SEEN(key: SeenKey, look: Look) -> Seen | None:  # noqa: N802
    """The services that clients can reach over HTTP."""
    service = look(SERVICES, key.service)
    ports = http_ports(service.ports) if service is not None else ()
    return Seen(tuple(port.port for port in ports)) if ports else None


def _seen_ports(key: SeenKey, row: Seen) -> Iterable[SeenPortKey]:
    return (SeenPortKey(key.clients, key.service, port) for port in row.ports)


@derived("seen_ports", each(SEEN, _seen_ports))
def SEEN_PORTS(key: SeenPortKey, look: Look) -> SeenPort | None:  # noqa: N802
    """The ports of seen services with the routes attached to them."""
    seen = look(SEEN, SeenKey(key.clients, key.service))
    if seen is None:
        return None
    routes = service_routes(look, client_namespace=key.clients.namespace, service=key.service, port=key.port)
    return SeenPort(ports=seen.ports, routes=routes)


def _at_gateway(_key: HostKey, row: Host) -> Iterable[RouteAt]:
    entrance = Entrance(row.scheme, row.chain.port, row.unjudged)
    return (RouteAt(route, entrance, section=row.section, place=row.place) for route in row.routes)


def _at_service(key: SeenPortKey, row: SeenPort) -> Iterable[RouteAt]:
    return (RouteAt(route, MESH_ENTRANCE, key.clients.grpc) for route in row.routes)


@derived("routes", each(HOSTS, _at_gateway), each(SEEN_PORTS, _at_service))
def ROUTES(key: RouteAt, look: Look) -> BuiltRoute | None:  # noqa: N802
    """Each route object as Envoy routes, once for all places where it means the same."""
    route = find_request_route(look, key.route)
    return build_route(look, key, route) if route is not None else None


@derived("virtual_hosts", each(HOSTS))
def VIRTUAL_HOSTS(key: HostKey, look: Look) -> BuiltVirtualHost | None:  # noqa: N802
    """The virtual host of each hostname on a gateway's listener."""
    host = look(HOSTS, key)
    if host is None:
        return None
    if host.misdirected:
        return misdirected_host(key.hostname)
    built = zip(host.ranks or (0,) * len(host.routes), (look(ROUTES, at) for at in _at_gateway(key, host)), strict=True)
    name = domain(key.hostname)
    routes = [(rank, route) for rank, route in built if route is not None]
    requirement = requirement_name(host.section, Guarded()) if host.section else ""
    whole = virtual_host(name, (name,), routes, closed=not is_broad(key.hostname), requirement=requirement)
    target = Patched("Gateway", *key.gateway, "VirtualHost")
    return patched_host(look, whole, name, (name,), target, frozenset({key.listener}))


@derived("service_hosts", each(SEEN_PORTS))
def SERVICE_HOSTS(key: SeenPortKey, look: Look) -> BuiltVirtualHost | None:  # noqa: N802
    """The virtual host of each service port that clients see; routes attached to it replace the plain way to it."""
    seen = look(SEEN_PORTS, key)
    if seen is None:
        return None
    backend = Backend(key.service, key.port)
    name = cluster_name(backend)
    if key.clients.grpc:
        hosts: tuple[str, ...] = (mesh_authority(key.service, key.port),)
    else:
        hosts = domains(key.service, key.port, of=seen.ports, namespace=key.clients.namespace)
    if not seen.routes:
        limits = of_backends(look, [backend])
        if key.clients.grpc:
            return service_host(name, hosts, name, limits=limits, grpc=True)
        cluster = cluster_name(with_failover(look, backend))
        return service_host(name, hosts, cluster, limits=limits, selection=endpoint_selection(look, backend))
    built = (look(ROUTES, at) for at in _at_service(key, seen))
    return virtual_host(name, hosts, [(0, route) for route in built if route is not None])


SERVICE_HOSTS_BY_CLIENTS = SERVICE_HOSTS.index("clients", lambda key, _: (key.clients,))
