"""The kinds of routes, by name: what of them is the same whatever they carry.

Whoever only asks where a route attaches and since when it exists needs not know its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mesh.kinds.grpcroute import GRPCRoute
from mesh.kinds.httproute import HTTPRoute
from mesh.kinds.tcproute import TCPRoute
from mesh.kinds.tlsroute import TLSRoute
from mesh.kinds.udproute import UDPRoute
from mesh.model import ObjectKey
from mesh.objects import find
from mesh.tables import Reader

Route = HTTPRoute | GRPCRoute | TLSRoute | TCPRoute | UDPRoute
StreamRoute = TLSRoute | TCPRoute | UDPRoute

STREAM_KINDS: Mapping[str, type[StreamRoute]] = MappingProxyType(
    {"TLSRoute": TLSRoute, "TCPRoute": TCPRoute, "UDPRoute": UDPRoute}
)
"""Routes that carry connections or datagrams as they are."""
ROUTE_TYPES: Mapping[str, type[Route]] = MappingProxyType(
    {"HTTPRoute": HTTPRoute, "GRPCRoute": GRPCRoute, **STREAM_KINDS}
)


def find_route(look: Reader, key: ObjectKey) -> Route | None:
    """The route of that key, of whatever kind."""
    kind = ROUTE_TYPES.get(key.kind)
    return find(look, kind, key) if kind is not None else None


def find_stream_route(look: Reader, key: ObjectKey) -> StreamRoute | None:
    """The route of that key, if it is one that carries streams."""
    kind = STREAM_KINDS.get(key.kind)
    return find(look, kind, key) if kind is not None else None


def hostnames(route: Route) -> tuple[str, ...]:
    """The hostnames that a route names; none where it takes those of the listener, or its kind has none."""
    return route.spec.hostnames if isinstance(route, HTTPRoute | GRPCRoute | TLSRoute) else ()
