from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import grpc
import grpc.aio
import pytest

from mesh.model import Audience
from tests.support.xds_client import (
    EDGE,
    WAIT,
    Client,
    TinyMesh,
    assignment,
    cluster,
    names,
    node,
    serving,
    until,
    versions,
)
from xds.protocol.rejections import NackReport
from xds.resources import Resource, ResourceKey, View
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER
from xds.server.admission import Rate
from xds.server.serve import Limits
from xds.server.states import Distribution


@pytest.fixture
def mesh() -> TinyMesh:
    made = TinyMesh()
    made.put(*(cluster(f"c{i}") for i in range(3)), *(assignment(f"c{i}", 80) for i in range(3)))
    return made


async def test_a_delta_proxy_gets_its_clusters_their_endpoints_and_the_next_change(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        assert names(await client.receive_and_ack()) == ["c0", "c1", "c2"]
        await client.send(TYPE_ENDPOINT, subscribe=["c0", "c1", "c2"])
        assert names(await client.receive_and_ack()) == ["c0", "c1", "c2"]
        changed = assignment("c1", 81)
        mesh.put(changed)
        assert versions(await client.receive_and_ack()) == {"c1": changed.version}


async def test_a_sotw_proxy_gets_the_same(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port, variant="sotw") as client:
        await client.send(TYPE_CLUSTER, node=node())
        first = await client.receive_and_ack()
        assert len(first.resources) == 3
        mesh.put(cluster("c0", timeout=9))
        second = await client.receive_and_ack()
        assert len(second.resources) == 3
        assert second.version_info != first.version_info


async def test_an_audience_that_appears_later_is_served_then() -> None:
    mesh = TinyMesh()
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.quiet()
        mesh.put(cluster("c0"))
        assert names(await client.receive_and_ack()) == ["c0"]


async def test_the_program_is_told_of_audiences_that_come_and_go(mesh: TinyMesh) -> None:
    heard: list[tuple[Audience, bool]] = []
    mesh.hub.on_audience = lambda audience, connected: heard.append((audience, connected))
    async with serving(mesh) as server:
        async with Client(server.port) as client:
            await client.send(TYPE_CLUSTER, node=node())
            await client.receive_and_ack()
            assert heard == [(EDGE, True)]
        await until(lambda: len(heard) == 2)
    assert heard[1] == (EDGE, False)


async def test_what_proxies_of_an_audience_acknowledged_and_refused_can_be_asked_for(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as good, Client(server.port) as bad:
        await good.send(TYPE_CLUSTER, node=node())
        await bad.send(TYPE_CLUSTER, node=node("gateway~default~edge~2"))
        await good.receive_and_ack()
        first = versions(await bad.receive_and_ack())["c0"]
        changed = cluster("c0", timeout=9)
        taken: list[tuple[Audience, str, Mapping[str, str]]] = []
        mesh.hub.on_taken = lambda audience, type_url, found: taken.append((audience, type_url, found))
        mesh.hub.doubted = {(EDGE, TYPE_CLUSTER): {"c0": changed.version}}
        mesh.put(changed)
        await bad.ack(await bad.receive(), error="cluster(s) c0: no")
        await good.receive_and_ack()
        await until(lambda: taken)
        await until(lambda: mesh.hub.refusers(EDGE, TYPE_CLUSTER, "c0", changed.version))
        assert taken == [(EDGE, TYPE_CLUSTER, {"c0": changed.version})]
        assert mesh.hub.refusers(EDGE, TYPE_CLUSTER, "c0", changed.version) == {"gateway~default~edge~2"}
        acknowledged = mesh.hub.acknowledged(EDGE, TYPE_CLUSTER, "c0")
        assert {node_id[-1]: entry.version for node_id, entry in acknowledged.items()} == {
            "1": changed.version,
            "2": first,
        }
        assert mesh.hub.acknowledged(Audience("gateway", "default", "other"), TYPE_CLUSTER, "c0") == {}
        assert mesh.hub.node_ids() == {"gateway~default~edge~1", "gateway~default~edge~2"}


async def test_a_nack_reaches_the_program_with_names_versions_and_words(mesh: TinyMesh) -> None:
    heard: list[NackReport] = []
    mesh.hub.on_nack = heard.append
    bad = cluster("c1", timeout=9)
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        mesh.put(bad)
        response = await client.receive()
        await client.ack(response, error="Error adding/updating cluster(s) c1: no")
        await until(lambda: heard)
        assert heard[0].versions == {"c1": bad.version}
        assert heard[0].node == "gateway~default~edge~1"
        state = mesh.hub.proxies()[0].types[0]
        assert (state.status, state.detail) == ("ERROR", "Error adding/updating cluster(s) c1: no")


async def test_what_stands_in_for_a_refused_version_is_what_a_new_proxy_gets(mesh: TinyMesh) -> None:
    good = mesh.contents[EDGE][TYPE_CLUSTER]["c1"]
    key = ResourceKey(TYPE_CLUSTER, "c1")
    mesh.put(cluster("c1", timeout=9))
    keys = tuple(ResourceKey(TYPE_CLUSTER, f"c{i}") for i in range(3))
    mesh.view(View(keys, overrides=((key, good), (keys[2], None))), TYPE_CLUSTER)
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        assert versions(await client.receive_and_ack()) == {
            "c0": mesh.contents[EDGE][TYPE_CLUSTER]["c0"].version,
            "c1": good.version,
        }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "must carry `node`"),
        ({"node": node("nonsense")}, "node.id is 'nonsense'"),
        ({"node": node("gateway~default~~1")}, "the name in node.id"),
        ({"node": node(metadata={"namespace": "other"})}, "fairlead.namespace is 'other'"),
        ({"node": node(metadata={"name": 7})}, "must be a string"),
        ({"node": node("sidecar~default~a~1", metadata={"port": 1.5})}, "must be a port number"),
    ],
)
async def test_s1_a_stream_without_a_usable_node_is_refused(
    mesh: TinyMesh, fields: dict[str, object], words: str
) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, **fields)
        code, details = await client.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in details


async def test_s16_a_request_without_a_type_ends_the_stream(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port, variant="sotw") as client:
        await client.send("", node=node())
        code, details = await client.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "type_url" in details


async def test_garbage_ends_its_own_stream_and_no_other(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as good, Client(server.port) as bad:
        await good.send(TYPE_CLUSTER, node=node())
        await good.receive_and_ack()
        await bad.send(TYPE_CLUSTER, node=node("gateway~default~edge~2"))
        await bad.receive_and_ack()
        await bad.send_raw(b"\xff\xff\xff")
        code, _ = await bad.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        mesh.put(cluster("c0", timeout=9))
        assert names(await good.receive_and_ack()) == ["c0"]


async def test_bytes_that_are_not_grpc_are_refused_and_disturb_nobody(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 50)
        await client.send(TYPE_CLUSTER, node=node())
        assert names(await client.receive_and_ack()) == ["c0", "c1", "c2"]
        writer.close()
        del reader


async def test_a_request_of_100_mb_is_refused(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send_raw(b"\x12" + b"\x80\x80\x80\x32" + bytes(100 << 20))
        code, _ = await client.ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_million_names_are_refused_with_a_clear_error(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_ENDPOINT, node=node(), subscribe=[f"n{i}" for i in range(1_000_000)])
        code, details = await client.ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1000000 resources" in details


async def test_no_stream_is_served_before_everything_was_read(mesh: TinyMesh) -> None:
    mesh.hub.ready = False
    mesh.hub.not_ready_because = "waiting for kubernetes:east"
    async with serving(mesh) as server:
        async with Client(server.port) as client:
            await client.send(TYPE_CLUSTER, node=node())
            code, details = await client.ended()
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "kubernetes:east" in details
        mesh.hub.open()
        async with Client(server.port) as client:
            await client.send(TYPE_CLUSTER, node=node())
            await client.receive_and_ack()


async def test_streams_beyond_the_rate_are_told_to_come_back(mesh: TinyMesh) -> None:
    limits = Limits(rate=Rate(per_second=0.1, burst=1, patience=1))
    async with serving(mesh, limits=limits) as server, Client(server.port) as first:
        await first.send(TYPE_CLUSTER, node=node())
        await first.receive_and_ack()
        async with Client(server.port) as second:
            await second.send(TYPE_CLUSTER, node=node())
            code, details = await second.ended()
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "retry" in details


async def test_a_client_that_never_reads_is_cut_off_and_others_are_served() -> None:
    mesh = TinyMesh()
    big = [Resource(TYPE_LISTENER, f"l{i}", "1", b"\x12\xc0\x84\x3d" + bytes(1_000_000)) for i in range(40)]
    mesh.put(cluster("c0"), *big)
    limits = Limits(stuck=0.5)
    async with serving(mesh, limits=limits) as server, Client(server.port) as slow, Client(server.port) as good:
        await slow.send(TYPE_LISTENER, node=node("gateway~default~edge~slow"))
        await good.send(TYPE_CLUSTER, node=node())
        assert names(await good.receive_and_ack()) == ["c0"]
        await until(lambda: mesh.hub.telemetry.streams_ended["stuck"])
        mesh.put(cluster("c0", timeout=9))
        assert names(await good.receive_and_ack()) == ["c0"]


async def test_a_stream_is_closed_at_its_age_and_the_client_may_come_back(mesh: TinyMesh) -> None:
    async with serving(mesh, limits=Limits(max_age=0.1)) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        code, _ = await client.ended()
        assert code is grpc.StatusCode.OK
        assert mesh.hub.telemetry.streams_ended["aged"] == 1


async def test_draining_closes_the_streams_and_lets_nobody_in(mesh: TinyMesh) -> None:
    async with serving(mesh, limits=Limits(drain=600)) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        await server.drain()
        code, _ = await client.ended()
        assert code is grpc.StatusCode.OK
        async with Client(server.port) as late:
            await late.send(TYPE_CLUSTER, node=node())
            code, details = await late.ended()
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in details


async def test_a_drain_without_streams_or_with_one_takes_no_time(mesh: TinyMesh) -> None:
    async with asyncio.timeout(WAIT), serving(mesh, limits=Limits(drain=600)) as server:
        await server.drain()
    async with (
        asyncio.timeout(WAIT),
        serving(mesh, limits=Limits(drain=600)) as server,
        Client(server.port) as client,
    ):
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        await server.drain()
        assert mesh.hub.telemetry.streams_ended == {"drained": 1}


async def test_a_drain_closes_streams_one_after_the_other_and_ends_with_the_last(mesh: TinyMesh) -> None:
    ends: list[float] = []
    async with asyncio.timeout(WAIT), contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(mesh, limits=Limits(drain=1.5)))
        for number in range(3):
            client = await stack.enter_async_context(Client(server.port))
            await client.send(TYPE_CLUSTER, node=node(f"gateway~default~edge~{number}"))
            await client.receive_and_ack()
        leave, clock = mesh.hub.leave, asyncio.get_running_loop().time
        mesh.hub.leave = lambda member: (ends.append(clock()), leave(member))[1]  # type: ignore[method-assign]
        began = clock()
        await server.drain()
        took = clock() - began
    assert all(end - began > number * 0.49 for number, end in enumerate(ends))
    assert (len(ends), took < 1.5) == (3, True)


async def test_a_drain_ends_when_the_clients_go_by_themselves(mesh: TinyMesh) -> None:
    async with (
        asyncio.timeout(WAIT),
        serving(mesh, limits=Limits(drain=600)) as server,
        Client(server.port) as first,
        Client(server.port) as second,
    ):
        for client in (first, second):
            await client.send(TYPE_CLUSTER, node=node())
            await client.receive_and_ack()
        draining = asyncio.get_running_loop().create_task(server.drain())
        await until(lambda: len(server.streams.sessions) == 1)
        first.cancel()
        second.cancel()
        await draining


async def test_a_client_that_reconnects_many_times_leaves_nothing_behind(mesh: TinyMesh) -> None:
    async with serving(mesh) as server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        for i in range(1_000):
            client = Client(server.port, channel=channel)
            await client.send(TYPE_CLUSTER, node=node(f"gateway~default~edge~{i}"))
            await client.receive_and_ack()
            client.cancel()
        await until(lambda: not mesh.hub.members())
        assert mesh.hub.audiences() == []
        assert not server.streams.sessions
        assert mesh.hub.telemetry.streams == 0
        await channel.close()


async def test_distribution_tells_who_has_acknowledged_a_resource(mesh: TinyMesh) -> None:
    key = ResourceKey(TYPE_CLUSTER, "c0")
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        response = await client.receive()
        assert mesh.hub.distribution([key]).pending == ("gateway~default~edge~1",)
        await client.ack(response)
        await until(lambda: mesh.hub.distribution([key]).complete)
        assert mesh.hub.distribution([key]).acked == ("gateway~default~edge~1",)
        mesh.put(cluster("c0", timeout=9))
        assert not mesh.hub.distribution([key]).complete


async def test_distribution_leaves_out_proxies_that_have_nothing_of_a_resource(mesh: TinyMesh) -> None:
    twin = Audience("gateway", "default", "twin")
    mesh.view(View((ResourceKey(TYPE_CLUSTER, "c1"),)), TYPE_CLUSTER, twin)
    async with serving(mesh) as server, Client(server.port) as one, Client(server.port) as two:
        await one.send(TYPE_CLUSTER, node=node())
        await two.send(TYPE_CLUSTER, node=node("gateway~default~twin~1"))
        await one.receive_and_ack()
        await two.receive_and_ack()
        key, nobodys = ResourceKey(TYPE_CLUSTER, "c0"), ResourceKey(TYPE_CLUSTER, "lonely")
        await until(lambda: mesh.hub.distribution([key]).complete)
        assert mesh.hub.distribution([key]).acked == ("gateway~default~edge~1",)
        assert mesh.hub.distribution([nobodys]) == Distribution((), (), ())


async def test_a_removal_is_pending_until_those_that_had_the_resource_acknowledge_it(mesh: TinyMesh) -> None:
    twin = Audience("gateway", "default", "twin")
    mesh.view(View((ResourceKey(TYPE_CLUSTER, "c1"),)), TYPE_CLUSTER, twin)
    key = ResourceKey(TYPE_CLUSTER, "c0")
    async with serving(mesh) as server, Client(server.port) as one, Client(server.port) as two:
        for client, name in ((one, "edge"), (two, "twin")):
            await client.send(TYPE_CLUSTER, node=node(f"gateway~default~{name}~1"))
            await client.receive_and_ack()
        await until(lambda: mesh.hub.distribution([key]).complete)
        mesh.view(View((ResourceKey(TYPE_CLUSTER, "c1"), ResourceKey(TYPE_CLUSTER, "c2"))), TYPE_CLUSTER)
        assert mesh.hub.distribution([key]).pending == ("gateway~default~edge~1",)


async def test_the_time_from_an_event_to_its_ack_is_measured(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        assert TYPE_CLUSTER not in mesh.hub.telemetry.event_to_ack
        mesh.put(cluster("c0", timeout=9))
        await client.receive_and_ack()
        await until(lambda: TYPE_CLUSTER in mesh.hub.telemetry.event_to_ack)
        assert mesh.hub.telemetry.event_to_ack[TYPE_CLUSTER].count == 1


async def test_audiences_with_equal_views_share_what_they_hold(mesh: TinyMesh) -> None:
    twin = Audience("gateway", "default", "twin")
    for type_url in (TYPE_CLUSTER, TYPE_ENDPOINT):
        keys = tuple(ResourceKey(type_url, f"c{i}") for i in range(3))
        mesh.view(View(keys), type_url, twin)
    async with serving(mesh) as server, Client(server.port) as one, Client(server.port) as two:
        await one.send(TYPE_CLUSTER, node=node())
        await two.send(TYPE_CLUSTER, node=node("gateway~default~twin~1"))
        await one.receive_and_ack()
        await two.receive_and_ack()
        held = {id(member.stream.types[TYPE_CLUSTER].held) for member in mesh.hub.members()}
        assert len(held) == 1
