"""The service that Envoy's metrics sink pushes to: how long answers of clusters took. All else is passed over.

A proxy tells all its metrics at each flush, in messages of the bootstrap's choosing. While nobody asks how long
answers took, they are not even decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from xds.schema.types import StreamMetricsMessage
from xds.server.authentication import Proof
from xds.server.gatekeeper import Gatekeeper, read_message
from xds.server.rpc import END, stream_method

SERVICE: Final = "envoy.service.metrics.v3.MetricsService"

_TIME: Final = "cluster.upstream_rq_time"  # as Envoy names it once the cluster's name is a label
_CLUSTER: Final = "envoy.cluster_name"
_BUCKETS: Final = 128  # Envoy has 20 unless told otherwise
_MOST: Final = 2**53


class Times:
    """What proxies tell is handed on: the cluster's statistics' name, and how many answers took no longer than a bound.

    The counts are of one flush, the bounds in milliseconds. `wanted` names the clusters that are asked for.
    """

    def __init__(self) -> None:
        self.wanted: Callable[[], frozenset[str]] = frozenset
        self.on_times: Callable[[str, Mapping[float, int]], None] = lambda _name, _buckets: None

    def take(self, raw: bytes) -> None:
        """A message. Raises `RefusedError`."""
        wanted = self.wanted()
        if not wanted:
            return
        for family in read_message(StreamMetricsMessage, raw).envoy_metrics:
            if family.name != _TIME:
                continue
            for metric in family.metric:
                name = next((label.value for label in metric.label if label.name == _CLUSTER), "")
                if name in wanted and (buckets := _buckets(metric.histogram)):
                    self.on_times(name, buckets)


def _buckets(histogram: Any) -> dict[float, int]:
    """The counts by bound; nothing where they are none that can be."""
    found = {bucket.upper_bound: bucket.cumulative_count for bucket in histogram.bucket[:_BUCKETS]}
    found[math.inf] = histogram.sample_count
    counts = [count for _, count in sorted(found.items())]
    sound = not any(math.isnan(bound) for bound in found) and counts == sorted(counts) and counts[-1] <= _MOST
    return found if sound and counts[-1] else {}


def methods(times: Times, gate: Gatekeeper) -> Mapping[str, Any]:
    """The method of the service."""

    async def stream_metrics(_: Any, context: Any) -> None:
        await gate.hear(context, lambda proof: _serve(times, gate, context, proof))

    return {"StreamMetrics": stream_method(stream_metrics)}


async def _serve(times: Times, gate: Gatekeeper, context: Any, proof: Proof | None) -> None:
    first = await gate.first_message(context)
    gate.proxy(read_message(StreamMetricsMessage, first).identifier.node, proof)
    times.take(first)
    while (raw := await context.read()) is not END:
        times.take(raw)
