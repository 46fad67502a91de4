"""What streams tell the gate before a new root: who takes its roots over xDS, who has them, and who is gone."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.identities.root_gate import Seen
from fairlead.identities.root_witness import StreamWitness
from tests.support.xds_client import Client, TinyMesh, node, serving, until
from xds.resources import Resource
from xds.schema import encode
from xds.schema.type_urls import TYPE_SECRET
from xds.translate.framing import resource
from xds.translate.names import ROOTCA
from xds.translate.root_certificates import root_secret

NODE = "gateway~default~edge~1"


def roots(content: bytes) -> Resource:
    return resource(TYPE_SECRET, ROOTCA, encode(root_secret(ROOTCA, content)))


class Present:
    """An engine whose one row are the roots of now."""

    def __init__(self, row: Resource) -> None:
        self.row = row

    def get(self, _table: Any, _key: Any) -> Resource:
        return self.row


class World:
    def __init__(self) -> None:
        self.mesh = TinyMesh()
        self.present = Present(roots(b"old"))
        self.left: list[tuple[str, bool]] = []
        self.witness = StreamWitness(
            self.present,  # type: ignore[arg-type]
            self.mesh.hub,
            lambda name, current: self.left.append((name, current)),
        )
        self.mesh.put(self.present.row)

    def publish(self, content: bytes) -> None:
        self.present.row = roots(content)
        self.mesh.put(self.present.row)


@pytest.fixture
async def world() -> World:
    return World()


@pytest.mark.parametrize("acknowledged", [True, False])
async def test_a_proxy_whose_stream_ends_is_told_of_with_whether_it_has_the_present_roots(
    world: World, acknowledged: bool
) -> None:
    async with serving(world.mesh) as server:
        async with Client(server.port) as client:
            await client.send(TYPE_SECRET, node=node(NODE), subscribe=[ROOTCA])
            await client.receive_and_ack()
            await until(lambda: world.witness.seen() == Seen(frozenset(), frozenset({NODE})))
            if not acknowledged:
                world.publish(b"old and new")
                assert world.witness.seen().lacking == {NODE}
        await until(lambda: world.left)
    assert world.left == [(NODE, acknowledged)]
    assert world.witness.seen().holding == set()


async def test_a_proxy_that_takes_no_roots_over_xds_is_of_no_concern(world: World) -> None:
    async with serving(world.mesh) as server:
        async with Client(server.port) as client:
            await client.send(TYPE_SECRET, node=node(NODE), subscribe=["another"])
            await until(world.mesh.hub.node_ids)
            assert world.witness.seen() == Seen(frozenset(), frozenset())
        await until(lambda: not world.mesh.hub.node_ids())
    assert world.left == []
