"""Endpoints: the `ClusterLoadAssignment` of a service port.

Endpoints are grouped by priority and locality, all sorted, so that equal sets give equal bytes. What each rule is for:
- a locality carries the sum of its endpoints' weights: gRPC ignores localities without one, and Envoy then splits
  between localities exactly as between endpoints;
- priorities are renumbered without gaps: Envoy would read a gap as an empty priority, gRPC refuses it;
- an endpoint of weight 0 is left out: Envoy's weights begin at 1, and 0 means "send it nothing";
- an address and port that two sources tell of counts once, the first in sorted order;
- `DRAINING` and the other health words are passed on as told; only Envoy knows who is in flight.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mesh.model import Endpoint, Health, Locality
from xds.schema.types import ClusterLoadAssignment, HealthStatus

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
    rank = -1
    previous = None
    for (priority, locality), addresses in _grouped(endpoints, port_name):
        if priority != previous:
            previous, rank = priority, rank + 1
        _add_locality(assignment.endpoints.add(), locality, addresses, priority=rank)
    return assignment


def _grouped(endpoints: Iterable[Endpoint], port_name: str) -> Iterator[tuple[tuple[int, Locality], list[Address]]]:
    groups: dict[tuple[int, Locality], list[Address]] = {}
    seen: set[tuple[str, int]] = set()
    for endpoint in endpoints:
        for name, number in endpoint.ports:
            if name == port_name and endpoint.weight > 0 and (endpoint.address, number) not in seen:
                seen.add((endpoint.address, number))
                groups.setdefault((endpoint.priority, endpoint.locality), []).append(
                    Address(endpoint.address, number, endpoint.weight, endpoint.health)
                )
    for key in sorted(groups):
        yield key, groups[key]


def _add_locality(group: Any, locality: Locality, addresses: list[Address], *, priority: int) -> None:
    group.locality.region = locality.region
    group.locality.zone = locality.zone
    group.locality.sub_zone = locality.sub_zone
    group.priority = priority
    group.load_balancing_weight.value = min(sum(address.weight for address in addresses), 2**32 - 1)
    for address in addresses:
        added = group.lb_endpoints.add()
        at = added.endpoint.address.socket_address
        at.address = address.address
        at.port_value = address.port
        added.load_balancing_weight.value = address.weight
        if address.health != "Unknown":
            added.health_status = _HEALTH[address.health]
