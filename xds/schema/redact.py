"""Messages as they may be shown: Envoy's API marks the fields that hold secrets, and here they are blanked.

For whatever leaves the process towards a person or a log (CSDS, `proxy show`, the API); what Envoy is sent is never
touched. The mark is `udpa.annotations.sensitive`, and Envoy blanks the same fields in its own config dump.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from xds.schema.errors import SchemaError
from xds.schema.pool import loaded_pool, message

REDACTED = "[redacted]"
_ANY = "google.protobuf.Any"


def redacted(value: Any) -> Any:
    """A copy of a message in which every string and byte string inside a sensitive field reads `[redacted]`.

    Numbers and the shape of the message stay. An `Any` that cannot be opened is emptied: it may hold a secret.

    Raises `SchemaError` when the message is nested too deeply to be looked through.
    """
    copy = type(value)()
    copy.CopyFrom(value)
    try:
        _walk(copy, hide=False)
    except RecursionError as error:
        raise SchemaError(f"a {value.DESCRIPTOR.full_name} is nested too deeply to be shown") from error
    return copy


def _walk(value: Any, *, hide: bool) -> None:
    if value.DESCRIPTOR.full_name == _ANY:
        _walk_any(value, hide=hide)
        return
    sensitive = _sensitive(value.DESCRIPTOR.full_name)
    for field, item in value.ListFields():
        secret = hide or field.name in sensitive
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _walk_map(field, item, hide=secret)
        elif field.message_type is not None:
            for inner in item if field.is_repeated else (item,):
                _walk(inner, hide=secret)
        elif secret and field.cpp_type == field.CPPTYPE_STRING:
            blank = REDACTED.encode() if field.type == field.TYPE_BYTES else REDACTED
            if field.is_repeated:
                item[:] = [blank] * len(item)
            else:
                setattr(value, field.name, blank)


def _walk_map(field: Any, entries: Any, *, hide: bool) -> None:
    kind = field.message_type.fields_by_name["value"]
    for key in entries:
        if kind.message_type is not None:
            _walk(entries[key], hide=hide)
        elif hide and kind.cpp_type == kind.CPPTYPE_STRING:
            entries[key] = REDACTED.encode() if kind.type == kind.TYPE_BYTES else REDACTED


def _walk_any(packed: Any, *, hide: bool) -> None:
    try:
        inner = message(packed.type_url.rpartition("/")[2]).FromString(packed.value)
    except (SchemaError, DecodeError):
        packed.value = b""
        return
    _walk(inner, hide=hide)
    packed.value = inner.SerializeToString(deterministic=True)


@cache
def _sensitive(full_name: str) -> frozenset[str]:
    """The names of a message type's fields that Envoy marks as sensitive."""
    mark = loaded_pool().FindExtensionByName("udpa.annotations.sensitive")
    options = message("google.protobuf.FieldOptions")
    return frozenset(
        field.name
        for field in message(full_name).DESCRIPTOR.fields
        if options.FromString(field.GetOptions().SerializeToString()).Extensions[mark]
    )
