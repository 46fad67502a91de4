"""Requests as values, read from bytes: what is wrong with them is found here, before any state changes.

A request may come from anything that reaches the port, so sizes are bounded; the bounds are far above what an Envoy
with 10,000 clusters sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.message import DecodeError

from xds.protocol.claims import NO_CLAIMS, Claims
from xds.schema.pool import loaded_pool
from xds.schema.types import DiscoveryRequest, Node

NAMES: Final = 100_000
NAME_LENGTH: Final = 1_024
TYPES: Final = 64
# Envoy's words about a response of which it refuses a hundred listeners; a condition in a status takes 32,768.
DETAIL_LENGTH: Final = 8_192

# Requests that are worth being recognised, in bytes, and how many of them are remembered: 2 MB at the most.
_LARGE: Final = 2_000
_TOO_LARGE: Final = 256_000
_REMEMBERED: Final = 8
_TAIL: Final = 64

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class ProtocolError(Exception):
    """A request that ends its stream; `exhausted` tells one that asks too much from one that makes no sense."""

    def __init__(self, message: str, *, exhausted: bool = False) -> None:
        super().__init__(message)
        self.exhausted = exhausted


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """A `DiscoveryRequest`. `error` is None for an ACK, Envoy's words for a NACK; `node` the message, if it has one."""

    type_url: str
    node: Any = None
    nonce: str = ""
    error: str | None = None
    version: str = ""
    names: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A `DeltaDiscoveryRequest`."""

    type_url: str
    node: Any = None
    nonce: str = ""
    error: str | None = None
    subscribe: Collection[str] = ()
    unsubscribe: Collection[str] = ()
    versions: Claims = NO_CLAIMS


def read_sotw(raw: bytes, implied_type: str = "") -> SotwRequest:
    """The request in a message; `implied_type` is what a per-type stream serves (S16).

    Raises `ProtocolError`.
    """
    message = _parse(DiscoveryRequest, raw)
    return SotwRequest(
        type_url=_type_url(message, implied_type),
        node=message.node if message.HasField("node") else None,
        nonce=message.response_nonce,
        error=_error(message),
        version=message.version_info,
        names=_names(message.resource_names),
    )


def read_delta(raw: bytes, implied_type: str = "") -> DeltaRequest:
    """The request in a message, as `read_sotw`.

    Raises `ProtocolError`.
    """
    message = _parse(_delta_request(), raw)
    versions = message.initial_resource_versions
    if len(versions) > NAMES:
        raise ProtocolError(
            f"initial_resource_versions has {len(versions)} names; at most {NAMES} are taken", exhausted=True
        )
    return DeltaRequest(
        type_url=_type_url(message, implied_type),
        node=_parse(Node, message.node) if message.HasField("node") else None,
        nonce=message.response_nonce,
        error=_error(message),
        subscribe=_names(message.resource_names_subscribe),
        unsubscribe=_names(message.resource_names_unsubscribe),
        versions=Claims(frozenset(versions)) if versions else NO_CLAIMS,
    )


class Recent:
    """Reads requests, and knows the last large ones again: proxies of one configuration ask for the same thousand names
    in the very same bytes, since Envoy sorts them.

    Not requests with a node, which is each proxy's own, nor those of a returning client, which come in any order.
    """

    def __init__(self, read: Callable[[bytes, str], DeltaRequest | SotwRequest]) -> None:
        self._read = read
        self._known: dict[tuple[int, bytes, str], tuple[bytes, DeltaRequest | SotwRequest]] = {}

    def __call__(self, raw: bytes, implied_type: str = "") -> DeltaRequest | SotwRequest:
        """As the function for its kind of request.

        Raises `ProtocolError`.
        """
        if not _LARGE <= len(raw) <= _TOO_LARGE:
            return self._read(raw, implied_type)
        # Compared with one other at most, and not hashed, which takes longer.
        place = (len(raw), raw[-_TAIL:], implied_type)
        known = self._known.get(place)
        if known is not None and known[0] == raw:
            return known[1]
        request = self._read(raw, implied_type)
        if request.node is not None or (isinstance(request, DeltaRequest) and request.versions is not NO_CLAIMS):
            return request
        # What asks for the same names shares them, too.
        if isinstance(request, DeltaRequest):
            request = replace(request, subscribe=frozenset(request.subscribe))
        else:
            request = replace(request, names=frozenset(request.names))
        if place not in self._known and len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[place] = raw, request
        return request


@cache
def _delta_request() -> Any:
    """`DeltaDiscoveryRequest` with two fields left as bytes: the node, of which only the first request's is read, and
    the entries of `initial_resource_versions`, which are compared as they are (`claims`). Reading a thousand of them as
    a map takes 450 µs, comparing them 100.
    """
    file = descriptor_pb2.FileDescriptorProto(name="fairlead/xds/delta_request.proto", package="fairlead.xds")
    file.syntax = "proto3"
    file.dependency.append("google/rpc/status.proto")
    kind = file.message_type.add(name="DeltaDiscoveryRequest")
    field = descriptor_pb2.FieldDescriptorProto
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    kind.oneof_decl.add(name="_node")
    kind.field.add(name="node", number=1, label=one, type=field.TYPE_BYTES, proto3_optional=True, oneof_index=0)
    for name, number, label, of in (
        ("type_url", 2, one, field.TYPE_STRING),
        ("resource_names_subscribe", 3, many, field.TYPE_STRING),
        ("resource_names_unsubscribe", 4, many, field.TYPE_STRING),
        ("initial_resource_versions", 5, many, field.TYPE_BYTES),
        ("response_nonce", 6, one, field.TYPE_STRING),
    ):
        kind.field.add(name=name, number=number, label=label, type=of)
    kind.field.add(name="error_detail", number=7, label=one, type=field.TYPE_MESSAGE, type_name=".google.rpc.Status")
    pool = loaded_pool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fairlead.xds.DeltaDiscoveryRequest"))


def _parse(kind: Any, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise ProtocolError(f"the message is not a {kind.DESCRIPTOR.full_name}") from error


def _type_url(message: Any, implied: str) -> str:
    type_url: str = message.type_url
    if not type_url:
        if not implied:
            raise ProtocolError("type_url is missing: on an aggregated stream every request says its type")
        return implied
    if implied and type_url != implied:
        raise ProtocolError(f"type_url is {type_url}, but this stream serves {implied}; use the aggregated service")
    if len(type_url) > NAME_LENGTH:
        raise ProtocolError("type_url is longer than any type's name")
    return type_url


def _error(message: Any) -> str | None:
    """A NACK's words, on one line and no longer than is kept of them: they go to logs, statuses and the store."""
    if not message.HasField("error_detail"):
        return None
    said: str = message.error_detail.message
    if len(said) > DETAIL_LENGTH:
        said = f"{said[:DETAIL_LENGTH]}… ({len(said)} characters)"
    return _CONTROL.sub(" ", said).strip() or f"code {message.error_detail.code}"


def _names(repeated: Any) -> tuple[str, ...]:
    if not repeated:
        return ()
    if len(repeated) > NAMES:
        raise ProtocolError(f"the request names {len(repeated)} resources; at most {NAMES} are taken", exhausted=True)
    names = tuple(repeated)
    longest = max(map(len, names))
    if longest > NAME_LENGTH:
        raise ProtocolError(
            f"a resource name has {longest} characters; at most {NAME_LENGTH} are taken", exhausted=True
        )
    return names
