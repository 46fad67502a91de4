"""Connections passed on as they are: a `tcp_proxy` with one cluster, or several by weight.

A backend that cannot be resolved keeps its share: its connections go to a cluster that never exists, and are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.kinds.duration import milliseconds
from xds.schema import pack
from xds.schema.types import TcpProxy
from xds.translate.names import MISSING_CLUSTER, stat_name
from xds.translate.stream_tables import StreamShare
from xds.translate.timeouts import set_duration

FILTER = "envoy.filters.network.tcp_proxy"


def add_tcp_proxy(filter_chain: Any, shares: Sequence[StreamShare], *, idle: str | None = None) -> None:
    """Let it be the last network filter of a chain that has its name. `idle`: how long nothing may move (1 h)."""
    proxy = TcpProxy()
    proxy.stat_prefix = stat_name(filter_chain.name)
    if idle is not None:
        set_duration(proxy.idle_timeout, milliseconds(idle))
    if len(shares) > 1:
        for share in shares:
            weighted = proxy.weighted_clusters.clusters.add()
            weighted.name = share.cluster or MISSING_CLUSTER
            weighted.weight = share.weight
    else:
        proxy.cluster = (shares[0].cluster if shares else None) or MISSING_CLUSTER
    filter_ = filter_chain.filters.add()
    filter_.name = FILTER
    filter_.typed_config.CopyFrom(pack(proxy))
