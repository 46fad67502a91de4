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
from collections.abc import Iterable
from typing import Any, NamedTuple

from mesh.model import Endpoint, Health, Locality
from xds.schema.types import ClusterLoadAssignment, HealthStatus

MAX_TOTAL_WEIGHT = 2**32 - 1

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


Localities = dict[Locality, list[Address]]


def is_ip(address: str) -> bool:
    """Whether an address is an IP address; otherwise it is a DNS name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return True


def load_assignment(name: str, endpoints: Iterable[Endpoint], *, port_name: str) -> Any:
    """The assignment called `name` with those endpoints that serve the port; empty if none does."""
    assignment = ClusterLoadAssignment()
    assignment.cluster_name = name
    priorities = _grouped(endpoints, port_name)
    for rank, priority in enumerate(sorted(priorities)):
        localities = _fitting(priorities[priority])
        for locality in sorted(localities):
            _add_locality(assignment.endpoints.add(), locality, localities[locality], priority=rank)
    return assignment


def _grouped(endpoints: Iterable[Endpoint], port_name: str) -> dict[int, Localities]:
    """The addresses that serve a port, by priority and locality."""
    groups: dict[int, Localities] = {}
    seen: set[tuple[str, int]] = set()
    for endpoint in endpoints:
        for name, number in endpoint.ports:
            if name == port_name and endpoint.weight > 0 and (endpoint.address, number) not in seen:
                seen.add((endpoint.address, number))
                localities = groups.setdefault(endpoint.priority, {})
                localities.setdefault(endpoint.locality, []).append(
                    Address(endpoint.address, number, endpoint.weight, endpoint.health)
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


def _add_locality(group: Any, locality: Locality, addresses: list[Address], *, priority: int) -> None:
    group.locality.region = locality.region
    group.locality.zone = locality.zone
    group.locality.sub_zone = locality.sub_zone
    group.priority = priority
    group.load_balancing_weight.value = sum(address.weight for address in addresses)
    for address in addresses:
        added = group.lb_endpoints.add()
        at = added.endpoint.address.socket_address
        at.address = address.address
        at.port_value = address.port
        added.load_balancing_weight.value = address.weight
        if address.health != "Unknown":
            added.health_status = _HEALTH[address.health]
