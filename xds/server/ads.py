"""The aggregated discovery service, and what every discovery stream goes through: admission, identity, the session."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import grpc

from xds.protocol.requests import DeltaRequest, ProtocolError, SotwRequest, read_delta, read_sotw
from xds.protocol.transitions import Variant
from xds.server.admission import Admission
from xds.server.authentication import NotAuthenticatedError, check, identity_of
from xds.server.hub import Hub
from xds.server.node_identity import InvalidNodeError, Proxy, identify
from xds.server.rpc import END, Handler, stream_method
from xds.server.session import Session

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

# A client that opens a stream and says nothing holds a place that another could use.
_FIRST_REQUEST_SECONDS: Final = 30.0

Request = DeltaRequest | SotwRequest


class RefusedError(Exception):
    """A stream that is not served: the gRPC status, and the reason under which it is counted."""

    def __init__(self, code: grpc.StatusCode, message: str, reason: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Streams:
    """All discovery streams of a server. `authenticate`: clients prove who they are (TLS), and it is checked."""

    def __init__(self, hub: Hub, admission: Admission, *, authenticate: bool) -> None:
        self._hub = hub
        self._admission = admission
        self._authenticate = authenticate
        self._draining = False
        self.sessions: dict[Session, None] = {}

    def handler(self, variant: Variant, implied_type: str = "") -> Handler:
        """A gRPC handler over raw bytes; `implied_type` for the per-type services."""

        async def serve(_: Any, context: Any) -> None:
            await self._serve(context, variant, implied_type)

        return serve

    def drain(self) -> None:
        """Let no more streams in."""
        self._draining = True

    async def _serve(self, context: Any, variant: Variant, implied_type: str) -> None:
        telemetry = self._hub.telemetry
        try:
            await self._admit()
            first, proxy = await self._introduce(context, variant, implied_type)
        except RefusedError as refusal:
            telemetry.streams_refused[refusal.reason] += 1
            await context.abort(refusal.code, str(refusal))
            return
        session = Session(self._hub, context, self._hub.stream_for(variant, proxy), proxy, implied_type)
        self.sessions[session] = None
        self._hub.join(session)
        try:
            await session.run(first)
        except ProtocolError as error:
            session.closing = "refused"
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if error.exhausted else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, str(error))
        finally:
            del self.sessions[session]
            self._hub.leave(session)
            telemetry.streams_ended[session.closing or "closed"] += 1

    async def _admit(self) -> None:
        if self._draining:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "this server is shutting down: connect again", "draining")
        if not self._hub.ready:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, f"not ready: {self._hub.not_ready_because}", "not_ready")
        wait = self._admission.wait(self._hub.clock())
        if wait is None:
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE, "too many proxies are connecting at once: retry in some seconds", "busy"
            )
        if wait:
            await asyncio.sleep(wait)

    async def _introduce(self, context: Any, variant: Variant, implied_type: str) -> tuple[Request, Proxy]:
        """The first request and who sent it (S1)."""
        try:
            async with asyncio.timeout(_FIRST_REQUEST_SECONDS):
                first = await context.read()
        except TimeoutError as error:
            raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "no request came on this stream", "silent") from error
        if first is END:
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT, "the stream was closed before its first request", "silent"
            )
        try:
            read = read_delta if variant == "delta" else read_sotw
            request: Request = read(first, implied_type)
            return request, self._proxy_behind(request, context)
        except ProtocolError as error:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if error.exhausted else grpc.StatusCode.INVALID_ARGUMENT
            raise RefusedError(code, str(error), "invalid") from error
        except InvalidNodeError as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error), "invalid") from error
        except NotAuthenticatedError as error:
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, str(error), "unauthenticated") from error

    def _proxy_behind(self, first: Request, context: Any) -> Proxy:
        if first.node is None:
            raise InvalidNodeError("the first request of a stream must carry `node`")
        proxy = identify(first.node)
        if self._authenticate:
            check(identity_of(context.auth_context()), proxy)
        return proxy


def methods(streams: Streams) -> Mapping[str, Any]:
    """The methods of the aggregated service."""
    return {
        "StreamAggregatedResources": stream_method(streams.handler("sotw")),
        "DeltaAggregatedResources": stream_method(streams.handler("delta")),
    }
