"""Messages to bytes, digests, `Any` and dictionaries, and back.

Encoding is deterministic: equal messages give equal bytes, on every replica and after every restart, because a
resource's version is a digest of its bytes. (Protobuf promises that for one build of the runtime and one schema, which
is all a version needs: after an upgrade that changes bytes, resources are sent once more.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from xds.schema.errors import SchemaError
from xds.schema.pool import loaded_pool, message
from xds.schema.type_urls import PREFIX
from xds.schema.wire import delimited


def encode(value: Any) -> bytes:
    """The deterministic wire form of a message."""
    encoded: bytes = value.SerializeToString(deterministic=True)
    return encoded


def version_of(content: bytes) -> str:
    """The version of a resource with these bytes: a 64-bit BLAKE2b digest, 16 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def pack(value: Any, type_url: str | None = None) -> Any:
    """A `google.protobuf.Any` of our pool around a message; `type_url` defaults to that of the message's own type.

    To fill a field in place, `field.Pack(message, deterministic=True)` does the same without the copy.
    """
    packed = message("google.protobuf.Any")()
    packed.type_url = type_url or PREFIX + value.DESCRIPTOR.full_name
    packed.value = encode(value)
    return packed


def unpack(packed: Any) -> Any:
    """The message inside an `Any`, of whatever type it says it is.

    Raises `SchemaError` when Envoy's schema has no such type or the bytes are not a message of it.
    """
    kind = message(packed.type_url.rpartition("/")[2])
    try:
        return kind.FromString(packed.value)
    except DecodeError as error:
        raise SchemaError(f"the bytes of an Any are not a {packed.type_url}: {error}") from error


def any_bytes(value: Any) -> bytes:
    """The wire form of the `Any` around a message: what stands in `DiscoveryResponse.resources`."""
    return frame_any(PREFIX + value.DESCRIPTOR.full_name, encode(value))


def frame_any(type_url: str, content: bytes) -> bytes:
    """The wire form of an `Any` from an already encoded message, without decoding it."""
    url = delimited(b"\x0a", type_url.encode())  # Any.type_url = 1, Any.value = 2
    return url + delimited(b"\x12", content) if content else url


def to_dict(value: Any, *, json_names: bool = False) -> dict[str, Any]:
    """A message as plain dictionaries, lists and scalars, ready for YAML or JSON; `Any`s are opened (`"@type"`).

    Field names are those of Envoy's documents (`lb_endpoints`), or lowerCamelCase with `json_names`. 64-bit integers
    become strings and durations `"1.5s"`, as protobuf's JSON mapping has it.

    Raises `SchemaError` when an `Any` inside holds a type that Envoy's schema lacks.
    """
    from google.protobuf import json_format  # for people's eyes only, so not paid for at start

    try:
        shown = json_format.MessageToDict(
            value, preserving_proto_field_name=not json_names, descriptor_pool=loaded_pool()
        )
    except (TypeError, DecodeError, json_format.Error) as error:
        raise SchemaError(f"a {value.DESCRIPTOR.full_name} cannot be shown: {error}") from error
    plain: dict[str, Any] = _plain(shown)
    return plain


def from_dict(kind: Any, content: Mapping[str, Any]) -> Any:
    """A message of class `kind` from what `to_dict` (or a person writing Envoy's YAML) gives; both spellings are read.

    Raises `SchemaError` naming the field that is unknown or of the wrong type.
    """
    from google.protobuf import json_format

    try:
        return json_format.ParseDict(dict(content), kind(), descriptor_pool=loaded_pool())
    except (json_format.ParseError, TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"not a {kind.DESCRIPTOR.full_name}: {error}") from error


def _plain(shown: Any) -> Any:
    """json_format's `Any`s are OrderedDicts, which YAML's safe dumper refuses."""
    if isinstance(shown, dict):
        return {key: _plain(item) for key, item in shown.items()}
    return [_plain(item) for item in shown] if isinstance(shown, list) else shown
