"""Who asks for a gateway's private key and may not have it gets nothing, not even while every cache holds it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.model import Audience
from tests.support.certificates import Authority, Pair
from tests.support.xds_client import WAIT, Client, TinyMesh, cluster, names, node, resource, serving
from tests.unit.xds.server.test_tls import channel, tls_of
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_SECRET
from xds.schema.types import Secret
from xds.server import csds
from xds.server.serve import XdsServer

KEY = b"the private key of default/web"
WEB = "default/web"
EDGE = "spiffe://cluster.local/ns/default/sa/edge"
VARIANTS = ["delta", "sotw"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def mesh() -> TinyMesh:
    secret = Secret(name=WEB)
    secret.tls_certificate.private_key.inline_bytes = KEY
    made = TinyMesh()
    made.put(cluster("c0"), resource(TYPE_SECRET, secret))
    for namespace, name in (("other", "edge"), ("default", "second")):
        made.put(cluster("c0"), audience=Audience("gateway", namespace, name))
    return made


@contextlib.asynccontextmanager
async def fetched_by_its_owner(authority: Authority, mesh: TinyMesh) -> AsyncIterator[XdsServer]:
    """A server whose caches hold the secret: the gateway it is for has it, and stays connected."""
    pair = authority.proxy("owner", EDGE)
    async with (
        serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server,
        Client(0, channel=channel(server.port, authority.ca, pair)) as owner,
    ):
        await owner.send(TYPE_SECRET, node=node(), subscribe=[WEB])
        response = await owner.receive_and_ack()
        assert KEY in response.SerializeToString(), "the probes mean nothing where nobody gets it"
        yield server


def asking(variant: str) -> dict[str, Any]:
    return {"subscribe": [WEB]} if variant == "delta" else {"names": [WEB]}


async def refused(port: int, ca: Path, pair: Pair | None, variant: str, node_id: str) -> grpc.StatusCode:
    """How a stream ended that was to be told nothing at all."""
    async with Client(0, variant=variant, channel=channel(port, ca, pair)) as client:
        await client.send(TYPE_SECRET, node=node(node_id), **asking(variant))
        with contextlib.suppress(grpc.aio.AioRpcError):
            async with asyncio.timeout(WAIT):
                assert await client._call.read() is grpc.aio.EOF
        code, details = await client.ended()
        assert KEY.decode() not in details
        return code


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("identity", "node_id"),
    [
        pytest.param("spiffe://cluster.local/ns/default/sa/pod", "gateway~default~edge~1", id="wrong identity"),
        pytest.param("spiffe://cluster.local/ns/other/sa/edge", "gateway~default~edge~1", id="forged node"),
        pytest.param("spiffe://elsewhere.org/ns/default/sa/edge", "gateway~default~edge~1", id="other trust domain"),
        pytest.param("spiffe://cluster.local/ns/default/sa/edge/x", "gateway~default~edge~1", id="longer identity"),
        pytest.param("spiffe://cluster.local/ns/DEFAULT/sa/edge", "gateway~default~edge~1", id="other spelling"),
    ],
)
async def test_who_is_not_that_gateway_is_told_nothing(
    authority: Authority, mesh: TinyMesh, identity: str, node_id: str, variant: str
) -> None:
    async with fetched_by_its_owner(authority, mesh) as server:
        pair = authority.proxy("prober", identity)
        code = await refused(server.port, authority.ca, pair, variant, node_id)
        assert code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("who", ["nobody", "ended", "stranger"])
async def test_without_a_valid_certificate_of_ours_there_is_no_connection(
    authority: Authority, mesh: TinyMesh, tmp_path: Path, who: str, variant: str
) -> None:
    async with fetched_by_its_owner(authority, mesh) as server:
        pair = {
            "nobody": lambda: None,
            "ended": lambda: authority.proxy("old", EDGE, ended=True),
            "stranger": lambda: Authority(tmp_path, "stranger").proxy("theirs", EDGE),
        }[who]()
        code = await refused(server.port, authority.ca, pair, variant, "gateway~default~edge~1")
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_a_revoked_authoritys_certificate_opens_nothing(
    authority: Authority, mesh: TinyMesh, tmp_path: Path
) -> None:
    servers_ca = tmp_path / "of-the-server.pem"
    shutil.copy(authority.ca, servers_ca)
    good = authority.proxy("good", EDGE)
    async with fetched_by_its_owner(authority, mesh) as server:
        authority.ca.write_bytes(Authority(tmp_path, "successor").ca.read_bytes())
        os.utime(authority.ca, ns=(1, 1))
        code = await refused(server.port, servers_ca, good, "delta", "gateway~default~edge~1")
        assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("identity", "node_id"),
    [
        pytest.param("spiffe://cluster.local/ns/other/sa/edge", "gateway~other~edge~1", id="other namespace"),
        pytest.param("spiffe://cluster.local/ns/default/sa/second", "gateway~default~second~1", id="its neighbour"),
    ],
)
async def test_cve_2021_34824_a_secret_that_another_gateway_fetched_is_not_given_to_who_only_names_it(
    authority: Authority, mesh: TinyMesh, identity: str, node_id: str, variant: str
) -> None:
    """Istio answered from a cache whose key left out who asks. The stream lives on: one bad name harms nothing else."""
    async with fetched_by_its_owner(authority, mesh) as server:
        pair = authority.proxy("honest", identity)
        async with Client(0, variant=variant, channel=channel(server.port, authority.ca, pair)) as client:
            await client.send(TYPE_SECRET, node=node(node_id), **asking(variant))
            await client.send(TYPE_CLUSTER, **({"subscribe": ["*"]} if variant == "delta" else {"names": ["*"]}))
            clusters = None
            while clusters is None:
                response = await client.receive()
                assert KEY not in response.SerializeToString()
                assert response.type_url == TYPE_CLUSTER or not response.resources
                clusters = response if response.type_url == TYPE_CLUSTER else None
            assert len(clusters.resources) == 1
            await client.quiet()


@pytest.mark.parametrize("identity", [EDGE, "spiffe://cluster.local/ns/other/sa/edge"])
async def test_cve_2026_31838_the_status_of_clients_shows_no_key_to_anybody(
    authority: Authority, mesh: TinyMesh, identity: str
) -> None:
    async with fetched_by_its_owner(authority, mesh) as server:
        async with channel(server.port, authority.ca, authority.proxy("reader", identity)) as connection:
            raw = await connection.unary_unary(f"/{csds.SERVICE}/FetchClientStatus")(b"", timeout=WAIT)
        assert KEY not in raw


async def test_a_gateway_gets_its_secret_by_name_and_its_stream_lives(authority: Authority, mesh: TinyMesh) -> None:
    async with (
        fetched_by_its_owner(authority, mesh) as server,
        Client(0, channel=channel(server.port, authority.ca, authority.proxy("again", EDGE))) as client,
    ):
        await client.send(TYPE_SECRET, node=node("gateway~default~edge~2"), subscribe=[WEB, "default/other"])
        response = await client.receive_and_ack()
        assert names(response) == [WEB]
