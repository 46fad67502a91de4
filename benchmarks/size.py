"""How large a run is. Owns the two sizes; must not measure.

`FULL` is what the bars are stated for. `SMALL` runs every row within seconds, so that the unit tests can hold them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """The numbers of one run; rates are per second, durations in seconds."""

    name: str
    services: int
    endpoints: int
    proxies: int
    fanout: tuple[int, ...]
    fanout_changes: int
    envoy_changes: int
    rate: float
    rate_seconds: float
    rate_drain: float
    hosts: tuple[int, ...]
    route_changes: int
    filter_requests: int
    byte_hosts: int
    byte_proxies: int
    large_services: int
    large_endpoints: int
    large_hosts: int
    derivation_services: tuple[int, ...]
    derivation_changes: int
    cluster_routes: tuple[int, ...]
    cluster_window: int
    cluster_changes: int
    cluster_change_pause: float
    cluster_attached: int
    cluster_gateways: int
    cluster_services: int
    cluster_endpoint_changes: int
    idle_seconds: float
    certificates: int
    agents: int
    agent_life: float


FULL = Size(
    name="full",
    services=1000,
    endpoints=5,
    proxies=200,
    fanout=(50, 200, 1000),
    fanout_changes=100,
    envoy_changes=200,
    rate=100,
    rate_seconds=20,
    rate_drain=60,
    hosts=(10, 300, 3000, 10_000),
    route_changes=40,
    filter_requests=20_000,
    byte_hosts=1000,
    byte_proxies=10,
    large_services=5000,
    large_endpoints=10,
    large_hosts=3000,
    derivation_services=(100, 1000, 5000),
    derivation_changes=1000,
    cluster_routes=(300, 3000),
    cluster_window=300,
    cluster_changes=100,
    cluster_change_pause=0.1,
    cluster_attached=1000,
    cluster_gateways=5,
    cluster_services=50,
    cluster_endpoint_changes=200,
    idle_seconds=20,
    certificates=20_000,
    agents=2000,
    agent_life=100,
)

SMALL = Size(
    name="small",
    services=2,
    endpoints=2,
    proxies=2,
    fanout=(1, 2),
    fanout_changes=2,
    envoy_changes=2,
    rate=20,
    rate_seconds=0.5,
    rate_drain=20,
    hosts=(2,),
    route_changes=2,
    filter_requests=500,
    byte_hosts=2,
    byte_proxies=1,
    large_services=2,
    large_endpoints=2,
    large_hosts=2,
    derivation_services=(2,),
    derivation_changes=2,
    cluster_routes=(2, 4),
    cluster_window=2,
    cluster_changes=3,
    cluster_change_pause=0.1,
    cluster_attached=3,
    cluster_gateways=1,
    cluster_services=2,
    cluster_endpoint_changes=3,
    idle_seconds=1,
    certificates=200,
    agents=50,
    agent_life=5,
)

SIZES = {size.name: size for size in (FULL, SMALL)}
