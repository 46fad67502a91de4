"""Writes `types.pyi`, with which editors and mypy complete and check the fields of Envoy's messages.

The stub covers the messages of `types.NAMES` and whatever can be reached from their fields. It is derived from the
descriptors, so it is not committed; `python -m xds.schema.stubs` writes it. Nothing at run time reads it.
"""

from __future__ import annotations

import keyword
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xds.schema.descriptors import write
from xds.schema.errors import SchemaError
from xds.schema.pool import loaded_pool
from xds.schema.types import ENUMS, NAMES

FILE = Path(__file__).with_name("types.pyi")

_HEAD = '''"""Envoy's messages, written by `python -m xds.schema.stubs`: do not edit."""

import builtins
import collections.abc
import typing

from google.protobuf import descriptor, message
from google.protobuf.internal import containers, enum_type_wrapper, well_known_types

NAMES: builtins.dict[builtins.str, builtins.str]
ENUMS: builtins.frozenset[builtins.str]
'''
_SCALARS = {
    "bool": "builtins.bool",
    "bytes": "builtins.bytes",
    "float": "builtins.float",
    "int": "builtins.int",
    "str": "builtins.str",
}
# The mixins that give protobuf's own types their methods.
_MIXINS = frozenset({"Any", "Duration", "ListValue", "Struct", "Timestamp"})


def stub() -> str:
    """The text of `types.pyi`."""
    tops = _reachable()
    names = {full_name: short for short, full_name in NAMES.items()}
    for full_name in tops:
        names.setdefault(full_name, "_" + full_name.replace(".", "_"))
    lines = [_HEAD]
    for full_name in sorted(tops, key=lambda full_name: names[full_name]):
        lines.extend(_class(tops[full_name], names[full_name], names, depth=0, shadows=frozenset()))
        lines.append("")
    for short in sorted(ENUMS):
        lines.extend(_top_enum(short, loaded_pool().FindEnumTypeByName(NAMES[short])))
    lines.extend(f"_top_{name} = {name}" for name in sorted(names[full_name] for full_name in tops))
    return "\n".join(lines) + "\n"


def _reachable() -> dict[str, Any]:
    """The top-level messages to write, by full name: those named, and those their fields lead to."""
    found: dict[str, Any] = {}
    pending = [loaded_pool().FindMessageTypeByName(name) for short, name in NAMES.items() if short not in ENUMS]
    while pending:
        descriptor = pending.pop()
        while descriptor.containing_type is not None:
            descriptor = descriptor.containing_type
        if descriptor.full_name not in found:
            found[descriptor.full_name] = descriptor
            pending.extend(field.message_type for field in _all_fields(descriptor) if field.message_type is not None)
    return found


def _all_fields(descriptor: Any) -> Iterator[Any]:
    yield from descriptor.fields
    for nested in descriptor.nested_types:
        yield from _all_fields(nested)


def _class(descriptor: Any, name: str, names: dict[str, str], *, depth: int, shadows: frozenset[str]) -> Iterator[str]:
    """The lines of a message class; `shadows` are the nested names that hide top-level ones at this place."""
    indent = "    " * depth
    is_own = descriptor.full_name.startswith("google.protobuf.") and descriptor.name in _MIXINS
    bases = f"message.Message, well_known_types.{descriptor.name}" if is_own else "message.Message"
    yield f"{indent}class {name}({bases}):"
    yield f"{indent}    DESCRIPTOR: descriptor.Descriptor"
    shadows |= {nested.name for nested in descriptor.nested_types}
    for nested in descriptor.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _class(nested, nested.name, names, depth=depth + 1, shadows=shadows)
    for enum in descriptor.enum_types:
        yield f"{indent}    {enum.name}: enum_type_wrapper.EnumTypeWrapper"
        for value in enum.values:
            if not keyword.iskeyword(value.name):
                yield f"{indent}    {value.name}: builtins.int"
    arguments = []
    for field in descriptor.fields:
        if keyword.iskeyword(field.name):
            continue  # reachable by getattr only
        kind, given = _field(field, names, shadows)
        if field.is_repeated or field.message_type is not None:
            yield f"{indent}    @builtins.property"
            yield f"{indent}    def {field.name}(self) -> {kind}: ..."
        else:
            yield f"{indent}    {field.name}: {kind}"
        if field.name != "self":
            arguments.append(f"{field.name}: {given} | None = ...")
    signature = ", ".join(["self", "*", *arguments] if arguments else ["self"])
    yield f"{indent}    def __init__({signature}) -> None: ..."


def _field(field: Any, names: dict[str, str], shadows: frozenset[str]) -> tuple[str, str]:
    """The type of a field when read, and what the constructor takes for it."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (_one(field.message_type.fields_by_name[part], names, shadows) for part in ("key", "value"))
        is_scalar = field.message_type.fields_by_name["value"].message_type is None
        container = "ScalarMap" if is_scalar else "MessageMap"
        given = value if is_scalar else "typing.Any"
        return f"containers.{container}[{key}, {value}]", f"collections.abc.Mapping[{key}, {given}]"
    one = _one(field, names, shadows)
    given = one if field.message_type is None else f"{one} | collections.abc.Mapping[builtins.str, typing.Any]"
    if field.is_repeated:
        container = "RepeatedScalarFieldContainer" if field.message_type is None else "RepeatedCompositeFieldContainer"
        return f"containers.{container}[{one}]", f"collections.abc.Iterable[{given}]"
    return one, given


def _one(field: Any, names: dict[str, str], shadows: frozenset[str]) -> str:
    if field.message_type is not None:
        return _reference(field.message_type, names, shadows)
    if field.enum_type is not None:
        return "builtins.int"
    kinds = {
        field.CPPTYPE_BOOL: "bool",
        field.CPPTYPE_DOUBLE: "float",
        field.CPPTYPE_FLOAT: "float",
        field.CPPTYPE_STRING: "bytes" if field.type == field.TYPE_BYTES else "str",
    }
    return _SCALARS[kinds.get(field.cpp_type, "int")]


def _reference(descriptor: Any, names: dict[str, str], shadows: frozenset[str]) -> str:
    path: list[str] = []
    while descriptor.containing_type is not None:
        path.insert(0, descriptor.name)
        descriptor = descriptor.containing_type
    top = names[descriptor.full_name]
    return ".".join([f"_top_{top}" if top in shadows else top, *path])


def _top_enum(name: str, descriptor: Any) -> Iterator[str]:
    yield f"class _{name}(enum_type_wrapper.EnumTypeWrapper):"
    for value in descriptor.values:
        yield f"    {value.name}: builtins.int"
    yield f"{name}: _{name}"


if __name__ == "__main__":
    try:
        write(FILE, stub().encode())
    except SchemaError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{FILE}\n")
