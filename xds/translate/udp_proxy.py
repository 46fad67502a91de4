"""Datagrams passed on: `udp_proxy`, and the endpoints of a route with several backends.

`udp_proxy` knows no weighted clusters. So a UDPRoute with several backends has a cluster of its own that holds the
endpoints of all of them, each with its backend's share of the weight. A backend that cannot be resolved, or has no
endpoint, keeps its share, as Gateway API demands: it gets a dead end for an endpoint, a port of the proxy's own
loopback that nobody listens on. What is known by DNS name only cannot be among several backends, for it is not an
endpoint that EDS carries: its share ends there too. All of a client's datagrams go the same way while its session lasts
(one minute without any ends it, which is Envoy's own time).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mesh.kinds.trafficpolicy import LoadBalancer, TrafficSettings
from mesh.model import Endpoint
from xds.schema import pack
from xds.schema.types import UdpProxyConfig, UdpProxyRoute
from xds.translate.endpoint import is_ip, load_assignment
from xds.translate.names import MISSING_CLUSTER, stat_name
from xds.translate.stream_tables import StreamHost

FILTER = "envoy.filters.udp_listener.udp_proxy"
BY_WEIGHT = TrafficSettings(load_balancer=LoadBalancer(type="RoundRobin"))
"""Round robin keeps weights exactly; the fewest sessions would be a shift away from them."""

_SCALE = 1_000_000
_DEAD_END = ("127.0.0.1", 1)
_PORT = "udp"


class UdpShare(NamedTuple):
    """A backend's weight, its endpoints, and the name of its port there."""

    weight: int
    endpoints: Iterable[Endpoint]
    port_name: str


def add_udp_proxy(listener: Any, hosts: Sequence[StreamHost]) -> None:
    """Let it be the filter of a UDP listener that has its name."""
    shares = hosts[0].shares if hosts else ()
    route = UdpProxyRoute()
    route.cluster = (shares[0].cluster if shares else None) or MISSING_CLUSTER
    proxy = UdpProxyConfig()
    proxy.stat_prefix = stat_name(listener.name)
    action = proxy.matcher.on_no_match.action
    action.name = "route"
    action.typed_config.CopyFrom(pack(route))
    listener.udp_listener_config.SetInParent()
    filter_ = listener.listener_filters.add()
    filter_.name = FILTER
    filter_.typed_config.CopyFrom(pack(proxy))


def shared_assignment(name: str, shares: Iterable[UdpShare]) -> Any:
    """The endpoints of several backends, so weighted that each backend gets its share."""
    merged: list[Endpoint] = []
    for share in shares:
        found = _serving(share)
        total = sum(weight for _, weight in found)
        for (address, port), weight in found:
            scaled = max(1, share.weight * _SCALE * weight // total)
            merged.append(Endpoint(address, ((_PORT, port),), weight=scaled))
    return load_assignment(name, merged, port_name=_PORT)


def _serving(share: UdpShare) -> list[tuple[tuple[str, int], int]]:
    """The addresses that serve the port in the first priority that has any, with their weights."""
    places: dict[int, list[tuple[tuple[str, int], int]]] = {}
    for one in share.endpoints:
        if one.weight and one.health not in ("Unhealthy", "Draining") and is_ip(one.address):
            places.setdefault(one.priority, []).extend(
                ((one.address, number), one.weight) for name, number in one.ports if name == share.port_name
            )
    served = [found for _, found in sorted(places.items()) if found]
    return served[0] if served else [(_DEAD_END, 1)]
