"""What an older Envoy does not understand of a message, so that it is left out or reported and never sent.

An older Envoy ignores a field it does not know (a policy that silently does nothing) and rejects a resource whose `Any`
has a type it does not know. `unknown_to` finds both beforehand. The tables in `lacks/` say what each older minor lacks
of the schema that Fairlead speaks; `compare` makes them.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from xds.schema.descriptors import HERE
from xds.schema.errors import SchemaError
from xds.schema.pool import message

_ANY = "google.protobuf.Any"

# In the schema of these, and refused all the same ("Didn't find a registered implementation"): found by trying.
_UNREGISTERED = {"1.38": frozenset({"envoy.extensions.filters.http.composite.v3.CompositePerRoute"})}


class _Lacks(NamedTuple):
    messages: frozenset[str]
    fields: dict[str, frozenset[str]]
    enum_values: dict[str, frozenset[str]]


def unknown_to(version: str, value: Any) -> list[str]:
    """The paths of what is set in a message and an Envoy of `version` (`"1.38.3"`) does not know; usually none.

    An `Any` of a type that it does not know is one path. An Envoy newer than the tables, or of a version that cannot be
    read, is taken to know everything; one older than the oldest table lacks at least what that table says.

    Raises `SchemaError` when the message is nested too deeply to be looked through.
    """
    table = _table_for(version)
    found: list[str] = []
    if table is not None:
        try:
            _walk(table, value, "", found)
        except RecursionError as error:
            raise SchemaError(f"a {value.DESCRIPTOR.full_name} is nested too deeply") from error
    return found


@cache
def oldest() -> str:
    """The oldest Envoy minor that there is a table for, such as `1.38`: what is older is served at its own risk."""
    return _name(_minors()[0])


@cache
def _minors() -> tuple[tuple[int, int], ...]:
    return tuple(sorted(_minor(path.stem) or (0, 0) for path in (HERE / "lacks").glob("*.json")))


def _name(minor: tuple[int, int]) -> str:
    return f"{minor[0]}.{minor[1]}"


def _minor(version: str) -> tuple[int, int] | None:
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return int(parts[0]), int(parts[1])


@cache
def _table_for(version: str) -> str | None:
    """The name of the table that tells what this version lacks; None when it lacks nothing."""
    minor = _minor(version)
    if minor is None or minor > _minors()[-1]:
        return None
    return _name(next(known for known in _minors() if known >= minor))


@cache
def _lacks(table: str) -> _Lacks:
    content = json.loads((HERE / "lacks" / f"{table}.json").read_bytes())
    return _Lacks(
        frozenset(content["messages"]) | _UNREGISTERED.get(table, frozenset()),
        {name: frozenset(fields) for name, fields in content["fields"].items()},
        {name: frozenset(values) for name, values in content["enum_values"].items()},
    )


def _walk(table: str, value: Any, path: str, found: list[str]) -> None:
    full_name = value.DESCRIPTOR.full_name
    if full_name == _ANY:
        _walk_any(table, value, path, found)
    elif not _knows_all(table, full_name):
        lacks = _lacks(table)
        missing = lacks.fields.get(full_name, frozenset())
        for field, item in value.ListFields():
            where = f"{path}.{field.name}" if path else field.name
            if field.name in missing or (field.message_type and field.message_type.full_name in lacks.messages):
                found.append(where)
            elif field.enum_type is not None:
                _walk_enum(lacks, field, item, where, found)
            elif field.message_type is not None:
                for part, inner in _parts(field, item):
                    _walk(table, inner, where + part, found)


def _walk_any(table: str, packed: Any, path: str, found: list[str]) -> None:
    full_name = packed.type_url.rpartition("/")[2]
    if full_name in _lacks(table).messages:
        found.append(path)
        return
    try:
        if not _knows_all(table, full_name):
            _walk(table, message(full_name).FromString(packed.value), path, found)
    except (SchemaError, DecodeError):
        # A type that our own schema does not have is nothing this can judge; `rules` reports it.
        return


def _walk_enum(lacks: _Lacks, field: Any, item: Any, where: str, found: list[str]) -> None:
    missing = lacks.enum_values.get(field.enum_type.full_name)
    if missing:
        names = field.enum_type.values_by_number
        numbers = item if field.is_repeated else [item]
        if any(number in names and names[number].name in missing for number in numbers):
            found.append(where)


def _parts(field: Any, item: Any) -> list[tuple[str, Any]]:
    """The messages in a field, each with what it adds to the path."""
    if not field.is_repeated:
        return [("", item)]
    if not field.message_type.GetOptions().map_entry:
        return [(f"[{index}]", inner) for index, inner in enumerate(item)]
    if field.message_type.fields_by_name["value"].message_type is None:
        return []
    return [(f"[{key!r}]", item[key]) for key in sorted(item)]


@cache
def _knows_all(table: str, full_name: str) -> bool:
    """Whether nothing that the table lacks, and no `Any`, can be reached from a message type."""
    lacks = _lacks(table)
    seen: set[str] = set()
    pending = [message(full_name).DESCRIPTOR]
    while pending:
        descriptor = pending.pop()
        name = descriptor.full_name
        if name in seen:
            continue
        if name == _ANY or name in lacks.fields or name in lacks.messages:
            return False
        seen.add(name)
        for field in descriptor.fields:
            if field.enum_type is not None and field.enum_type.full_name in lacks.enum_values:
                return False
            if field.message_type is not None:
                pending.append(field.message_type)
    return True
