"""Endpoints: the `ClusterLoadAssignment` of a service port.

Endpoints are grouped by priority and locality, all sorted, so that equal sets give equal bytes. What each rule is for:
- a locality carries the sum of its endpoints' weights: gRPC ignores localities without one, and Envoy then splits
  between localities exactly as between endpoints;
- the weights of a priority sum to less than 2^32, as Envoy's API demands (Envoy 1.40 does not look, gRPC refuses more);
  where merged sources exceed that, all are scaled down together, to no less than 1 each;
- priorities are renumbered without gaps: Envoy would read a gap as an empty priority, gRPC refuses it;
- an endpoint of weight 0 is left out: Envoy's weights begin at 1, and 0 means "send it nothing";
- an address and port that two sources tell of counts once, the first in sorted order;
- `DRAINING` and the other health words are passed on as told; only Envoy knows who is in flight.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from mesh.kinds.trafficpolicy import EndpointSelection, LocalityName, LocalityPolicy, LocalityWeight
from mesh.model import Endpoint, Health, Locality
from xds.schema.types import ClusterLoadAssignment, HealthStatus
from xds.translate.endpoint_selection import selected_by, set_selected_by
from xds.translate.mutual_tls import mark

MAX_TOTAL_WEIGHT = 2**32 - 1
LOCALITY_SHARES = 1_000_000  # what the weights of all localities of a priority come to where a policy gives them

_HEALTH: dict[Health, int] = {
    "Healthy": HealthStatus.HEALTHY,
    "Degraded": HealthStatus.DEGRADED,
    "Draining": HealthStatus.DRAINING,
    "Unhealthy": HealthStatus.UNHEALTHY,
    "Unknown": HealthStatus.UNKNOWN,
}


class Address(NamedTuple):
    """An endpoint as one port of its service sees it."""

    address: str
    port: int
    weight: int
    health: Health
    mutual: bool = False
    selected_by: tuple[str, ...] = ()


Localities = dict[Locality, list[Address]]


def is_ip(address: str) -> bool:
    """Whether an address is an IP address; otherwise it is a DNS name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return True


def load_assignment(
    name: str,
    endpoints: Iterable[Endpoint],
    *,
    port_name: str,
    places: LocalityPolicy | None = None,
    selection: EndpointSelection | None = None,
    mutual: Callable[[Endpoint, int], bool] | None = None,
    check_port: int = 0,
) -> Any:
    """The assignment called `name` with those endpoints that serve the port; empty if none does.

    `places` says how localities share the traffic and `selection` how requests choose, where a policy does. `mutual`
    tells whether an endpoint with a certificate is spoken to over mutual TLS at a port; without it none is.
    `check_port` is where health checks ask, if not at the endpoint's own port.
    """
    assignment = ClusterLoadAssignment()
    assignment.cluster_name = name
    priorities = _grouped(endpoints, port_name, places.failover or () if places is not None else (), selection, mutual)
    for rank, priority in enumerate(sorted(priorities)):
        localities = _fitting(priorities[priority])
        weights = locality_weights(localities, places.weights or () if places is not None else ())
        for locality in sorted(localities):
            weight = weights.get(locality)
            group = assignment.endpoints.add()
            _add_locality(group, locality, localities[locality], priority=rank, weight=weight)
            for added in group.lb_endpoints if check_port else ():
                added.endpoint.health_check_config.port_value = check_port
    if places is not None and places.overprovisioning_percent is not None:
        assignment.policy.overprovisioning_factor.value = places.overprovisioning_percent
    return assignment


def locality_weights(localities: Localities, places: Sequence[LocalityWeight]) -> dict[Locality, int]:
    """The weights that a policy gives to localities, 0 to one that it does not name; empty: those of their endpoints.

    A place of several localities shares its weight among them by their endpoints' weights. Where none of the named
    places has an endpoint the policy says nothing: traffic that could go somewhere does.
    """
    found: dict[int, list[Locality]] = {}
    for locality in localities:
        at = place_of(locality, places)
        if at < len(places):
            found.setdefault(at, []).append(locality)
    total = sum(places[at].weight for at in found)
    if not total:
        return {}
    weights = dict.fromkeys(localities, 0)
    for at, members in found.items():
        sizes = {locality: sum(address.weight for address in localities[locality]) for locality in members}
        whole = sum(sizes.values())
        for locality, size in sizes.items():
            share = places[at].weight * LOCALITY_SHARES * size // (total * whole)
            weights[locality] = max(1, share) if places[at].weight else 0
    return weights


def place_of(locality: Locality, places: Sequence[LocalityName]) -> int:
    """The number of the first place that a locality is in, as far as the place is named; their count for none."""
    for number, place in enumerate(places):
        wanted = (place.region, place.zone, place.sub_zone)
        if all(not name or name == has for name, has in zip(wanted, locality, strict=True)):
            return number
    return len(places)


def _grouped(
    endpoints: Iterable[Endpoint],
    port_name: str,
    failover: Sequence[LocalityName],
    selection: EndpointSelection | None,
    mutual: Callable[[Endpoint, int], bool] | None,
) -> dict[tuple[int, int], Localities]:
    """The addresses that serve a port, by priority (a source's own, then the order of places) and locality."""
    groups: dict[tuple[int, int], Localities] = {}
    seen: set[tuple[str, int]] = set()
    for endpoint in endpoints:
        for name, number in endpoint.ports:
            if name == port_name and endpoint.weight > 0 and (endpoint.address, number) not in seen:
                seen.add((endpoint.address, number))
                place = place_of(endpoint.locality, failover) if failover else 0
                localities = groups.setdefault((endpoint.priority, place), {})
                over_tls = endpoint.mesh_tls and mutual is not None and mutual(endpoint, number)
                chosen = selected_by(selection, endpoint) if selection is not None else ()
                localities.setdefault(endpoint.locality, []).append(
                    Address(endpoint.address, number, endpoint.weight, endpoint.health, over_tls, chosen)
                )
    return groups


def _fitting(localities: Localities) -> Localities:
    """The localities of one priority with weights whose sum Envoy can hold."""
    total = sum(address.weight for addresses in localities.values() for address in addresses)
    if total <= MAX_TOTAL_WEIGHT:
        return localities
    room = MAX_TOTAL_WEIGHT - sum(len(addresses) for addresses in localities.values())
    return {
        locality: [address._replace(weight=1 + address.weight * room // total) for address in addresses]
        for locality, addresses in localities.items()
    }


def _add_locality(
    group: Any, locality: Locality, addresses: list[Address], *, priority: int, weight: int | None
) -> None:
    group.locality.region = locality.region
    group.locality.zone = locality.zone
    group.locality.sub_zone = locality.sub_zone
    group.priority = priority
    if weight is None:
        group.load_balancing_weight.value = sum(address.weight for address in addresses)
    elif weight:
        group.load_balancing_weight.value = weight
    for address in addresses:
        added = group.lb_endpoints.add()
        at = added.endpoint.address.socket_address
        at.address = address.address
        at.port_value = address.port
        added.load_balancing_weight.value = address.weight
        if address.health != "Unknown":
            added.health_status = _HEALTH[address.health]
        if address.mutual:
            mark(added)
        if address.selected_by:
            set_selected_by(added, address.selected_by)
