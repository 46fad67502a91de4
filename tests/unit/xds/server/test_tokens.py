"""Proxies that show a token instead of a certificate: who gets in, what the others are told, when streams end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.support.certificates import Authority
from tests.support.xds_client import Client, TinyMesh, cluster, delta_request, names, node, until
from xds.schema.type_urls import TYPE_CLUSTER
from xds.schema.types import LoadStatsRequest
from xds.server import csds, lrs
from xds.server.authentication import (
    CannotReviewError,
    NotAuthenticatedError,
    Vouched,
    bearer_token,
    over_tls,
)
from xds.server.gatekeeper import host_of
from xds.server.serve import InsecureAddressError, Tokens, XdsServer
from xds.server.server_certificates import ServerCertificate, Tls

SECRET = "eyJ-this-must-never-be-shown"
HELLO = delta_request(TYPE_CLUSTER, node=node()).SerializeToString()


class Platform:
    """Knows a few tokens, and counts who asks."""

    def __init__(self) -> None:
        self.known = {
            "edge": Vouched("default", "edge", time.time() + 3600),
            "pod": Vouched("default", "some-pod", time.time() + 3600),
            "elsewhere": Vouched("other", "edge", time.time() + 3600),
            "short": Vouched("default", "edge", time.time() + 2),
            "placed": Vouched("default", "edge", time.time() + 3600, "eu-a", "n1"),
        }
        self.away = False
        self.asked: list[str] = []

    async def review(self, token: str, *, caller: str) -> Vouched:
        self.asked.append(caller)
        if self.away:
            raise CannotReviewError("cluster default: connection refused")
        if token not in self.known:
            raise NotAuthenticatedError("cluster default: the token was made for another audience")
        return self.known[token]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def mesh() -> TinyMesh:
    made = TinyMesh()
    made.put(cluster("c0"))
    return made


def tokens(authority: Authority, platform: Platform, address: str = "") -> Tokens:
    pair = authority.server("xds")
    certificate = ServerCertificate(pair.cert.read_bytes(), pair.key.read_bytes())
    return Tokens(lambda: certificate, platform, address)


@contextlib.asynccontextmanager
async def serving(
    mesh: TinyMesh, way: Tokens, *, tls: Tls | None = None, address: str = "127.0.0.1:0"
) -> AsyncIterator[XdsServer]:
    server = XdsServer(mesh.hub, address, tls=tls, tokens=way)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0.1)


def client(port: int, authority: Authority, token: str | None, *, method: str = "") -> Client:
    credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    if token is not None:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    options = [("grpc.use_local_subchannel_pool", 1)]
    return Client(0, method=method, channel=grpc.aio.secure_channel(f"localhost:{port}", credentials, options=options))


async def refusal(
    port: int, authority: Authority, token: str | None, *, method: str = "", says: bytes = b""
) -> tuple[grpc.StatusCode, str]:
    """How a stream ends; one that has something to say says it, the others are refused before they could."""
    async with client(port, authority, token, method=method) as connection:
        if says:
            await connection.send_raw(says)
        return await connection.ended()


async def test_a_proxy_with_a_good_token_is_served(authority: Authority, platform: Platform, mesh: TinyMesh) -> None:
    async with (
        serving(mesh, tokens(authority, platform)) as server,
        client(server.port, authority, "edge") as connection,
    ):
        await connection.send(TYPE_CLUSTER, node=node())
        assert names(await connection.receive_and_ack()) == ["c0"]
        assert platform.asked == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("node_id", "where"), [("gateway~default~edge~1", ("eu-a", "n1")), ("sidecar~default~edge~1", ("eu-a", ""))]
)
async def test_a_proxy_is_where_its_platform_says_a_gateway_s_on_its_node_and_a_sidecar_in_its_zone(
    authority: Authority, platform: Platform, mesh: TinyMesh, node_id: str, where: tuple[str, str]
) -> None:
    async with (
        serving(mesh, tokens(authority, platform)) as server,
        client(server.port, authority, "placed") as connection,
    ):
        await connection.send(TYPE_CLUSTER, node=node(node_id))
        await until(mesh.hub.audiences)
        [audience] = mesh.hub.audiences()
        assert (audience.zone, audience.node) == where


@pytest.mark.parametrize("token", [SECRET, None])
async def test_without_a_good_token_nothing_is_told_but_to_the_log(
    authority: Authority, platform: Platform, mesh: TinyMesh, token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(mesh, tokens(authority, platform)) as server:
        assert await refusal(server.port, authority, token) == (grpc.StatusCode.UNAUTHENTICATED, "not authenticated")
        assert mesh.hub.telemetry.streams_refused["unauthenticated"] == 1
    assert ("another audience" if token else "nor a token") in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(("token", "why"), [("pod", "account some-pod"), ("elsewhere", "for namespace other")])
async def test_a_good_token_of_another_account_is_not_this_proxy(
    authority: Authority,
    platform: Platform,
    mesh: TinyMesh,
    token: str,
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(mesh, tokens(authority, platform)) as server:
        code, said = await refusal(server.port, authority, token, says=HELLO)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "some-pod" not in said
        assert not mesh.hub.members()
    assert why in caplog.text


async def test_while_nobody_can_review_a_token_its_proxy_is_told_to_come_again(
    authority: Authority, platform: Platform, mesh: TinyMesh
) -> None:
    platform.away = True
    async with serving(mesh, tokens(authority, platform)) as server:
        code, said = await refusal(server.port, authority, "edge")
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "refused" not in said


async def test_load_reports_and_client_status_ask_for_a_token_too(
    authority: Authority, platform: Platform, mesh: TinyMesh
) -> None:
    async with serving(mesh, tokens(authority, platform)) as server:
        for method in (f"/{lrs.SERVICE}/StreamLoadStats", f"/{csds.SERVICE}/StreamClientStatus"):
            code, _ = await refusal(server.port, authority, SECRET, method=method)
            assert code is grpc.StatusCode.UNAUTHENTICATED
        says = LoadStatsRequest(node=node()).SerializeToString()
        code, _ = await refusal(server.port, authority, "pod", method=f"/{lrs.SERVICE}/StreamLoadStats", says=says)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert server.loads.nodes() == []


@pytest.mark.parametrize("method", ["", f"/{lrs.SERVICE}/StreamLoadStats"])
async def test_a_stream_ends_before_the_token_that_opened_it(
    authority: Authority, platform: Platform, mesh: TinyMesh, method: str
) -> None:
    async with (
        serving(mesh, tokens(authority, platform)) as server,
        client(server.port, authority, "short", method=method) as connection,
    ):
        if method:
            await connection.send_raw(LoadStatsRequest(node=node()).SerializeToString())
        else:
            await connection.send(TYPE_CLUSTER, node=node())
        await connection.receive()
        code, _ = await connection.ended()
        assert code is grpc.StatusCode.OK
        assert time.time() < platform.known["short"].expires_at + 1


async def test_certificates_and_tokens_have_an_address_each(
    authority: Authority, platform: Platform, mesh: TinyMesh
) -> None:
    """grpcio either demands a client's certificate or does not ask for it, so one address cannot do both."""
    pair = authority.server("xds")
    tls = Tls(pair.cert, pair.key, authority.ca)
    edge = authority.proxy("edge", "spiffe://cluster.local/ns/default/sa/edge")
    with pytest.raises(InsecureAddressError, match="an address of their own"):
        XdsServer(mesh.hub, "127.0.0.1:0", tls=tls, tokens=tokens(authority, platform))
    async with serving(mesh, tokens(authority, platform, "127.0.0.1:0"), tls=tls) as server:
        credentials = grpc.ssl_channel_credentials(
            authority.ca.read_bytes(), private_key=edge.key.read_bytes(), certificate_chain=edge.cert.read_bytes()
        )
        for connection in (
            Client(0, channel=grpc.aio.secure_channel(f"localhost:{server.port}", credentials)),
            client(server.tokens_port, authority, "edge"),
        ):
            async with connection:
                await connection.send(TYPE_CLUSTER, node=node())
                assert names(await connection.receive_and_ack()) == ["c0"]
        # A certificate is not asked for at the second, so it proves nothing there; a token is none at the first.
        async with Client(0, channel=grpc.aio.secure_channel(f"localhost:{server.tokens_port}", credentials)) as bare:
            await bare.send(TYPE_CLUSTER, node=node())
            assert (await bare.ended())[0] is grpc.StatusCode.UNAUTHENTICATED
        code, _ = await refusal(server.port, authority, "edge")
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_beside_plaintext_on_loopback_the_address_for_tokens_still_asks_for_one(
    authority: Authority, platform: Platform, mesh: TinyMesh
) -> None:
    async with serving(mesh, tokens(authority, platform, "127.0.0.1:0")) as server:
        async with Client(server.port) as believed:
            await believed.send(TYPE_CLUSTER, node=node())
            assert names(await believed.receive_and_ack()) == ["c0"]
        code, _ = await refusal(server.tokens_port, authority, SECRET)
        assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_renewed_server_certificate_is_used_for_the_next_connection(
    authority: Authority, platform: Platform, mesh: TinyMesh, tmp_path: Path
) -> None:
    renewed = Authority(tmp_path, "renewed")
    pairs = [authority.server("xds")]
    way = Tokens(lambda: ServerCertificate(pairs[-1].cert.read_bytes(), pairs[-1].key.read_bytes()), platform)
    async with serving(mesh, way) as server:
        pairs.append(renewed.server("xds-2"))
        async with client(server.port, renewed, "edge") as connection:
            await connection.send(TYPE_CLUSTER, node=node())
            assert names(await connection.receive_and_ack()) == ["c0"]


async def test_a_flood_of_bad_tokens_leaves_good_proxies_their_turn(
    authority: Authority, platform: Platform, mesh: TinyMesh, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with serving(mesh, tokens(authority, platform)) as server:
        async with client(server.port, authority, "edge") as connection:
            flood = asyncio.gather(*(refusal(server.port, authority, f"bad-{n}") for n in range(50)))
            await connection.send(TYPE_CLUSTER, node=node())
            assert names(await connection.receive_and_ack()) == ["c0"]
            assert {code for code, _ in await flood} == {grpc.StatusCode.UNAUTHENTICATED}
        await until(lambda: not mesh.hub.members())


def test_a_token_is_what_one_authorization_says() -> None:
    assert bearer_token([("user-agent", "x"), ("authorization", "Bearer a.b-c_d=")]) == "a.b-c_d="
    assert bearer_token([("x", "y")]) == ""


@pytest.mark.parametrize(
    "values",
    [
        ["Bearer a", "Bearer b"],
        ["Basic dXNlcjpwYXNz"],
        ["Bearer "],
        ["Bearer a b"],
        ["Bearer " + "a" * 20_000],
        [b"Bearer a"],
        ["Bearer a\n"],
        ["Bearer é"],
    ],
)
def test_anything_else_is_no_token_and_not_repeated(values: list[str | bytes]) -> None:
    with pytest.raises(NotAuthenticatedError) as caught:
        bearer_token([("authorization", value) for value in values])
    assert "dXNlcj" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_is_not_surely_encrypted_counts_as_not() -> None:
    assert over_tls({"transport_security_type": [b"ssl"]})
    for context in ({}, {"transport_security_type": [b"insecure"]}, {"transport_security_type": [b"ssl", b"x"]}):
        assert not over_tls(context)


def test_a_caller_is_an_address_without_its_port() -> None:
    assert host_of("ipv4:192.0.2.1:4711") == "192.0.2.1"
    assert host_of("ipv6:%5B2001:db8::1%5D:4711") == "%5B2001:db8::1%5D"


def test_a_servers_key_does_not_show() -> None:
    assert "KEY" not in repr(ServerCertificate(b"cert", b"KEY"))
