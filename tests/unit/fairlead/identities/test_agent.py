"""When an agent says that its workload trusts what it was told: only once its Envoy does."""

from __future__ import annotations

from fairlead.identities.agent import Secrets
from tests.support.xds_client import Client, node, until
from xds.schema.type_urls import TYPE_SECRET
from xds.server.serve import XdsServer
from xds.translate.names import ROOTCA
from xds.translate.root_certificates import root_secret

NODE = "sidecar~shop~reviews~1"


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def secrets(time: Time) -> Secrets:
    made = Secrets(monotonic=time)
    made.put({ROOTCA: root_secret(ROOTCA, b"old")})
    made.hub.open()
    return made


async def test_a_bundle_is_taken_when_every_envoy_has_acknowledged_it() -> None:
    found = secrets(Time())
    server = XdsServer(found.hub, "127.0.0.1:0")
    await server.start()
    async with Client(server.port) as client:
        await client.send(TYPE_SECRET, node=node(NODE), subscribe=[ROOTCA])
        response = await client.receive()
        assert not found.taken(ROOTCA)
        await client.ack(response)
        await until(lambda: found.taken(ROOTCA))
        found.put({ROOTCA: root_secret(ROOTCA, b"old and new")})
        assert not found.taken(ROOTCA)
        response = await client.receive()
        await client.ack(response, error="no roots of mine")
        await until(lambda: found.hub.proxies()[0].types[0].nacks)
        assert not found.taken(ROOTCA), "an Envoy that refuses it does not trust it"
    await server.stop(0.1)


async def test_one_that_has_lost_the_socket_is_waited_for_while_it_may_come_back() -> None:
    time = Time()
    found = secrets(time)
    assert not found.taken(ROOTCA), "an Envoy of before the agent's start may still have older roots"
    time.now += 35
    assert found.taken(ROOTCA), "there is none"
    server = XdsServer(found.hub, "127.0.0.1:0")
    await server.start()
    async with Client(server.port) as client:
        await client.send(TYPE_SECRET, node=node(NODE), subscribe=[ROOTCA])
        await client.receive_and_ack()
        await until(lambda: found.taken(ROOTCA))
    await until(lambda: not found.hub.node_ids())
    assert not found.taken(ROOTCA)
    time.now += 35
    assert found.taken(ROOTCA)
    await server.stop(0.1)
