"""What Envoy's metrics sink pushes: only how long answers of wanted clusters took is read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.xds_client import WAIT, TinyMesh, cluster, node, serving, until
from xds.schema.types import LoadStatsRequest, StreamMetricsMessage
from xds.server import lrs, metrics_sink
from xds.server.gatekeeper import RefusedError
from xds.server.metrics_sink import Times

NAME = "default/shop_80"


def message(name: str = NAME, *, family: str = "cluster.upstream_rq_time", count: int = 4, told: bool = False) -> bytes:
    made = StreamMetricsMessage()
    if told:
        made.identifier.node.CopyFrom(node())
    metric = made.envoy_metrics.add(name=family).metric.add()
    metric.label.add(name="envoy.cluster_name", value=name)
    metric.histogram.sample_count = count
    for bound, below in ((1.0, 1), (5.0, 3)):
        metric.histogram.bucket.add(upper_bound=bound, cumulative_count=below)
    raw: bytes = made.SerializeToString()
    return raw


def taken(raw: bytes, *wanted: str) -> list[tuple[str, Mapping[float, int]]]:
    times, found = Times(), list[tuple[str, Mapping[float, int]]]()
    times.wanted = lambda: frozenset(wanted)
    times.on_times = lambda name, buckets: found.append((name, buckets))
    times.take(raw)
    return found


def test_the_times_of_wanted_clusters_are_handed_on_and_nothing_else() -> None:
    assert taken(message(), NAME) == [(NAME, {1.0: 1, 5.0: 3, math.inf: 4})]
    assert taken(message(), "other") == []
    assert taken(message(family="cluster.upstream_cx_length_ms"), NAME) == []


def test_while_nobody_asks_nothing_is_decoded_and_garbage_is_refused_otherwise() -> None:
    assert taken(b"\xff\xff") == []
    with pytest.raises(RefusedError):
        taken(b"\xff\xff", NAME)


def test_counts_that_cannot_be_are_passed_over() -> None:
    assert taken(message(count=2), NAME) == []
    assert taken(message(count=2**60), NAME) == []


@given(st.binary(max_size=300))
def test_no_bytes_break_it(raw: bytes) -> None:
    try:
        taken(raw, NAME)
    except RefusedError:
        return


async def test_a_proxy_pushes_to_the_server_and_both_its_reports_are_told() -> None:
    mesh = TinyMesh()
    mesh.put(cluster("c0"))
    async with (
        serving(mesh) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        asyncio.timeout(WAIT),
    ):
        timed: list[str] = []
        loads: list[lrs.Load] = []
        server.times.wanted = lambda: frozenset({NAME})
        server.times.on_times = lambda name, _: timed.append(name)
        server.loads.on_report = loads.extend
        call = channel.stream_unary(f"/{metrics_sink.SERVICE}/StreamMetrics")()
        await call.write(message(told=True))
        await call.write(message())
        await until(lambda: timed == [NAME, NAME])
        call.cancel()
        report = LoadStatsRequest(node=node())
        stats = report.cluster_stats.add(cluster_name="c0")
        stats.upstream_locality_stats.add(total_successful_requests=5, total_error_requests=1)
        told = channel.stream_stream(f"/{lrs.SERVICE}/StreamLoadStats")()
        await told.write(report.SerializeToString())
        await until(lambda: bool(loads))
        assert [(load.succeeded, load.failed) for load in loads] == [(5, 1)]
        told.cancel()


async def test_who_does_not_say_which_proxy_it_is_is_refused() -> None:
    async with (
        serving(TinyMesh()) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        asyncio.timeout(WAIT),
    ):
        call = channel.stream_unary(f"/{metrics_sink.SERVICE}/StreamMetrics")()
        await call.write(message())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
