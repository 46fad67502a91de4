from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.support.xds_client import WAIT, Client, TinyMesh, assignment, cluster, names, node, serving, until
from xds.resources import Resource
from xds.schema import message
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_SECRET
from xds.schema.types import (
    ClientStatusRequest,
    ClientStatusResponse,
    ConfigStatus,
    LoadStatsRequest,
    LoadStatsResponse,
)
from xds.server import csds, lrs
from xds.server.node_matchers import compiled
from xds.server.per_type import SERVICES


@pytest.fixture
def mesh() -> TinyMesh:
    made = TinyMesh()
    made.put(cluster("c0"), cluster("c1"), assignment("c0", 80), assignment("c1", 80))
    return made


@pytest.mark.parametrize("variant", ["delta", "sotw"])
@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_s15_every_type_has_a_service_of_its_own_that_implies_it(
    mesh: TinyMesh, service: str, variant: str
) -> None:
    type_url, sotw, delta = SERVICES[service]
    method = f"/{service}/{delta if variant == 'delta' else sotw}"
    async with serving(mesh) as server, Client(server.port, variant=variant, method=method) as client:
        asked: dict[str, Any] = {} if type_url != TYPE_ENDPOINT else {"subscribe": ["c0"], "names": ["c0"]}
        await client.send("", node=node(), **asked)
        if variant == "delta" or type_url in (TYPE_CLUSTER, TYPE_ENDPOINT):
            response = await client.receive_and_ack()
            assert response.type_url == type_url
            assert len(response.resources) == {TYPE_CLUSTER: 2, TYPE_ENDPOINT: 1}.get(type_url, 0)


async def unary(port: int, method: str, request: Any, answer: Any) -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(WAIT):
        raw = await channel.unary_unary(method)(request.SerializeToString())
        return answer.FromString(raw)


async def client_status(port: int, **fields: Any) -> dict[str, str]:
    response = await unary(
        port, f"/{csds.SERVICE}/FetchClientStatus", ClientStatusRequest(**fields), ClientStatusResponse
    )
    return {
        one.name: ConfigStatus.Name(one.config_status)
        for config in response.config
        for one in config.generic_xds_configs
    }


async def client_status_becomes(port: int, expected: dict[str, str]) -> None:
    async with asyncio.timeout(WAIT):
        while await client_status(port) != expected:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.01)


async def test_t7_csds_tells_what_each_proxy_made_of_each_resource(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        first = await client.receive()
        assert await client_status(server.port) == {"c0": "STALE", "c1": "STALE"}
        await client.ack(first)
        await client_status_becomes(server.port, {"c0": "SYNCED", "c1": "SYNCED"})
        mesh.put(cluster("c0", timeout=9))
        await client.ack(await client.receive(), error="cluster(s) c0: no")
        await client_status_becomes(server.port, {"c0": "ERROR", "c1": "SYNCED"})


async def test_t7_a_name_that_was_asked_for_in_vain_is_not_sent(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_SECRET, node=node(), subscribe=["nope"])
        await client.receive_and_ack()
        assert await client_status(server.port) == {"nope": "NOT_SENT"}


async def test_t7_csds_shows_contents_unless_it_is_told_not_to(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        method = f"/{csds.SERVICE}/FetchClientStatus"
        full = await unary(server.port, method, ClientStatusRequest(), ClientStatusResponse)
        assert full.config[0].node.id == "gateway~default~edge~1"
        assert full.config[0].generic_xds_configs[0].xds_config.type_url == TYPE_CLUSTER
        bare = await unary(
            server.port, method, ClientStatusRequest(exclude_resource_contents=True), ClientStatusResponse
        )
        assert not bare.config[0].generic_xds_configs[0].HasField("xds_config")


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        ({"node_id": {"exact": "gateway~default~edge~1"}}, True),
        ({"node_id": {"prefix": "GATEWAY~", "ignore_case": True}}, True),
        ({"node_id": {"suffix": "~2"}}, False),
        (
            {
                "node_metadatas": [
                    {"path": [{"key": "fairlead"}, {"key": "kind"}], "value": {"string_match": {"exact": "gateway"}}}
                ]
            },
            True,
        ),
        ({"node_metadatas": [{"path": [{"key": "nope"}], "value": {"present_match": True}}]}, False),
    ],
)
def test_t7_node_matchers_choose_proxies(matcher: dict[str, Any], expected: bool) -> None:
    made = message("envoy.type.matcher.v3.NodeMatcher")(**matcher)
    assert compiled([made])(node(metadata={"kind": "gateway"})) is expected
    assert compiled([])(node())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("gateway~.*~[0-9]", True), ("gateway~default", False), ("GATEWAY~.*", False), ("(?i)GATEWAY~.*", True)],
)
def test_t7_a_regular_expression_fits_the_whole_id_as_in_envoy(pattern: str, expected: bool) -> None:
    made = message("envoy.type.matcher.v3.NodeMatcher")(node_id={"safe_regex": {"regex": pattern}})
    assert compiled([made])(node()) is expected


@pytest.mark.parametrize(
    ("matcher", "said"),
    [
        ({"node_id": {"safe_regex": {"regex": "("}}}, "safe_regex"),
        ({"node_id": {"safe_regex": {"regex": "a" * 2_000}}}, "2000 characters"),
        ({"node_id": {}}, "nothing is not understood"),
        ({"node_id": {"custom": {"name": "x"}}}, "custom is not understood"),
        ({"node_metadatas": [{"path": [{"key": "a"}], "value": {"double_match": {"exact": 1}}}]}, "double_match"),
    ],
)
async def test_t7_a_matcher_that_is_not_understood_is_an_error_and_not_silence(
    mesh: TinyMesh, matcher: dict[str, Any], said: str
) -> None:
    async with serving(mesh) as server:
        with pytest.raises(grpc.aio.AioRpcError, match=said) as caught:
            await client_status(server.port, node_matchers=[matcher])
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_t7_an_answer_that_would_be_too_large_is_refused(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        with pytest.raises(csds.TooLargeError, match="exclude_resource_contents"):
            await csds.status(mesh.hub, ClientStatusRequest(), largest=100)


async def test_t7_other_work_goes_on_while_a_large_answer_is_made(mesh: TinyMesh) -> None:
    mesh.put(*(cluster(f"many-{number}") for number in range(2_000)))
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        answer = asyncio.get_running_loop().create_task(csds.status(mesh.hub, ClientStatusRequest()))
        turns = 0
        while not answer.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 2_000 / 100
        assert len(answer.result().config[0].generic_xds_configs) == 2_002


@pytest.mark.parametrize("method", [f"/{csds.SERVICE}/StreamClientStatus", f"/{lrs.SERVICE}/StreamLoadStats"])
async def test_side_services_are_closed_while_the_server_is_not_ready(mesh: TinyMesh, method: str) -> None:
    mesh.hub.ready = False
    async with serving(mesh) as server, Client(server.port, method=method) as client:
        await client.send_raw(LoadStatsRequest(node=node()).SerializeToString())
        code, said = await client.ended()
        assert code is grpc.StatusCode.UNAVAILABLE, said
        assert "not ready" in said


async def test_t6_load_reports_are_asked_for_first_kept_and_forgotten_with_the_stream(mesh: TinyMesh) -> None:
    async with (
        serving(mesh) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        asyncio.timeout(WAIT),
    ):
        call = channel.stream_stream(f"/{lrs.SERVICE}/StreamLoadStats")()
        asking = LoadStatsRequest(node=node(client_features=["envoy.lrs.supports_send_all_clusters"]))
        await call.write(asking.SerializeToString())
        instructions = LoadStatsResponse.FromString(await call.read())
        assert instructions.send_all_clusters
        assert instructions.load_reporting_interval.seconds == 10
        report = LoadStatsRequest()
        stats = report.cluster_stats.add(cluster_name="c0", total_dropped_requests=2)
        stats.upstream_locality_stats.add(total_successful_requests=5, total_error_requests=1, total_issued_requests=6)
        await call.write(report.SerializeToString())
        await until(lambda: server.loads.cluster("c0"))
        [load] = server.loads.of("gateway~default~edge~1")
        assert (load.succeeded, load.failed, load.issued, load.dropped) == (5, 1, 6, 2)
        call.cancel()
        await until(lambda: not server.loads.nodes())


async def test_t6_a_stream_that_says_it_is_another_proxy_leaves_its_reports_alone(mesh: TinyMesh) -> None:
    async with (
        serving(mesh) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        asyncio.timeout(WAIT),
    ):
        real, forged = (channel.stream_stream(f"/{lrs.SERVICE}/StreamLoadStats")() for _ in range(2))
        for call, name in ((real, "c0"), (forged, "c1")):
            report = LoadStatsRequest(node=node())
            report.cluster_stats.add(cluster_name=name, total_dropped_requests=1)
            await call.write(report.SerializeToString())
            await call.read()
        await until(lambda: server.loads.cluster("c0") and server.loads.cluster("c1"))
        forged.cancel()
        await until(lambda: not server.loads.cluster("c1"))
        assert [load.cluster for load in server.loads.of("gateway~default~edge~1")] == ["c0"]
        real.cancel()
        await until(lambda: not server.loads.nodes())


def test_a_load_report_leaves_clusters_without_requests_out() -> None:
    report = LoadStatsRequest()
    report.cluster_stats.add(cluster_name="idle").load_report_interval.seconds = 10
    busy = report.cluster_stats.add(cluster_name="busy")
    busy.upstream_locality_stats.add(total_requests_in_progress=1)
    loads = lrs.Loads()
    loads.take("stream", "edge-1", report.cluster_stats)
    assert [(load.cluster, load.in_progress) for load in loads.of("edge-1")] == [("busy", 1)]
    loads.take("stream", "edge-1", LoadStatsRequest().cluster_stats)
    assert loads.of("edge-1") == ()
    assert loads.nodes() == ["edge-1"]


async def test_health_follows_readiness(mesh: TinyMesh) -> None:
    async with serving(mesh) as server:
        method, request, answer = (
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest,
            health_pb2.HealthCheckResponse,
        )
        assert (await unary(server.port, method, request(), answer)).status == answer.SERVING
        mesh.hub.ready = False
        assert (await unary(server.port, method, request(), answer)).status == answer.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(server.port, method, request(service="nope"), answer)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def reflect(port: int, version: str = "v1alpha", **question: str) -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(WAIT):
        call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")()
        await call.write(reflection_pb2.ServerReflectionRequest(**question).SerializeToString())
        return reflection_pb2.ServerReflectionResponse.FromString(await call.read())


async def test_reflection_describes_the_services_that_there_are(mesh: TinyMesh) -> None:
    async with serving(mesh) as server:
        listed = await reflect(server.port, list_services="")
        assert "envoy.service.discovery.v3.AggregatedDiscoveryService" in {
            one.name for one in listed.list_services_response.service
        }
        described = await reflect(
            server.port, file_containing_symbol="envoy.service.discovery.v3.AggregatedDiscoveryService"
        )
        assert described.file_descriptor_response.file_descriptor_proto
        assert (await reflect(server.port, file_by_filename="nope.proto")).error_response.error_code == 5


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_can_describe_whatever_it_lists(mesh: TinyMesh, version: str) -> None:
    async with serving(mesh) as server:
        listed = (await reflect(server.port, version, list_services="")).list_services_response.service
        assert {"grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= {one.name for one in listed}
        for service in listed:
            answer = await reflect(server.port, version, file_containing_symbol=service.name)
            files = DescriptorDatabase()
            for file in answer.file_descriptor_response.file_descriptor_proto:
                files.Add(FileDescriptorProto.FromString(file))
            assert DescriptorPool(files).FindServiceByName(service.name).methods
        health = await reflect(server.port, version, file_by_filename=health_pb2.DESCRIPTOR.name)
        assert len(health.file_descriptor_response.file_descriptor_proto) == 1


async def test_s22_a_resource_that_our_schema_cannot_judge_is_sent_as_it_is(mesh: TinyMesh) -> None:
    newer = b"\x0a\x30type.googleapis.com/envoy.config.v9.NotYetHere00\x12\x02\xff\xff"
    mesh.put(Resource(TYPE_CLUSTER, "c2", "1", newer))
    old = node()
    old.user_agent_build_version.version.major_number = 1
    old.user_agent_build_version.version.minor_number = 38
    for introduced in (node(), old):
        async with serving(mesh) as server, Client(server.port) as client:
            await client.send(TYPE_CLUSTER, node=introduced)
            assert "c2" in names(await client.receive_and_ack())
