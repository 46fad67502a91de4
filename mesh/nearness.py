"""Which endpoints come first for clients of a zone or on a node, where some are meant for it.

Kubernetes writes such hints into EndpointSlices (`trafficDistribution`, topology-aware routing); a `Service` of ours
may say `forZones`. They count as kube-proxy has it (KEP-2433, KEP-4444, KEP-3015): only when every endpoint that takes
traffic carries hints, so that a half-written set misleads nobody, and when one of them is for the client's node or else
its zone. Other than kube-proxy, Envoy then keeps the rest of the endpoints behind those, for when too few of them are
healthy.

A TrafficPolicy with `preferSameZone` says the same by where the endpoints are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mesh.model import Endpoint

_TAKES_NO_TRAFFIC = frozenset({"Draining", "Unhealthy"})


def zones_apart(endpoints: Sequence[Endpoint], *, same_zone: bool = False) -> frozenset[str]:
    """The zones whose clients see the endpoints in an order of their own; empty where all see them alike.

    `same_zone`: an endpoint without hints is for the zone it is in.
    """
    found: set[str] = set()
    for endpoint in endpoints:
        meant = _meant_for(endpoint, same_zone=same_zone)
        if endpoint.health not in _TAKES_NO_TRAFFIC:
            if not meant:
                return frozenset()
            found.update(meant)
    return frozenset(found)


def nodes_apart(endpoints: Sequence[Endpoint]) -> frozenset[str]:
    """The nodes whose clients see the endpoints in an order of their own; empty where all see them alike."""
    serving = [endpoint for endpoint in endpoints if endpoint.health not in _TAKES_NO_TRAFFIC]
    if not all(endpoint.for_nodes for endpoint in serving):
        return frozenset()
    return frozenset(name for endpoint in serving for name in endpoint.for_nodes)


def nearest_to_node(endpoints: Iterable[Endpoint], node: str, *, same_zone: bool = False) -> list[Endpoint]:
    """The endpoints as clients on a node see them: those meant for it, those meant for its zone, all others.

    Its zone is that of the endpoints which are meant for it: they are on it.
    """
    given = list(endpoints)
    near = [endpoint for endpoint in given if node in endpoint.for_nodes]
    rest = [endpoint for endpoint in given if node not in endpoint.for_nodes]
    zone = next((endpoint.locality.zone for endpoint in near if endpoint.locality.zone), "")
    if zone in zones_apart(given, same_zone=same_zone):
        rest = nearest_first(rest, zone, same_zone=same_zone)
    behind = 1 + max((endpoint.priority for endpoint in near), default=0)
    return [*near, *(msgspec.structs.replace(endpoint, priority=endpoint.priority + behind) for endpoint in rest)]


def nearest_first(endpoints: Iterable[Endpoint], zone: str, *, same_zone: bool = False) -> list[Endpoint]:
    """The endpoints as clients of a zone see them: those meant for it as they are, the others behind all of them."""
    given = list(endpoints)
    near = [endpoint for endpoint in given if zone in _meant_for(endpoint, same_zone=same_zone)]
    behind = 1 + max((endpoint.priority for endpoint in near), default=0)
    return [
        endpoint
        if zone in _meant_for(endpoint, same_zone=same_zone)
        else msgspec.structs.replace(endpoint, priority=endpoint.priority + behind)
        for endpoint in given
    ]


def _meant_for(endpoint: Endpoint, *, same_zone: bool) -> tuple[str, ...]:
    if endpoint.for_zones or not same_zone or not endpoint.locality.zone:
        return endpoint.for_zones
    return (endpoint.locality.zone,)
