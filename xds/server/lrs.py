"""The load reporting service: what proxies say about the traffic to each cluster, kept and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from xds.schema.types import LoadStatsRequest, LoadStatsResponse
from xds.server.node_identity import InvalidNodeError, identify
from xds.server.rpc import END, stream_method

SERVICE: Final = "envoy.service.load_stats.v3.LoadReportingService"

_INTERVAL_SECONDS: Final = 10
# Envoy's name for a client that can be told "all clusters" (docs/root/api/client_features.rst).
_ALL_CLUSTERS: Final = "envoy.lrs.supports_send_all_clusters"
_CLUSTERS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of one proxy to one cluster in its last reporting interval."""

    cluster: str
    succeeded: int
    failed: int
    in_progress: int
    dropped: int
    issued: int
    interval_seconds: float


class Loads:
    """The last report of every connected proxy, by node id and cluster."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Load]] = {}

    def of(self, node_id: str) -> tuple[Load, ...]:
        """What a proxy last reported, sorted by cluster."""
        return tuple(load for _, load in sorted(self._of.get(node_id, {}).items()))

    def nodes(self) -> list[str]:
        """The proxies that report, sorted."""
        return sorted(self._of)

    def cluster(self, name: str) -> Mapping[str, Load]:
        """Node id → its last report about a cluster."""
        return {node: loads[name] for node, loads in sorted(self._of.items()) if name in loads}

    def take(self, node_id: str, cluster_stats: Any) -> None:
        """Keep the report in a request."""
        self._of[node_id] = {
            stats.cluster_name: _load(stats) for stats in list(cluster_stats)[:_CLUSTERS] if stats.cluster_name
        }

    def forget(self, node_id: str) -> None:
        """A proxy has gone."""
        self._of.pop(node_id, None)


def methods(loads: Loads) -> Mapping[str, Any]:
    """The method of the service."""

    async def stream_load_stats(_: Any, context: Any) -> None:
        await _serve(loads, context)

    return {"StreamLoadStats": stream_method(stream_load_stats)}


async def _serve(loads: Loads, context: Any) -> None:
    node_id = ""
    try:
        while (raw := await context.read()) is not END:
            request = LoadStatsRequest.FromString(raw)
            if not node_id:
                node_id = identify(request.node).node_id
                await context.write(_instructions(request))
            loads.take(node_id, request.cluster_stats)
    except (DecodeError, InvalidNodeError) as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    finally:
        loads.forget(node_id)


def _instructions(request: Any) -> bytes:
    """What the proxy shall report, and how often: the first message of the stream is ours (T6)."""
    response = LoadStatsResponse()
    if _ALL_CLUSTERS in request.node.client_features:
        response.send_all_clusters = True
    else:
        response.clusters.extend(stats.cluster_name for stats in request.cluster_stats)
    response.load_reporting_interval.seconds = _INTERVAL_SECONDS
    message: bytes = response.SerializeToString()
    return message


def _load(stats: Any) -> Load:
    localities = stats.upstream_locality_stats
    return Load(
        cluster=stats.cluster_name,
        succeeded=sum(locality.total_successful_requests for locality in localities),
        failed=sum(locality.total_error_requests for locality in localities),
        in_progress=sum(locality.total_requests_in_progress for locality in localities),
        dropped=stats.total_dropped_requests,
        issued=sum(locality.total_issued_requests for locality in localities),
        interval_seconds=stats.load_report_interval.seconds + stats.load_report_interval.nanos / 1e9,
    )
