"""What can still be said of an object of wrong structure: the rules beyond structure, for what is right.

The broken parts are cut out, and the rest is judged. A cut may itself break a rule (one that needs the part, or a name
that was declared in it), so only what is certain is kept: faults of values that the user wrote, away from every cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from mesh.problems import Problem, child
from mesh.validations.structure import explain

_ROUNDS = 5
# Faults of a reference: what it refers to may have been cut out.
_REFERENCES = frozenset({"UnknownPort"})


def sound_part(
    raw: Mapping[Any, Any], of: type[msgspec.Struct], problems: Iterable[Problem]
) -> tuple[Mapping[Any, Any], tuple[Problem, ...]] | None:
    """The object without its broken parts, which converts, and all faults of structure on the way to it.

    None where nothing would be left. Of a list, what follows a broken item is cut too: no item changes its number.
    """
    found = tuple(problems)
    cuts: set[str] = set()
    for _ in range(_ROUNDS):
        cuts.update(_cut(problem) for problem in found)
        if "" in cuts:
            return None
        part = _named(_without(raw, "", cuts))
        more = explain(part, of)
        if not more:
            return part, found
        found += more
    return None


def certain(found: Iterable[Problem], part: Mapping[Any, Any], structural: Iterable[Problem]) -> tuple[Problem, ...]:
    """Those of the problems `found` in a sound part that the whole object would have too."""
    present = set(_paths(part, ""))
    damaged: set[str] = set()  # what encloses a cut
    beside: set[str] = set()  # whose other fields may have been judged by the default of one that was cut
    for problem in structural:
        if problem.code != "UnknownField":
            beside.add(_parent(problem.path))
        path = problem.path
        while path:
            path = _parent(path)
            damaged.add(path)
    return tuple(
        problem
        for problem in found
        if problem.path in present - damaged and _parent(problem.path) not in beside and problem.code not in _REFERENCES
    )


def _cut(problem: Problem) -> str:
    """What must go so that a problem goes: the thing itself, or what lacks it."""
    if problem.code != "MissingField" or problem.path == "metadata":
        return problem.path
    return _parent(problem.path)


def _named(part: dict[Any, Any]) -> Mapping[Any, Any]:
    """The object with a name, if its own was cut: a wrong name says nothing of the rest."""
    return part | {"metadata": {"name": "unnamed", **part.get("metadata", {})}}


def _without(value: Any, path: str, cuts: AbstractSet[str]) -> Any:
    if isinstance(value, dict):
        inside = ((key, item, child(path, str(key))) for key, item in value.items())
        return {key: _without(item, at, cuts) for key, item, at in inside if at not in cuts}
    if isinstance(value, list):
        kept = []
        for number, item in enumerate(value):
            at = child(path, number)
            if at in cuts:
                break
            kept.append(_without(item, at, cuts))
        return kept
    return value


def _paths(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, child(path, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _paths(item, child(path, number))


def _parent(path: str) -> str:
    return path[: max(path.rfind("."), path.rfind("["), 0)]
