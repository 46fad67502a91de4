"""Virtual hosts: the routes of one hostname, in the order in which Envoy shall try them.

A request that finds its virtual host and no route in it is answered 404; it never falls through to a wider hostname
(Gateway API, HTTPRouteSpec.hostnames). Envoy sees to that itself where all hosts stand in one route configuration; in
a scope (`scoped_routes`) a last route answers 404. Virtual hosts exist as bytes, ready to be joined into either.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mesh.envoy_patches import Patched
from mesh.hostnames import ANY
from mesh.kinds.trafficpolicy import EndpointSelection
from mesh.results import Results
from mesh.tables import Reader
from mesh.tries import Limits
from xds.resources import requirement as needed
from xds.schema import encode
from xds.schema.types import Route, VirtualHost
from xds.translate.composite import filled
from xds.translate.endpoint_selection import select_endpoints
from xds.translate.envoy_patch import patch_message
from xds.translate.framing import encode_checked, framed
from xds.translate.http_filters import BACKEND_REWRITE
from xds.translate.http_route import BuiltRoute, OrderedRoute
from xds.translate.jwt_authn import set_requirement
from xds.translate.names import with_members
from xds.translate.retry import set_default_retry
from xds.translate.timeouts import limit_stream, set_timeouts

MISDIRECTED = 421
NOT_FOUND = 404
NO_ROUTE = "no-route"

_ROUTES = 3  # the field number of `VirtualHost.routes`
_VIRTUAL_HOSTS = 2  # the field number of `RouteConfiguration.virtual_hosts`


class BuiltVirtualHost(msgspec.Struct, frozen=True):
    """A virtual host as bytes, and the clusters and requirements (`jwt_authn`) that its routes name.

    `head` are its encoded fields up to its routes, `tail` those that follow, and `closing` is the route that ends it
    inside a scope. `results` says what became of the objects that had a part in the tail. It
    `runs_code` of users where one of its routes does, and `follows` redirects where one does.
    """

    head: bytes
    tail: bytes = b""
    closing: bytes = b""
    clusters: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    results: Results = ()
    runs_code: bool = False
    follows: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """What a proxy must have before this is sent."""
        return frozenset((*self.clusters, *map(needed, self.requirements)))

    @property
    def framed(self) -> bytes:
        """The virtual host as a field of a route configuration that holds all hosts."""
        return framed(_VIRTUAL_HOSTS, self.head + self.tail)

    @property
    def framed_in_scope(self) -> bytes:
        """The same as a field of a scope's route configuration."""
        return framed(_VIRTUAL_HOSTS, self.head + self.closing + self.tail)


def _defaults() -> bytes:
    host = VirtualHost()
    set_default_retry(host.retry_policy)
    return encode(host)


def _closing() -> bytes:
    route = Route()
    route.name = NO_ROUTE
    route.match.prefix = "/"
    route.direct_response.status = NOT_FOUND
    return framed(_ROUTES, encode(route))


def _tail(requirement: str) -> bytes:
    """The fields after the routes: whose tokens are needed where that is said, and the defaults."""
    if not requirement:
        return _DEFAULTS
    host = VirtualHost()
    set_requirement(host, requirement)
    return encode(host) + _DEFAULTS


_CLOSING = _closing()
_DEFAULTS = _defaults()  # fields of higher numbers than `routes`


def domain(hostname: str) -> str:
    """A hostname as Envoy's domain: any host is `*`."""
    return "*" if hostname == ANY else hostname


def virtual_host(
    name: str,
    domains: Iterable[str],
    routes: Iterable[tuple[int, BuiltRoute]],
    *,
    closed: bool = False,
    requirement: str = "",
) -> BuiltVirtualHost:
    """The virtual host with all routes of several route objects, sorted by the objects' ranks, then by precedence.

    `closed`: a request must not be looked for beyond it in a scope, where a last route then answers 404.
    `requirement` is whose tokens its requests need unless a route names another (`jwt_authn`).
    """
    head = VirtualHost()
    head.name = name
    head.domains.extend(domains)
    parts = [encode_checked(head)]
    clusters: set[str] = set()
    requirements = {requirement} if requirement else set()
    ordered: list[tuple[int, OrderedRoute]] = []
    for rank, built in routes:
        ordered.extend((rank, route) for route in built.routes)
        clusters.update(built.clusters)
        requirements.update(built.requirements)
    ordered.sort(key=lambda ranked: (ranked[0], ranked[1].order))
    parts.extend(route.framed for _, route in ordered)
    return BuiltVirtualHost(
        head=b"".join(parts),
        tail=_tail(requirement),
        closing=_CLOSING if closed else b"",
        clusters=tuple(sorted(clusters)),
        requirements=tuple(sorted(requirements)),
        runs_code=any(route.runs_code for _, route in ordered),
        follows=any(route.follows for _, route in ordered),
    )


def patched_host(
    look: Reader, built: BuiltVirtualHost, name: str, domains: Iterable[str], target: Patched, sections: frozenset[str]
) -> BuiltVirtualHost:
    """A virtual host with the EnvoyPatches for it, which see and change all of it but its hosts and routes."""
    bare = VirtualHost.FromString(built.tail)
    bare.name = name
    bare.domains.extend(domains)
    made, results = patch_message(look, bare, target, sections)
    if not results:
        return built
    made.ClearField("name")
    made.ClearField("domains")
    return msgspec.structs.replace(built, tail=encode(made), results=results)


def service_host(
    name: str,
    domains: Iterable[str],
    cluster: str,
    *,
    limits: Limits,
    selection: EndpointSelection | None = None,
    grpc: bool = False,
) -> BuiltVirtualHost:
    """The virtual host of a service to which no route is attached: everything goes to its cluster.

    `selection` is how requests choose among its endpoints, where they do.
    """
    host = VirtualHost()
    host.name = name
    host.domains.extend(domains)
    route = host.routes.add()
    route.name = name
    route.match.prefix = "/"
    route.route.cluster = cluster
    if selection is not None:
        route.typed_per_filter_config[BACKEND_REWRITE].CopyFrom(filled(select_endpoints(selection)))
    set_timeouts(route.route, limits.whole)
    if grpc:
        limit_stream(route.route)
    set_default_retry(host.retry_policy, per_try_timeout=limits.each)
    return BuiltVirtualHost(head=encode(host), clusters=with_members(cluster))


def misdirected_host(hostname: str) -> BuiltVirtualHost:
    """The virtual host that answers 421 for a hostname that belongs to another listener of the port.

    A client that reuses a TLS connection for a second host (RFC 9113 §9.1.1) then opens one of its own for it.
    """
    host = VirtualHost()
    host.name = f"misdirected/{domain(hostname)}"
    host.domains.append(domain(hostname))
    route = host.routes.add()
    route.match.prefix = "/"
    route.name = "misdirected"
    route.direct_response.status = MISDIRECTED
    return BuiltVirtualHost(head=encode(host))
