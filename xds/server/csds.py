"""The client status discovery service: what every connected proxy was sent, and what it made of it.

Statuses are those of envoy/service/status/v3/csds.proto: SYNCED, STALE, ERROR, NOT_SENT, per resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from xds.protocol.contents import ABSENT, Entry
from xds.protocol.typed import Typed
from xds.schema.type_urls import TYPE_SECRET
from xds.schema.types import ClientStatusRequest, ClientStatusResponse, ConfigStatus
from xds.server.hub import Hub, Member
from xds.server.rpc import END, stream_method
from xds.server.states import too_old

SERVICE: Final = "envoy.service.status.v3.ClientStatusDiscoveryService"


def methods(hub: Hub) -> Mapping[str, Any]:
    """The methods of the service."""

    async def stream(_: Any, context: Any) -> None:
        while (raw := await context.read()) is not END:
            answer = await _answer(hub, raw, context)
            await context.write(answer)

    async def fetch(raw: bytes, context: Any) -> bytes:
        return await _answer(hub, raw, context)

    return {
        "StreamClientStatus": stream_method(stream),
        "FetchClientStatus": grpc.unary_unary_rpc_method_handler(fetch),
    }


async def _answer(hub: Hub, raw: bytes, context: Any) -> bytes:
    try:
        request = ClientStatusRequest.FromString(raw)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is not a ClientStatusRequest")
    message: bytes = status(hub, request).SerializeToString()
    return message


def status(hub: Hub, request: Any) -> Any:
    """The answer to a `ClientStatusRequest`: one `ClientConfig` per stream of a proxy that matches."""
    response = ClientStatusResponse()
    for member in sorted(hub.members(), key=lambda member: member.proxy.node_id):
        if matches(request.node_matchers, member.proxy.node):
            _describe(response.config.add(), hub, member, with_contents=not request.exclude_resource_contents)
    return response


def matches(matchers: Iterable[Any], node: Any) -> bool:
    """Whether a node fits one of the matchers; no matchers fit all (T7)."""
    matchers = list(matchers)
    return not matchers or any(_fits(matcher, node) for matcher in matchers)


def _fits(matcher: Any, node: Any) -> bool:
    if matcher.HasField("node_id") and not _string_fits(matcher.node_id, node.id):
        return False
    return all(_metadata_fits(wanted, node.metadata) for wanted in matcher.node_metadatas)


def _metadata_fits(matcher: Any, metadata: Any) -> bool:
    value: Any = None
    fields = metadata.fields
    for segment in matcher.path:
        if segment.key not in fields:
            return False
        value = fields[segment.key]
        fields = value.struct_value.fields
    if value is None:
        return False
    wanted = matcher.value
    if wanted.HasField("string_match"):
        return value.HasField("string_value") and _string_fits(wanted.string_match, value.string_value)
    if wanted.HasField("bool_match"):
        return bool(value.HasField("bool_value") and value.bool_value == wanted.bool_match)
    if wanted.HasField("present_match"):
        return bool(wanted.present_match)
    return False


def _string_fits(matcher: Any, text: str) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    if kind not in _STRING_MATCHES:
        return False
    pattern: str = getattr(matcher, kind)
    if matcher.ignore_case:
        pattern, text = pattern.lower(), text.lower()
    return _STRING_MATCHES[kind](text, pattern)


_STRING_MATCHES: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}


def _describe(config: Any, hub: Hub, member: Member, *, with_contents: bool) -> None:
    config.node.CopyFrom(member.proxy.node)
    for type_url, state in sorted(member.stream.types.items()):
        wanted = member.stream.wanted(state)
        left_out = hub.left_out(member, type_url)
        names = left_out.keys() | state.held.entries.keys() | (wanted.entries.keys() if wanted is not None else set())
        for name in sorted(names):
            entry = state.held.get(name) or ABSENT
            described = config.generic_xds_configs.add()
            described.type_url = type_url
            described.name = name
            described.config_status = _status(state, name, wanted.get(name) if wanted is not None else None)
            if entry is not ABSENT:
                described.version_info = entry.version
                # Secrets are never shown, to nobody.
                if with_contents and entry.content and type_url != TYPE_SECRET:
                    described.xds_config.MergeFromString(entry.content)
            if described.config_status == ConfigStatus.Value("ERROR"):
                described.error_state.details = state.detail
                described.error_state.version_info = state.rejected[name]
            elif name in left_out:
                described.error_state.details = too_old(member.proxy.version, left_out[name])


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
