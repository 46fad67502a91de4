"""What the service that issues certificates tells of its agents, and when it spends a join token. No network."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest

from fairlead.identities.issuance import (
    BundleAck,
    Bundles,
    Issuance,
    IssueJwtRequest,
    IssueJwtResponse,
    IssueRequest,
    IssueResponse,
)
from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable
from sds.builtin import BuiltinAuthority, in_memory
from sds.bundle import read_jwks
from sds.join_tokens import JoinTokens
from sds.jwt_svid import validate
from sds.keepers import MemoryKeeper
from sds.keys import new_key, request_for
from xds.server.authentication import Authentication
from xds.server.rpc import END

TD = TrustDomain("cluster.local")
REVIEWS = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/reviews")
NAME = f"agent {REVIEWS} pod-1"
LIFE = dt.timedelta(hours=1)


_PEM = in_memory(TD).bundle().pem()
"""A certificate that has not ended."""


class AbortedError(Exception):
    pass


class Call:
    """gRPC's context of a call over TLS. By `token`, or as `identity` by a certificate."""

    def __init__(self, token: str = "", identity: SpiffeId | None = None, *, peer: str = "ipv4:127.0.0.1:1") -> None:
        self._peer = peer
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._auth: dict[str, list[bytes]] = {"transport_security_type": [b"ssl"]}
        if identity is not None:
            self._auth |= {"x509_pem_cert": [_PEM], "peer_spiffe_id": [str(identity).encode()]}
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        self.told: asyncio.Queue[bytes] = asyncio.Queue()

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self._auth

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return self._peer

    async def abort(self, code: Any, details: str) -> None:
        raise AbortedError(f"{code.name}: {details}")

    async def read(self) -> Any:
        return await self.said.get()

    async def write(self, message: bytes) -> None:
        await self.told.put(message)

    async def ack(self, version: str) -> None:
        await self.said.put(BundleAck(version=version, instance="pod-1").SerializeToString())


class World:
    """A service, who it said has no stream, and the wall clock."""

    def __init__(self) -> None:
        self.authority: BuiltinAuthority | None = in_memory(TD)
        self.left: list[tuple[str, bool | None]] = []
        self.roots = self.builtin.bundle().pem()
        self.now = dt.datetime.now(dt.UTC)
        self.seconds_passed = 1_000.0
        self.tokens = JoinTokens(MemoryKeeper(), self._seconds)
        self.issuance = Issuance(
            lambda: self.authority,
            lambda: self.authority,
            Authentication(),
            self.tokens,
            lambda: {"cluster.local": (self.roots, True)},
            lambda name, current: self.left.append((name, current)),
            life=LIFE,
            clock=lambda: self.now,
            monotonic=lambda: self.seconds_passed,
        )

    @property
    def builtin(self) -> BuiltinAuthority:
        assert self.authority is not None
        return self.authority

    def _seconds(self) -> float:
        return self.now.timestamp()

    async def issue(self, call: Call, *, clock: dt.datetime | None = None, request: bytes = b"") -> Any:
        asked = IssueRequest(csr=request_for(new_key(), None), instance="pod-1")
        if clock is not None:
            asked.clock.FromDatetime(clock)
        issue = self.issuance.methods()["fairlead.identity.v1.WorkloadIdentity"]["Issue"]
        return IssueResponse.FromString(await issue.unary_unary(request or asked.SerializeToString(), call))


@pytest.fixture
async def world() -> World:
    return World()


async def test_who_got_a_certificate_has_what_was_to_be_trusted_then_and_no_stream_yet(world: World) -> None:
    await world.issue(Call(await world.tokens.create(REVIEWS, 60)))
    assert world.left == [(NAME, None)]


async def test_who_got_none_is_not_waited_for(world: World) -> None:
    with pytest.raises(AbortedError, match="UNAUTHENTICATED: refused"):
        await world.issue(Call("fljoin_wrong"))
    assert world.left == []


@pytest.mark.parametrize("current", [True, False])
async def test_a_stream_that_ends_tells_whether_its_agent_has_the_present_bundle(world: World, current: bool) -> None:
    call = Call(identity=REVIEWS)
    follow = world.issuance.methods()["fairlead.identity.v1.WorkloadIdentity"]["FollowBundles"].stream_stream
    await call.ack("")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow(None, call))
        version = Bundles.FromString(await call.told.get()).version
        assert world.issuance.seen().lacking == {NAME}
        await call.ack(version if current else "an older one")
        await call.said.put(END)
    assert world.left == [(NAME, current)]
    assert world.issuance.seen().holding == set()


@pytest.mark.parametrize("seconds", [175, 0, -3_590])
async def test_a_join_token_is_spent_where_its_certificate_is_of_use(world: World, seconds: int) -> None:
    token = await world.tokens.create(REVIEWS, 60)
    answer = await world.issue(Call(token), clock=world.now - dt.timedelta(seconds=seconds))
    assert answer.spiffe_id == str(REVIEWS)
    with pytest.raises(AbortedError, match="UNAUTHENTICATED"):
        await world.issue(Call(token))


@pytest.mark.parametrize("seconds", [300, -3_600])
async def test_a_join_token_is_not_spent_while_clocks_are_minutes_apart(world: World, seconds: int) -> None:
    token = await world.tokens.create(REVIEWS, 60)
    there = world.now - dt.timedelta(seconds=seconds)
    with pytest.raises(AbortedError, match="UNAVAILABLE: not now: the clock here and the control plane's are minutes"):
        await world.issue(Call(token), clock=there)
    assert (await world.issue(Call(token), clock=world.now)).spiffe_id == str(REVIEWS)


@pytest.mark.parametrize("request_", [b"\xff", b"\x22\x0b\x08\x80\x80\x80\x80\x80\x80\x80\x80\x7f"])
async def test_a_join_token_is_not_spent_on_garbage(world: World, request_: bytes) -> None:
    token = await world.tokens.create(REVIEWS, 60)
    with pytest.raises(AbortedError, match="UNAUTHENTICATED: refused"):
        await world.issue(Call(token), request=request_)
    assert (await world.issue(Call(token))).spiffe_id == str(REVIEWS)


async def test_machines_of_one_account_that_come_all_at_once_wait_and_lose_no_join_token(world: World) -> None:
    tokens = {number: await world.tokens.create(REVIEWS, 60) for number in range(12)}
    for number in range(10):
        await world.issue(Call(tokens[number]))
    for number in (10, 11):
        with pytest.raises(AbortedError, match="RESOURCE_EXHAUSTED: not now"):
            await world.issue(Call(tokens[number]))
    world.seconds_passed += 10
    for number in (10, 11):
        assert (await world.issue(Call(tokens[number]))).spiffe_id == str(REVIEWS)


@pytest.mark.parametrize("asked", [SpiffeId(TD, "/ns/shop/sa/admin"), None])
async def test_a_join_token_is_not_spent_on_a_request_that_nobody_grants(world: World, asked: SpiffeId | None) -> None:
    token = await world.tokens.create(REVIEWS, 60)
    csr = request_for(new_key(), asked) if asked is not None else b"no request"
    with pytest.raises(AbortedError, match="INVALID_ARGUMENT: refused"):
        await world.issue(Call(token), request=IssueRequest(csr=csr).SerializeToString())
    assert (await world.issue(Call(token))).spiffe_id == str(REVIEWS)


async def test_a_join_token_is_given_back_where_the_authority_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await world.tokens.create(REVIEWS, 60)

    async def away(*_: Any, **__: Any) -> Any:
        raise AuthorityUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(world.builtin, "issue", away)
        for _ in range(2):
            with pytest.raises(AbortedError, match="UNAVAILABLE: not now"):
                await world.issue(Call(token))
    assert (await world.issue(Call(token))).spiffe_id == str(REVIEWS)
    with pytest.raises(AbortedError, match="UNAUTHENTICATED"):
        await world.issue(Call(token))


@pytest.mark.parametrize("token", ["", "fljoin_stolen"])
async def test_nobody_follows_bundles_without_a_certificate(world: World, token: str) -> None:
    follow = world.issuance.methods()["fairlead.identity.v1.WorkloadIdentity"]["FollowBundles"].stream_stream
    with pytest.raises(AbortedError, match="UNAUTHENTICATED: refused"):
        await follow(None, Call(token))


async def jwt(world: World, call: Call, *audiences: str) -> Any:
    issue = world.issuance.methods()["fairlead.identity.v1.WorkloadIdentity"]["IssueJwt"]
    asked = IssueJwtRequest(audiences=audiences)
    return IssueJwtResponse.FromString(await issue.unary_unary(asked.SerializeToString(), call))


async def test_a_jwt_svid_says_who_called_and_the_bundle_has_the_key_for_it(world: World) -> None:
    answer = await jwt(world, Call(identity=REVIEWS), "orders")
    bundle = read_jwks(world.issuance.message().jwks["cluster.local"], TD)
    said = validate(answer.token, {TD: bundle}, audience="orders", now=world.now)
    assert str(said.identity) == answer.spiffe_id == str(REVIEWS)
    living = world.builtin.book.active.living_until(world.now)
    assert living is not None, "its authority may not be revoked while the token is valid"
    assert living > said.expires_at


@pytest.mark.parametrize("audiences", [(), ("",), tuple("abcdefghijk")])
async def test_a_jwt_svid_for_nobody_or_for_everybody_is_refused(world: World, audiences: tuple[str, ...]) -> None:
    with pytest.raises(AbortedError, match="INVALID_ARGUMENT: a JWT-SVID is for 1 to 10 audiences"):
        await jwt(world, Call(identity=REVIEWS), *audiences)


async def test_a_join_token_and_nobody_get_no_jwt_svid_and_the_token_stays_good(world: World) -> None:
    token = await world.tokens.create(REVIEWS, 60)
    for shown in (token, "", "fljoin_stolen"):
        with pytest.raises(AbortedError, match="UNAUTHENTICATED: refused"):
            await jwt(world, Call(shown), "orders")
    assert (await world.issue(Call(token))).spiffe_id == str(REVIEWS)


async def test_where_nobody_signs_jwt_svids_that_is_said(world: World) -> None:
    world.authority = None
    with pytest.raises(AbortedError, match="UNIMPLEMENTED: nobody signs JWT-SVIDs here"):
        await jwt(world, Call(identity=REVIEWS), "orders")


async def test_workloads_behind_one_address_do_not_wait_for_each_other_nor_for_strangers_there(world: World) -> None:
    for _ in range(30):
        with pytest.raises(AbortedError, match=r"UNAUTHENTICATED|RESOURCE_EXHAUSTED"):
            await world.issue(Call("fljoin_wrong"))
    with pytest.raises(AbortedError, match="RESOURCE_EXHAUSTED"):
        await world.issue(Call("fljoin_wrong"))
    for number in range(100):
        identity = SpiffeId(TD, f"/ns/shop/sa/account-{number}")
        assert (await world.issue(Call(identity=identity))).spiffe_id == str(identity)


async def test_who_asks_without_end_has_to_wait(world: World) -> None:
    calls = [Call(identity=REVIEWS) for _ in range(200)]
    answers = await asyncio.gather(*(jwt(world, call, "orders") for call in calls), return_exceptions=True)
    assert sum("RESOURCE_EXHAUSTED" in str(answer) for answer in answers) > 50
    assert sum(isinstance(answer, IssueJwtResponse) for answer in answers) >= 100
