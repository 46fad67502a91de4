"""The aggregated discovery service, and what every discovery stream goes through: the gate, then the session."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import grpc

from xds.protocol.requests import DeltaRequest, ProtocolError, SotwRequest, read_delta, read_sotw
from xds.protocol.transitions import Variant
from xds.server.authentication import Proof
from xds.server.gatekeeper import Gatekeeper, RefusedError
from xds.server.hub import Hub
from xds.server.node_identity import Proxy
from xds.server.rpc import Handler, stream_method
from xds.server.session import Session

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

Request = DeltaRequest | SotwRequest


class Streams:
    """All discovery streams of a server."""

    def __init__(self, hub: Hub, gate: Gatekeeper) -> None:
        self._hub = hub
        self._gate = gate
        self.sessions: dict[Session, Proof | None] = {}
        self._none = asyncio.Event()
        self._none.set()

    def handler(self, variant: Variant, implied_type: str = "") -> Handler:
        """A gRPC handler over raw bytes; `implied_type` for the per-type services."""

        async def serve(_: Any, context: Any) -> None:
            await self._serve(context, variant, implied_type)

        return serve

    async def recheck(self) -> None:
        """Close the streams of those whose proof is believed no more."""
        for session, proof in list(self.sessions.items()):
            if not self._gate.stands(proof):
                session.close("refused")
            await asyncio.sleep(0)  # each costs a signature, and others wait

    async def ended(self) -> None:
        """Wait until there is no stream."""
        await self._none.wait()

    async def _serve(self, context: Any, variant: Variant, implied_type: str) -> None:
        try:
            await self._gate.admit()
            proof = await self._gate.proof(context)
            first, proxy = await self._introduce(context, variant, implied_type, proof)
        except RefusedError as refusal:
            await self._gate.refuse(refusal, context)
            return
        stream = self._hub.stream_for(variant, proxy)
        session = Session(self._hub, context, stream, proxy, implied_type, lasts=self._gate.lasts(proof))
        self.sessions[session] = proof
        self._none.clear()
        self._hub.join(session)
        try:
            await session.run(first)
        except ProtocolError as error:
            session.closing = "refused"
            await context.abort(_code(error), str(error))
        finally:
            del self.sessions[session]
            if not self.sessions:
                self._none.set()
            self._hub.leave(session)
            self._hub.telemetry.streams_ended[session.closing or "closed"] += 1

    async def _introduce(
        self, context: Any, variant: Variant, implied_type: str, proof: Proof | None
    ) -> tuple[Request, Proxy]:
        """The first request and who sent it (S1)."""
        first = await self._gate.first_message(context)
        read = read_delta if variant == "delta" else read_sotw
        try:
            request: Request = read(first, implied_type)
        except ProtocolError as error:
            raise RefusedError(_code(error), str(error), "invalid") from error
        if request.node is None:
            said = "the first request of a stream must carry `node`"
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, said, "invalid")
        proxy = self._gate.proxy(request.node, proof, sotw=variant == "sotw")
        # The request lives as long as its stream; the node in it, up to megabytes, need not.
        return replace(request, node=None), proxy


def _code(error: ProtocolError) -> grpc.StatusCode:
    return grpc.StatusCode.RESOURCE_EXHAUSTED if error.exhausted else grpc.StatusCode.INVALID_ARGUMENT


def methods(streams: Streams) -> Mapping[str, Any]:
    """The methods of the aggregated service."""
    return {
        "StreamAggregatedResources": stream_method(streams.handler("sotw")),
        "DeltaAggregatedResources": stream_method(streams.handler("delta")),
    }
