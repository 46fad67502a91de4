"""Every field of the policies as a path, such as `TrafficPolicy.loadBalancer.slowStart.window`, read from the types.

Lists and maps have no step of their own in a path: their items' fields follow at once. What `overrides` hold are the
same fields once more, so it is one field and has none of its own.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from mesh.kinds import KINDS

POLICIES = (
    "TrafficPolicy",
    "ClientPolicy",
    "RoutePolicy",
    "TelemetryPolicy",
    "RequestAuthentication",
    "PeerAuthentication",
    "EnvoyPatch",
    "Rollout",
)
OVERRIDES = "overrides"
MARK = "shows"


@cache
def fields(kind: str) -> Mapping[str, inspect.Type]:
    """The fields of a kind's `spec` by their paths, with those that only hold others."""
    of = next(field for field in msgspec.structs.fields(KINDS[kind].struct) if field.name == "spec").type
    return dict(_within(inspect.type_info(of), kind))


@cache
def leaves(kind: str) -> frozenset[str]:
    """The fields that hold values and no further fields."""
    found = fields(kind)
    return frozenset(path for path in found if not any(other.startswith(f"{path}.") for other in found))


def bare(of: inspect.Type) -> inspect.Type:
    """A type without what describes it and without None."""
    while isinstance(of, inspect.Metadata | inspect.UnionType):
        if isinstance(of, inspect.Metadata):
            of = of.type
        else:
            of = next(one for one in of.types if not isinstance(one, inspect.NoneType))
    return of


def item(of: inspect.Type) -> inspect.Type:
    """The type of one value: of the items where it is a list or a map."""
    match found := bare(of):
        case inspect.VarTupleType():
            return item(found.item_type)
        case inspect.DictType():
            return item(found.value_type)
        case _:
            return found


def _within(of: inspect.Type, path: str) -> Iterator[tuple[str, inspect.Type]]:
    found = item(of)
    for field in found.fields if isinstance(found, inspect.StructType) else ():
        at = f"{path}.{field.encode_name}"
        yield at, field.type
        if field.encode_name != OVERRIDES:
            yield from _within(field.type, at)


def values(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What an object, decoded, has at which paths; a policy that it is none of has nothing."""
    found: dict[str, list[Any]] = defaultdict(list)
    kind = document.get("kind")
    if kind in POLICIES:
        _collect(document.get("spec") or {}, kind, found)
    return found


def _collect(value: Any, path: str, found: dict[str, list[Any]]) -> None:
    known = fields(path.partition(".")[0])
    for one in value if isinstance(value, list) else [value]:
        for name, given in one.items() if isinstance(one, dict) else ():
            at = f"{path}.{name}"
            if at not in known:
                continue
            found[at].append(given)
            inside = list(given.values()) if isinstance(bare(known[at]), inspect.DictType) else given
            _collect(inside, path if name == OVERRIDES else at, found)


def said(*names: str) -> frozenset[str]:
    """The fields that the mark `shows` names: a path, and names of fields right below it (none: the path itself)."""
    path, *below = names
    return frozenset(f"{path}.{name}" for name in below) if below else frozenset({path})


def marked(*folders: Path) -> dict[str, set[str]]:
    """Which tests are said to show which field: `@pytest.mark.shows` in these folders, by path."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted(file for folder in folders for file in folder.glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for path in _named(node):
                    found[path].add(f"{file.parent.name}/{file.name}::{node.name}")
    return found


def _named(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for one in test.decorator_list:
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == MARK:
            yield from said(*(ast.literal_eval(name) for name in one.args))


noted: set[str] = set()


def note(document: Any) -> None:
    """Remember what the running test has set."""
    if isinstance(document, Mapping):
        noted.update(values(document))
