"""Resources that an older Envoy does not understand: kept from it, and told of everywhere where one would look."""

from __future__ import annotations

import logging
from random import Random
from typing import Any

import pytest

from tests.support.xds_client import Client, TinyMesh, cluster, names, node, resource, serving, until
from xds.protocol.contents import Contents, Entry
from xds.resources import Resource, ResourceKey
from xds.schema import from_dict
from xds.schema.type_urls import TYPE_CLUSTER
from xds.schema.types import ClientStatusRequest, Cluster, ConfigStatus
from xds.server import csds
from xds.server.older import Older
from xds.server.telemetry import Telemetry

NODE = "gateway~default~edge~1"
FIELD = "stats_matcher"  # of clusters, since Envoy 1.40


def new_cluster(name: str, *, reject: str = "a") -> Resource:
    """A cluster of which Envoy 1.39 lacks a field."""
    matcher = {"exclusion_list": {"patterns": [{"prefix": reject}]}}
    return resource(TYPE_CLUSTER, from_dict(Cluster, {"name": name, "type": "STATIC", FIELD: matcher}))


def introduced(major: int, minor: int, patch: int = 0, *, agent: str = "envoy") -> Any:
    """A node of a version."""
    made = node(NODE, user_agent_name=agent)
    version = made.user_agent_build_version.version
    version.major_number, version.minor_number, version.patch = major, minor, patch
    return made


@pytest.fixture
def mesh() -> TinyMesh:
    made = TinyMesh()
    made.put(cluster("c0"), new_cluster("c1"))
    return made


@pytest.mark.parametrize("variant", ["delta", "sotw"])
async def test_t8_an_old_envoy_is_not_sent_what_it_would_not_understand(mesh: TinyMesh, variant: str) -> None:
    async with serving(mesh) as server, Client(server.port, variant=variant) as client:
        await client.send(TYPE_CLUSTER, node=introduced(1, 39, 3))
        assert len((await client.receive_and_ack()).resources) == 1
        mesh.put(new_cluster("c1", reject="b"), cluster("c2"))
        assert len((await client.receive_and_ack()).resources) == (1 if variant == "delta" else 2)
        mesh.put(cluster("c1"))
        assert len((await client.receive_and_ack()).resources) == (1 if variant == "delta" else 3)
        assert mesh.hub.telemetry.left_out == {("1.39.3", TYPE_CLUSTER): 2}


async def test_what_is_left_out_stands_in_the_state_of_the_proxy_with_the_fields(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=introduced(1, 38, 3))
        await client.receive_and_ack()
        await until(lambda: mesh.hub.proxies()[0].types[0].acks)
        [state] = mesh.hub.proxies()[0].types
        assert (state.status, state.resources, state.left_out) == ("SYNCED", 1, {"c1": (FIELD,)})
        proxy = mesh.hub.proxy(NODE)
        assert proxy is not None
        assert proxy.types[0].left_out == {"c1": (FIELD,)}
        mesh.put(cluster("c1"))
        assert mesh.hub.proxies()[0].types[0].left_out == {}


async def test_csds_says_of_what_is_left_out_that_it_is_not_sent_and_why(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=introduced(1, 39, 3))
        await client.receive_and_ack()
        [config] = (await csds.status(mesh.hub, ClientStatusRequest())).config
        told = {one.name: one for one in config.generic_xds_configs}["c1"]
        assert ConfigStatus.Name(told.config_status) == "NOT_SENT"
        assert told.error_state.details == "not sent: Envoy 1.39.3 does not know stats_matcher"


async def test_nobody_waits_for_an_acknowledgement_of_what_is_left_out(mesh: TinyMesh) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=introduced(1, 39, 3))
        await client.receive_and_ack()
        far = mesh.hub.distribution([ResourceKey(TYPE_CLUSTER, "c1")])
        assert (far.pending, far.rejected) == ((), (NODE,))


async def test_the_log_says_it_once_however_many_proxies_of_the_version_there_are(
    mesh: TinyMesh, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "xds.server.older")
    async with serving(mesh) as server:
        for _ in range(3):
            async with Client(server.port) as client:
                await client.send(TYPE_CLUSTER, node=introduced(1, 39, 3))
                await client.receive_and_ack()
        mesh.put(cluster("c2"))
        async with Client(server.port) as client:
            await client.send(TYPE_CLUSTER, node=introduced(1, 39, 3))
            await client.receive_and_ack()
    assert [record.getMessage() for record in caplog.records] == [
        "Envoys of version 1.39.3 do not know fields of, and are not sent, CDS c1 (stats_matcher)"
    ]


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(introduced(1, 40, 0), id="ours"),
        pytest.param(introduced(1, 41, 0), id="newer"),
        pytest.param(introduced(2, 0, 0), id="much newer"),
        pytest.param(introduced(0, 0, 0), id="says nothing"),
        pytest.param(introduced(1, 2, 3, agent="something else"), id="not Envoy"),
        pytest.param(node(NODE, user_agent_name="gRPC C-core", user_agent_version="1.80.0"), id="gRPC"),
    ],
)
async def test_newer_and_unknown_versions_are_sent_everything(mesh: TinyMesh, who: Any) -> None:
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=who)
        assert names(await client.receive_and_ack()) == ["c0", "c1"]
        assert mesh.hub.proxies()[0].types[0].left_out == {}


def test_contents_that_follow_others_are_judged_as_if_they_stood_alone() -> None:
    entries = [Entry.of(ResourceKey(TYPE_CLUSTER, one.name), one) for one in (cluster("a"), new_cluster("a"))]
    followed, random = Older(Telemetry()), Random(7)
    contents = Contents({})
    kept = [contents]
    for _ in range(200):
        name = random.choice("abcdefgh")
        made = random.choice([None, *entries])
        entry = None if made is None else Entry(name, made.version, made.content)
        contents = contents.replace({name: entry} if entry or contents.get(name) else {})
        kept.append(contents)
        if random.random() < 0.7:
            alone = Older(Telemetry())
            assert followed.left_out("1.39.3", TYPE_CLUSTER, contents) == alone.left_out(
                "1.39.3", TYPE_CLUSTER, contents
            )
            filtered = followed.without_unknown("1.39.3", TYPE_CLUSTER, contents)
            assert filtered.versions() == alone.without_unknown("1.39.3", TYPE_CLUSTER, contents).versions()
