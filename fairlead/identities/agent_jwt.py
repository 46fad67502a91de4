"""SPIFFE's Workload API as an agent serves it to its workload: JWT-SVIDs and the keys that vouch for those of others.

(SPIFFE_Workload_API.md §6; certificates are for Envoy, over SDS.) On the agent's socket, so whoever may ask for the
certificate may ask for a token. One is used again, for the same audiences, until half of its life.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from xds.schema import message
from xds.server.rpc import END, stream_method, unary_method

SERVICE: Final = "SpiffeWorkloadAPI"
JwtSvidRequest = message("fairlead.workload.v1.JwtSvidRequest")
JwtSvidResponse = message("fairlead.workload.v1.JwtSvidResponse")
JwtBundlesResponse = message("fairlead.workload.v1.JwtBundlesResponse")
# §4.1: so that no page in a browser can ask.
_HEADER: Final = ("workload.spiffe.io", "true")
_MOST_KEPT: Final = 100
_TOLD: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED})


class JwtApi:
    """`issue` asks the control plane for a token (an `IssueJwtResponse`), and raises AioRpcError.

    It raises TimeoutError where there is no certificate yet that could be shown.
    """

    def __init__(self, issue: Callable[[tuple[str, ...]], Awaitable[Any]], clock: Callable[[], dt.datetime]) -> None:
        self._issue = issue
        self._clock = clock
        self._kept: dict[tuple[str, ...], tuple[Any, dt.datetime]] = {}
        self._bundles = JwtBundlesResponse()
        self._changed = asyncio.Event()

    def methods(self) -> Mapping[str, Mapping[str, Any]]:
        """The service and its methods."""
        return {SERVICE: {"FetchJWTSVID": unary_method(self._fetch), "FetchJWTBundles": stream_method(self._follow)}}

    def put(self, jwks: Mapping[str, bytes]) -> None:
        """The keys of trust domains, as JWK Sets by name, from now on. A token of a key that has gone is forgotten."""
        made = JwtBundlesResponse()
        for name in sorted(jwks):
            made.bundles[f"spiffe://{name}"] = jwks[name]
        if made != self._bundles:
            self._bundles = made
            self._kept.clear()
            self._changed.set()
            self._changed = asyncio.Event()

    async def _fetch(self, request: bytes, context: Any) -> bytes:
        await _ask_who(context)
        try:
            asked = JwtSvidRequest.FromString(request)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is no JWTSVIDRequest")
        found = await self._token(tuple(asked.audience), context)
        if asked.spiffe_id not in ("", found.spiffe_id):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"this workload is not {asked.spiffe_id[:200]}")
        answer = JwtSvidResponse()
        answer.svids.add(spiffe_id=found.spiffe_id, svid=found.token)
        encoded: bytes = answer.SerializeToString()
        return encoded

    async def _token(self, audiences: tuple[str, ...], context: Any) -> Any:
        now = self._clock()
        found, until = self._kept.get(audiences, (None, now))
        if until > now:
            return found
        vouched = self._bundles
        try:
            found = await self._issue(audiences)
        except TimeoutError:
            why = "no JWT-SVID: this workload has no certificate yet, and its agent's log says why"
            await context.abort(grpc.StatusCode.UNAVAILABLE, why)
        except grpc.aio.AioRpcError as error:
            code = error.code() if error.code() in _TOLD else grpc.StatusCode.UNAVAILABLE
            await context.abort(code, f"no JWT-SVID: {error.details()}")
            raise AssertionError("aborting raises") from None
        if self._bundles is not vouched:
            return found  # perhaps of a key that has gone meanwhile
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[audiences] = found, now + (found.not_after.ToDatetime(dt.UTC) - now) / 2
        return found

    async def _follow(self, _: Any, context: Any) -> None:
        await _ask_who(context)
        if await context.read() is END:
            return
        while True:
            changed = self._changed
            await context.write(self._bundles.SerializeToString())
            await changed.wait()


async def _ask_who(context: Any) -> None:
    if _HEADER not in (context.invocation_metadata() or ()):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the metadata `workload.spiffe.io: true` is missing")
