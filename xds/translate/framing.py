"""Joining encoded messages: how a large message is put together from parts whose bytes are known already.

A field of message type is a tag, a length and the message's bytes, and a repeated one is that again and again. So a
RouteConfiguration of 3,000 virtual hosts, one of which changed, is a matter of joining bytes: nothing is built or
encoded twice. Parts must be joined in the order of their field numbers, which is how protobuf's own encoder writes.
"""

from __future__ import annotations

from typing import Any

from mesh.results import Results
from xds.resources import Resource
from xds.schema import SchemaError, encode, frame_any, version_of
from xds.schema.rules import violations
from xds.schema.wire import delimited, varint

_LENGTH_DELIMITED = 2


def framed(number: int, content: bytes) -> bytes:
    """A length-delimited field (message, string or bytes) of that field number."""
    return delimited(varint(number << 3 | _LENGTH_DELIMITED), content)


def encode_checked(message: Any) -> bytes:
    """The bytes of a message that Envoy's own field rules accept.

    Raises `SchemaError` naming the first rule that is broken: the row that is being derived then keeps its last good
    value, and nothing that Envoy would refuse is sent. Validation of objects should have caught it before.
    """
    broken = violations(message)
    if broken:
        path, _, detail = broken[0]
        raise SchemaError(f"Envoy would refuse {message.DESCRIPTOR.name}.{path}: {detail}")
    return encode(message)


def resource(
    type_url: str,
    name: str,
    content: bytes,
    *,
    needs: frozenset[str] | set[str] = frozenset(),
    eds: str = "",
    provides: frozenset[str] | set[str] = frozenset(),
    results: Results = (),
) -> Resource:
    """A resource from its encoded message."""
    return Resource(
        type_url=type_url,
        name=name,
        version=version_of(content),
        any=frame_any(type_url, content),
        needs=tuple(sorted(needs)),
        eds=eds,
        provides=tuple(sorted(provides)),
        results=results,
    )
