"""The client status discovery service: what every connected proxy was sent, and what it made of it.

Statuses are those of envoy/service/status/v3/csds.proto: SYNCED, STALE, ERROR, NOT_SENT, per resource. Configuration is
not for everybody: over TLS a caller is told of the proxies of its own namespace (operators have the API). An answer can
be large, so it is made in pieces, between which other streams get their turn, and no more than a few at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import grpc

from xds.protocol.contents import ABSENT, Entry
from xds.protocol.typed import Typed
from xds.schema.type_urls import TYPE_SECRET
from xds.schema.types import ClientStatusRequest, ClientStatusResponse, ConfigStatus
from xds.server.authentication import Proof
from xds.server.gatekeeper import Gatekeeper, RefusedError, read_message
from xds.server.hub import Hub, Member
from xds.server.node_matchers import UnusableMatcherError, compiled
from xds.server.rpc import END, stream_method
from xds.server.states import too_old

SERVICE: Final = "envoy.service.status.v3.ClientStatusDiscoveryService"

# Resources that are described without a pause: well under a millisecond.
_PIECE: Final = 50
# Bytes of configuration in one answer; gRPC clients take 4 MB unless they are told otherwise.
_LARGEST: Final = 64 << 20
_AT_ONCE: Final = 2
# A caller that does not take its answer in this time holds a place that another could use.
_WRITE_SECONDS: Final = 30.0


class TooLargeError(Exception):
    """The answer would have too many bytes."""


class Answers:
    """Makes answers, a few at a time."""

    def __init__(self, hub: Hub, gate: Gatekeeper) -> None:
        self._hub = hub
        self._gate = gate
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def stream(self, _: Any, context: Any) -> None:
        """Answer every request of a stream."""
        try:
            await self._gate.admit()
            proof = await self._gate.proof(context)
            raw = await self._gate.first_message(context)
            while raw is not END:
                async with self._places, asyncio.timeout(_WRITE_SECONDS):
                    await context.write(await self._answer(raw, proof))
                raw = await context.read()
                proof = await self._gate.proof(context)  # anew for every answer: a stream may outlive it
        except RefusedError as refusal:
            await self._gate.refuse(refusal, context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the answer was not taken in time")

    async def fetch(self, raw: bytes, context: Any) -> bytes:
        """Answer one request."""
        try:
            await self._gate.admit()
            proof = await self._gate.proof(context)
            async with self._places:
                return await self._answer(raw, proof)
        except RefusedError as refusal:
            await self._gate.refuse(refusal, context)
            raise

    async def _answer(self, raw: bytes, proof: Proof | None) -> bytes:
        namespace = proof.identity.namespace if proof is not None else None
        try:
            answer = await status(self._hub, read_message(ClientStatusRequest, raw), namespace=namespace)
        except UnusableMatcherError as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error), "invalid") from error
        except TooLargeError as error:
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), "busy") from error
        message: bytes = answer.SerializeToString()
        return message


def methods(hub: Hub, gate: Gatekeeper) -> Mapping[str, Any]:
    """The methods of the service."""
    answers = Answers(hub, gate)
    return {
        "StreamClientStatus": stream_method(answers.stream),
        "FetchClientStatus": grpc.unary_unary_rpc_method_handler(answers.fetch),
    }


async def status(hub: Hub, request: Any, *, namespace: str | None = None, largest: int = _LARGEST) -> Any:
    """The answer to a `ClientStatusRequest`: one `ClientConfig` per stream of a proxy that matches.

    `namespace` limits it to the proxies there, `largest` the bytes of configuration in it.

    Raises:
        UnusableMatcherError: a node matcher that is not understood.
        TooLargeError: more than `largest` bytes.
    """
    fits = compiled(request.node_matchers)
    response = ClientStatusResponse()
    size = 0
    for member in sorted(hub.members(), key=lambda member: member.proxy.node_id):
        if namespace not in (None, member.proxy.audience.namespace) or not fits(member.proxy.node):
            continue
        described = _Described(response.config.add(), hub, member, with_contents=not request.exclude_resource_contents)
        for number, (type_url, name) in enumerate(described.names()):
            size += described.add(type_url, name)
            if size > largest:
                raise TooLargeError(
                    f"the answer has more than {largest} bytes of configuration;"
                    " ask for fewer proxies (node_matchers) or without it (exclude_resource_contents)"
                )
            if number % _PIECE == _PIECE - 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
    return response


class _Described:
    """One stream's `ClientConfig` in the making. What the stream holds is taken once: it may change between pieces."""

    def __init__(self, config: Any, hub: Hub, member: Member, *, with_contents: bool) -> None:
        self._config = config
        self._version = member.proxy.version
        self._with_contents = with_contents
        config.node.CopyFrom(member.proxy.node)
        self._types = {
            type_url: (state, member.stream.wanted(state), hub.left_out(member, type_url))
            for type_url, state in sorted(member.stream.types.items())
        }

    def names(self) -> list[tuple[str, str]]:
        """Type and name of everything to be described, sorted."""
        found = []
        for type_url, (state, wanted, left_out) in self._types.items():
            names = left_out.keys() | state.held.entries.keys()
            if wanted is not None:
                names |= wanted.entries.keys()
            found += [(type_url, name) for name in sorted(names)]
        return found

    def add(self, type_url: str, name: str) -> int:
        """Describe one resource; returns about how many bytes that took."""
        state, wanted, left_out = self._types[type_url]
        entry = state.held.get(name) or ABSENT
        described = self._config.generic_xds_configs.add()
        described.type_url = type_url
        described.name = name
        described.config_status = _status(state, name, wanted.get(name) if wanted is not None else None)
        size = len(type_url) + len(name)
        if entry is not ABSENT:
            described.version_info = entry.version
            # Secrets are never shown, to nobody.
            if self._with_contents and entry.content and type_url != TYPE_SECRET:
                described.xds_config.MergeFromString(entry.content)
                size += len(entry.content)
        if described.config_status == ConfigStatus.Value("ERROR"):
            described.error_state.details = state.detail
            described.error_state.version_info = state.rejected[name]
        elif name in left_out:
            described.error_state.details = too_old(self._version, left_out[name])
        return size


def _status(state: Typed, name: str, wanted: Entry | None) -> int:
    held = state.held.get(name)
    if wanted is not None and state.rejected.get(name) == wanted.version and wanted.version:
        return int(ConfigStatus.Value("ERROR"))
    if held is None or held is ABSENT:
        return int(ConfigStatus.Value("NOT_SENT"))
    acked = state.acked.get(name)
    if acked is None or acked.version != held.version or wanted is None or wanted.version != held.version:
        return int(ConfigStatus.Value("STALE"))
    return int(ConfigStatus.Value("SYNCED"))
