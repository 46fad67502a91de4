"""The rows of the table, one module each, in the table's order. Each has a `NAME` and `run(bench)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from benchmarks.bench import Row
from benchmarks.rows import (
    cold_start,
    connect_cold,
    derivation,
    endpoint_fanout,
    endpoint_rate,
    endpoint_to_envoy,
    proxy_memory,
    reconnect,
    route_bytes,
    route_to_envoy,
)

ROWS: Sequence[Row] = [
    cast("Row", module)
    for module in (
        endpoint_to_envoy,
        endpoint_fanout,
        endpoint_rate,
        derivation,
        route_to_envoy,
        route_bytes,
        connect_cold,
        reconnect,
        cold_start,
        proxy_memory,
    )
]
