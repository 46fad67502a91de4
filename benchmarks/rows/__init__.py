"""The rows of the table, one module each, in the table's order. Each has a `NAME` and `run(bench)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from benchmarks.bench import Row
from benchmarks.rows import (
    cold_start,
    connect_cold,
    consul_change,
    consul_restart,
    consul_size,
    derivation,
    endpoint_fanout,
    endpoint_rate,
    endpoint_to_envoy,
    filters_cost,
    issuing,
    kubernetes_attached,
    kubernetes_change,
    kubernetes_endpoint,
    kubernetes_gateway,
    kubernetes_routes,
    kubernetes_size,
    proxy_memory,
    reconnect,
    renewals,
    route_bytes,
    route_to_envoy,
)

ANYWHERE: Sequence[Row] = [
    cast("Row", module)
    for module in (
        endpoint_to_envoy,
        endpoint_fanout,
        endpoint_rate,
        derivation,
        route_to_envoy,
        route_bytes,
        filters_cost,
        connect_cold,
        reconnect,
        cold_start,
        proxy_memory,
        issuing,
        renewals,
    )
]
IN_CONSUL: Sequence[Row] = [cast("Row", module) for module in (consul_change, consul_restart, consul_size)]
"""Those that need a Consul, and have no peer."""
IN_CLUSTER: Sequence[Row] = [
    cast("Row", module)
    for module in (
        kubernetes_routes,
        kubernetes_change,
        kubernetes_attached,
        kubernetes_gateway,
        kubernetes_endpoint,
        kubernetes_size,
    )
]
"""Those that need a Kubernetes; last, for a local node that they start goes on to run."""
ROWS: Sequence[Row] = [*ANYWHERE, *IN_CONSUL, *IN_CLUSTER]
