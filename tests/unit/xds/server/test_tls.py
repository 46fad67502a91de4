from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.support.certificates import Authority, Pair
from tests.support.xds_client import WAIT, Client, TinyMesh, cluster, names, node, serving
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_SECRET
from xds.schema.types import ClientStatusResponse, LoadStatsRequest
from xds.server import csds, lrs
from xds.server.gatekeeper import RefusalLog
from xds.server.serve import InsecureAddressError, XdsServer
from xds.server.server_certificates import ServerCertificate, Tls, credentials


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def mesh() -> TinyMesh:
    made = TinyMesh()
    made.put(cluster("c0"))
    return made


def tls_of(authority: Authority, pair: Pair) -> Tls:
    return Tls(certificate=pair.cert, key=pair.key, client_ca=authority.ca)


def channel(port: int, ca: Path, pair: Pair | None) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(),
        private_key=pair.key.read_bytes() if pair else None,
        certificate_chain=pair.cert.read_bytes() if pair else None,
    )
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)])


async def test_a_proxy_with_its_own_certificate_is_served(authority: Authority, mesh: TinyMesh) -> None:
    edge = authority.proxy("edge", "spiffe://cluster.local/ns/default/sa/edge")
    async with (
        serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server,
        Client(0, channel=channel(server.port, authority.ca, edge)) as client,
    ):
        await client.send(TYPE_CLUSTER, node=node())
        assert names(await client.receive_and_ack()) == ["c0"]


async def test_half_a_handshake_disturbs_nobody(authority: Authority, mesh: TinyMesh) -> None:
    edge = authority.proxy("edge", "spiffe://cluster.local/ns/default/sa/edge")
    async with serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(bytes.fromhex("160301020001000"[:14]))  # the head of a ClientHello whose body never comes
        await writer.drain()
        async with Client(0, channel=channel(server.port, authority.ca, edge)) as client:
            await client.send(TYPE_CLUSTER, node=node())
            assert names(await client.receive_and_ack()) == ["c0"]
        writer.close()


async def test_a_proxy_that_claims_another_namespace_is_refused(authority: Authority, mesh: TinyMesh) -> None:
    other = authority.proxy("other", "spiffe://cluster.local/ns/other/sa/edge")
    async with (
        serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server,
        Client(0, channel=channel(server.port, authority.ca, other)) as client,
    ):
        await client.send(TYPE_CLUSTER, node=node())
        code, details = await client.ended()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "for namespace other" in details


@pytest.mark.parametrize("stranger", [False, True])
async def test_a_client_without_a_certificate_of_ours_does_not_connect(
    authority: Authority, mesh: TinyMesh, tmp_path: Path, stranger: bool
) -> None:
    pair = Authority(tmp_path, "stranger").proxy("s", "spiffe://cluster.local/ns/default/sa/edge") if stranger else None
    async with serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server:
        async with Client(0, channel=channel(server.port, authority.ca, pair)) as client:
            await client.send(TYPE_CLUSTER, node=node())
            code, _ = await client.ended()
            assert code is grpc.StatusCode.UNAVAILABLE
        assert not mesh.hub.members()


async def test_a_replaced_server_certificate_is_used_for_the_next_connection(
    authority: Authority, mesh: TinyMesh, tmp_path: Path
) -> None:
    edge = authority.proxy("edge", "spiffe://cluster.local/ns/default/sa/edge")
    renewed = Authority(tmp_path, "renewed")
    live = authority.server("xds")
    async with serving(mesh, tls=tls_of(authority, live)) as server:
        fresh = renewed.server("xds-2")
        live.key.write_bytes(fresh.key.read_bytes())
        live.cert.write_bytes(fresh.cert.read_bytes())
        async with Client(0, channel=channel(server.port, renewed.ca, edge)) as client:
            await client.send(TYPE_CLUSTER, node=node())
            assert names(await client.receive_and_ack()) == ["c0"]


async def test_a_burst_of_connections_while_certificates_change_does_not_end_the_process(authority: Authority) -> None:
    """grpcio frees what it hands to handshakes when it takes in a certificate; see `server_certificates.py`."""
    pairs = [authority.server(f"xds-{number}") for number in range(2)]
    asked = itertools.count()

    def current() -> ServerCertificate:
        pair = pairs[next(asked) // 100 % 2]
        return ServerCertificate(pair.cert.read_bytes(), pair.key.read_bytes())

    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", credentials(current))
    await server.start()
    async with asyncio.timeout(WAIT * 3):
        for _ in range(5):
            connections = [channel(port, authority.ca, None) for _ in range(100)]
            await asyncio.gather(*(connection.channel_ready() for connection in connections))
            await asyncio.gather(*(connection.close() for connection in connections))
    await server.stop(0)


async def test_a_missing_tls_file_is_told_at_the_start(authority: Authority, mesh: TinyMesh, tmp_path: Path) -> None:
    pair = authority.server("xds")
    missing = Tls(certificate=tmp_path / "nope.pem", key=pair.key, client_ca=authority.ca)
    with pytest.raises(InsecureAddressError, match=r"nope\.pem"):
        await XdsServer(mesh.hub, "127.0.0.1:0", tls=missing).start()


async def csds_nodes(port: int, authority: Authority, pair: Pair) -> list[str]:
    async with channel(port, authority.ca, pair) as connection, asyncio.timeout(WAIT):
        raw = await connection.unary_unary(f"/{csds.SERVICE}/FetchClientStatus")(b"")
        return [config.node.id for config in ClientStatusResponse.FromString(raw).config]


async def test_client_status_tells_of_the_callers_own_namespace_only(authority: Authority, mesh: TinyMesh) -> None:
    edge = authority.proxy("edge", "spiffe://cluster.local/ns/default/sa/edge")
    other = authority.proxy("other", "spiffe://cluster.local/ns/other/sa/edge")
    foreign = authority.proxy("foreign", "spiffe://evil.example/ns/default/sa/edge")
    async with (
        serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server,
        Client(0, channel=channel(server.port, authority.ca, edge)) as client,
    ):
        await client.send(TYPE_CLUSTER, node=node())
        await client.receive_and_ack()
        assert await csds_nodes(server.port, authority, edge) == ["gateway~default~edge~1"]
        assert await csds_nodes(server.port, authority, other) == []
        with pytest.raises(grpc.aio.AioRpcError, match=r"trust domain evil\.example") as caught:
            await csds_nodes(server.port, authority, foreign)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_load_reports_are_taken_from_the_proxy_itself_only(authority: Authority, mesh: TinyMesh) -> None:
    pod = authority.proxy("pod", "spiffe://cluster.local/ns/default/sa/some-pod")
    async with (
        serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server,
        Client(0, method=f"/{lrs.SERVICE}/StreamLoadStats", channel=channel(server.port, authority.ca, pod)) as client,
    ):
        await client.send_raw(LoadStatsRequest(node=node()).SerializeToString())
        code, said = await client.ended()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "account some-pod" in said
        assert server.loads.nodes() == []


@pytest.mark.parametrize("identity", ["cluster.local/ns/default/sa/some-pod", "evil.example/ns/default/sa/edge"])
async def test_a_gateways_secrets_are_kept_from_other_identities_and_the_log_says_who_asked(
    authority: Authority, mesh: TinyMesh, identity: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.proxy("pod", f"spiffe://{identity}")
    async with (
        serving(mesh, tls=tls_of(authority, authority.server("xds"))) as server,
        Client(0, channel=channel(server.port, authority.ca, pair)) as client,
    ):
        await client.send(TYPE_SECRET, node=node(), subscribe=["default/web"])
        code, _ = await client.ended()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert mesh.hub.telemetry.streams_refused["unauthenticated"] == 1
    [said] = [record.getMessage() for record in caplog.records if record.name == "xds.server.gatekeeper"]
    assert f"spiffe://{identity}" in said
    assert "127.0.0.1" in said


def test_refusals_are_logged_once_a_minute_each_and_of_all_not_too_many(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog()
    for number in range(200):
        log.note(f"reason {number % 100}", peer="x", now=float(number % 59))
    assert len(caplog.records) == 50
    log.note("reason 1", peer="x", now=100.0)
    assert caplog.records[-2].getMessage() == "refused 100 more streams"
    assert caplog.records[-1].getMessage() == "refused a stream from x: reason 1"
