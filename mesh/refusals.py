"""Objects that are there and that validation refused: what a status tells of them.

A platform like Kubernetes takes in what its own schema allows; that it says more than we can serve shows only when we
read it. Its last good form stands, if there ever was one (a row of `DECLARED`), and its user looks at the status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mesh.kinds.references import ParentReference
from mesh.model import DeclaredKey, ObjectKey
from mesh.objects import DECLARED_BY_OBJECT, source_rank
from mesh.problems import Problem, sentence
from mesh.tables import Input, Reader

_MOST_PARENTS = 32


class Refused(msgspec.Struct, frozen=True):
    """The form of an object that was refused, and why, in sentences.

    `parents` are those of a route, `class_name` that of a Gateway, `controller` that of a GatewayClass: by them it is
    decided whether it is ours to tell.
    """

    generation: int
    words: str
    parents: tuple[ParentReference, ...] = ()
    class_name: str = ""
    controller: str = ""


REFUSED: Input[DeclaredKey, Refused] = Input("refused")


def _object(key: DeclaredKey, _row: Refused) -> tuple[ObjectKey]:
    return (ObjectKey(key.kind, key.namespace, key.name),)


REFUSED_BY_OBJECT = REFUSED.index("object", _object)


def refused(raw: Mapping[str, Any], problems: Sequence[Problem]) -> Refused:
    """The row for a document, which may be anything, and the errors that keep it out."""
    metadata, spec = _mapping(raw.get("metadata")), _mapping(raw.get("spec"))
    generation = metadata.get("generation")
    return Refused(
        generation=generation if isinstance(generation, int) else 0,
        words=_words(problems),
        parents=tuple(_parents(spec.get("parentRefs"))),
        class_name=_text(spec.get("gatewayClassName")),
        controller=_text(spec.get("controllerName")),
    )


def refusal(look: Reader, key: ObjectKey) -> Refused | None:
    """The refusal of an object, if the source that comes first for it is one whose present form was refused."""
    refusing = look.keys(REFUSED_BY_OBJECT, key)
    if not refusing:
        return None
    declaring = look.keys(DECLARED_BY_OBJECT, key)
    first = min({*refusing, *declaring}, key=lambda at: source_rank(at.source))
    return look(REFUSED, first)


def _words(problems: Sequence[Problem]) -> str:
    errors = [problem for problem in problems if problem.level == "error"]
    if not errors:
        return "It cannot be read."
    first = errors[0]
    fix = f" Fix: {sentence(first.fix)}" if first.fix else ""
    more = f" There are {len(errors) - 1} more errors." if len(errors) > 1 else ""
    return f"{f'{first.path}: ' if first.path else ''}{sentence(first.message)}{fix}{more}"


def _parents(value: Any) -> list[ParentReference]:
    found = []
    for item in value[:_MOST_PARENTS] if isinstance(value, list) else ():
        try:
            found.append(msgspec.convert(item, ParentReference))
        except msgspec.ValidationError:
            continue  # nothing can be said to a parent that is not to be understood
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
