"""The load reporting service: what proxies say about the traffic to each cluster, kept and shown."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from xds.schema.types import LoadStatsRequest, LoadStatsResponse
from xds.server.authentication import Proof
from xds.server.gatekeeper import Gatekeeper, read_message
from xds.server.rpc import END, stream_method

SERVICE: Final = "envoy.service.load_stats.v3.LoadReportingService"

INTERVAL_SECONDS: Final = 10.0
# Envoy's name for a client that can be told "all clusters" (docs/root/api/client_features.rst).
_ALL_CLUSTERS: Final = "envoy.lrs.supports_send_all_clusters"
# What is kept of a report, at most.
_CLUSTERS: Final = 20_000
_NAME_LENGTH: Final = 1_024


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
    """The last report of every stream, so that no stream touches what another told, whatever node it says it is.

    Proxies are asked to report every `interval` seconds.
    """

    def __init__(self, interval: float = INTERVAL_SECONDS) -> None:
        self.interval = interval
        self.on_report: Callable[[Iterable[Load]], None] = lambda _: None
        """Told of each report once: what it counts is since the proxy's last one."""
        self._of: dict[Hashable, tuple[str, dict[str, Load]]] = {}

    def of(self, node_id: str) -> tuple[Load, ...]:
        """What a proxy last reported, sorted by cluster; of several streams of one id, each cluster's latest."""
        found = {name: load for node, loads in self._of.values() if node == node_id for name, load in loads.items()}
        return tuple(load for _, load in sorted(found.items()))

    def nodes(self) -> list[str]:
        """The proxies that report, sorted."""
        return sorted({node for node, _ in self._of.values()})

    def cluster(self, name: str) -> Mapping[str, Load]:
        """Node id → its last report about a cluster."""
        return {node: loads[name] for node, loads in sorted(self._of.values(), key=_node) if name in loads}

    def take(self, stream: Hashable, node_id: str, cluster_stats: Any) -> None:
        """Keep the report in a request: what it tells of clusters that had requests.

        Envoy names every cluster it has; to keep 3,000 idle ones would hold up all streams for 15 ms every ten seconds.
        """
        loads = {
            stats.cluster_name: _load(stats)
            for stats in islice(cluster_stats, _CLUSTERS)
            if _busy(stats) and 0 < len(stats.cluster_name) <= _NAME_LENGTH
        }
        self._of.pop(stream, None)
        self._of[stream] = node_id, loads
        self.on_report(loads.values())

    def forget(self, stream: Hashable) -> None:
        """A stream has ended."""
        self._of.pop(stream, None)


def _node(kept: tuple[str, dict[str, Load]]) -> str:
    return kept[0]


def methods(loads: Loads, gate: Gatekeeper) -> Mapping[str, Any]:
    """The method of the service."""

    async def stream_load_stats(_: Any, context: Any) -> None:
        await gate.hear(context, lambda proof: _serve(loads, gate, context, proof))

    return {"StreamLoadStats": stream_method(stream_load_stats)}


async def _serve(loads: Loads, gate: Gatekeeper, context: Any, proof: Proof | None) -> None:
    stream = object()
    first = read_message(LoadStatsRequest, await gate.first_message(context))
    node_id = gate.proxy(first.node, proof).node_id
    await context.write(_instructions(first, loads.interval))
    try:
        loads.take(stream, node_id, first.cluster_stats)
        del first
        while (raw := await context.read()) is not END:
            loads.take(stream, node_id, read_message(LoadStatsRequest, raw).cluster_stats)
    finally:
        loads.forget(stream)


def _instructions(request: Any, interval: float) -> bytes:
    """What the proxy shall report, and how often: the first message of the stream is ours (T6)."""
    response = LoadStatsResponse()
    if _ALL_CLUSTERS in request.node.client_features:
        response.send_all_clusters = True
    else:
        response.clusters.extend(stats.cluster_name for stats in request.cluster_stats)
    response.load_reporting_interval.FromMilliseconds(round(interval * 1_000))
    message: bytes = response.SerializeToString()
    return message


def _busy(stats: Any) -> bool:
    return bool(stats.upstream_locality_stats) or stats.total_dropped_requests > 0


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
