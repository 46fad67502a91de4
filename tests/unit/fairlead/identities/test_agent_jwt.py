"""The Workload API of an agent, for JWT-SVIDs: when it asks the control plane, and what it tells whom. No network."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from fairlead.identities.agent_jwt import JwtApi, JwtBundlesResponse, JwtSvidRequest, JwtSvidResponse
from fairlead.identities.issuance import IssueJwtResponse

ID = "spiffe://cluster.local/ns/shop/sa/reviews"
GOOD = (("workload.spiffe.io", "true"),)


class AbortedError(Exception):
    pass


class Call:
    def __init__(self, metadata: tuple[tuple[str, str], ...] = GOOD) -> None:
        self._metadata = metadata
        self.told: asyncio.Queue[bytes] = asyncio.Queue()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise AbortedError(f"{code.name}: {details}")

    async def read(self) -> bytes:
        return b""

    async def write(self, message: bytes) -> None:
        await self.told.put(message)


class Plane:
    """Gives tokens that live five minutes, numbered."""

    def __init__(self) -> None:
        self.now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self.asked: list[tuple[str, ...]] = []
        self.error: grpc.StatusCode | type[TimeoutError] | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        self.api = JwtApi(self.issue, lambda: self.now)

    async def issue(self, audiences: tuple[str, ...]) -> Any:
        if self.error is TimeoutError:
            raise TimeoutError
        if isinstance(self.error, grpc.StatusCode):
            none = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(self.error, none, none, details="why")
        self.asked.append(audiences)
        self.meanwhile()
        answer = IssueJwtResponse(token=f"token {len(self.asked)}", spiffe_id=ID)
        answer.not_after.FromDatetime(self.now + dt.timedelta(minutes=5))
        return answer

    async def fetch(self, *audiences: str, spiffe_id: str = "", call: Call | None = None, raw: bytes = b"") -> str:
        asked = JwtSvidRequest(audience=audiences, spiffe_id=spiffe_id).SerializeToString()
        method = self.api.methods()["SpiffeWorkloadAPI"]["FetchJWTSVID"].unary_unary
        [svid] = JwtSvidResponse.FromString(await method(raw or asked, call or Call())).svids
        assert svid.spiffe_id == ID
        return str(svid.svid)


@pytest.fixture
async def plane() -> Plane:
    return Plane()


async def test_a_token_is_used_until_half_of_its_life_for_the_same_audiences(plane: Plane) -> None:
    assert await plane.fetch("orders") == "token 1"
    plane.now += dt.timedelta(seconds=149)
    assert await plane.fetch("orders") == "token 1"
    assert await plane.fetch("orders", "ratings") == "token 2"
    plane.now += dt.timedelta(seconds=2)
    assert await plane.fetch("orders") == "token 3"


async def test_other_keys_mean_other_tokens(plane: Plane) -> None:
    plane.api.put({"cluster.local": b"{}"})
    assert await plane.fetch("orders") == "token 1"
    plane.api.put({"cluster.local": b"{}"})
    assert await plane.fetch("orders") == "token 1"
    plane.api.put({"cluster.local": b"{other}"})
    assert await plane.fetch("orders") == "token 2"


async def test_a_token_that_was_on_its_way_as_keys_changed_is_not_kept(plane: Plane) -> None:
    plane.meanwhile = lambda: plane.api.put({"cluster.local": b"{other}"})
    assert await plane.fetch("orders") == "token 1"
    assert await plane.fetch("orders") == "token 2"
    assert await plane.fetch("orders") == "token 2"


async def test_what_is_kept_of_tokens_is_bounded(plane: Plane) -> None:
    for number in range(150):
        await plane.fetch(str(number))
    assert await plane.fetch("149") == "token 150"
    assert await plane.fetch("0") == "token 151"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: no JWT-SVID: why"),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAVAILABLE: no JWT-SVID: why"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT: no JWT-SVID: why"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED: no JWT-SVID: why"),
        (TimeoutError, "UNAVAILABLE: no JWT-SVID: this workload has no certificate yet"),
    ],
)
async def test_a_plane_that_gives_none_is_told_of_and_a_token_that_is_there_used(
    plane: Plane, error: grpc.StatusCode | type[TimeoutError], told: str
) -> None:
    await plane.fetch("orders")
    plane.error = error
    assert await plane.fetch("orders") == "token 1"
    with pytest.raises(AbortedError, match=told):
        await plane.fetch("ratings")


@pytest.mark.parametrize("metadata", [(), (("workload.spiffe.io", "false"),), (("Workload.spiffe.io ", "true"),)])
async def test_without_the_header_nobody_gets_anything(plane: Plane, metadata: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(AbortedError, match="INVALID_ARGUMENT"):
        await plane.fetch("orders", call=Call(metadata))
    with pytest.raises(AbortedError, match="INVALID_ARGUMENT"):
        await plane.api.methods()["SpiffeWorkloadAPI"]["FetchJWTBundles"].stream_stream(None, Call(metadata))
    assert plane.asked == []


async def test_another_identity_and_garbage_are_refused(plane: Plane) -> None:
    assert await plane.fetch("orders", spiffe_id=ID) == "token 1"
    with pytest.raises(AbortedError, match="PERMISSION_DENIED"):
        await plane.fetch("orders", spiffe_id=ID.replace("reviews", "admin"))
    with pytest.raises(AbortedError, match="INVALID_ARGUMENT"):
        await plane.fetch(raw=b"\xff")


async def test_keys_are_told_and_whenever_they_change(plane: Plane) -> None:
    plane.api.put({"cluster.local": b"{}"})
    call = Call()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(
            plane.api.methods()["SpiffeWorkloadAPI"]["FetchJWTBundles"].stream_stream(None, call)
        )
        first = JwtBundlesResponse.FromString(await call.told.get())
        assert dict(first.bundles) == {"spiffe://cluster.local": b"{}"}
        plane.api.put({"cluster.local": b"{other}"})
        second = JwtBundlesResponse.FromString(await call.told.get())
        assert dict(second.bundles) == {"spiffe://cluster.local": b"{other}"}
        following.cancel()
