"""Failover to other backends: an aggregate cluster over the clusters of a backend and of those that take over.

Envoy takes the priorities of all members for one list, and goes on to the next as far as the healthy endpoints of those
before do not suffice (`overprovisioningPercent`), so gone and unhealthy endpoints are left alike. Each member keeps its
own TLS, health checks, outlier detection, circuit breakers and choice of an endpoint; connections are the members' own,
which other routes share.

What Envoy reads of the cluster that a route names, and so has to stand here as in the backend's own: its HTTP options
with their retries and times, and how many retries there may be at once. All other limits are the members'. Envoy's
`previous_priorities` knows no members (Envoy's page on aggregate clusters), so it is left out.

The members are in its name (`names.cluster_name`). Other members are therefore another cluster, to which routes go over
when all of it is there, and the one before leaves when no route names it: nothing is changed under a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mesh.kinds.trafficpolicy import CircuitBreaker, LoadBalancer, TrafficSettings
from mesh.model import Protocol
from xds.schema import pack
from xds.schema.types import AggregateClusterConfig, Cluster
from xds.translate.circuit_breakers import set_circuit_breakers
from xds.translate.names import stat_name
from xds.translate.upstream_http import set_http_options

AGGREGATE = "envoy.clusters.aggregate"


def aggregate_cluster(name: str, members: Sequence[str], *, protocol: Protocol, policy: TrafficSettings | None) -> Any:
    """The cluster that goes to the first of its members that can answer; `policy` is that of the first."""
    cluster = Cluster()
    cluster.name = name
    cluster.alt_stat_name = stat_name(name)
    cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    config = AggregateClusterConfig()
    config.clusters.extend(members)
    cluster.cluster_type.name = AGGREGATE
    cluster.cluster_type.typed_config.CopyFrom(pack(config))
    set_circuit_breakers(cluster, _only_retries(policy.circuit_breaker if policy is not None else None))
    set_http_options(cluster, protocol, _without_priorities(policy))
    return cluster


def instead_of_panic(policy: TrafficSettings) -> TrafficSettings:
    """What holds for a backend from which others take over: unhealthy endpoints get nothing, unless it says when.

    Envoy gives a backend with few healthy endpoints less, and what that still gets would go to all of its endpoints.
    """
    balancer = policy.load_balancer or LoadBalancer()
    if balancer.panic_threshold is not None:
        return policy
    return msgspec.structs.replace(policy, load_balancer=msgspec.structs.replace(balancer, panic_threshold=0))


def _only_retries(breaker: CircuitBreaker | None) -> CircuitBreaker | None:
    if breaker is None:
        return None
    return CircuitBreaker(max_retries=breaker.max_retries, retry_budget=breaker.retry_budget)


def _without_priorities(policy: TrafficSettings | None) -> TrafficSettings | None:
    if policy is None or policy.retry is None:
        return policy
    return msgspec.structs.replace(policy, retry=msgspec.structs.replace(policy.retry, attempts_per_priority=None))
