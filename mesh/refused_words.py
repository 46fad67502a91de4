"""What is told of an object where Envoys refused something that came of it."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.conditions import Condition
from mesh.model import REJECTIONS_BY_OBJECT, ObjectKey, Rejection
from mesh.problems import sentence
from mesh.tables import Look


def with_rejections(look: Look, key: ObjectKey, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions of an object, and what Envoys refused of what came of it."""
    return rejected(conditions, look.rows(REJECTIONS_BY_OBJECT, key))


def rejected(conditions: tuple[Condition, ...], rejections: Sequence[Rejection]) -> tuple[Condition, ...]:
    """The conditions, and where an Envoy refused something, that it did, in its words."""
    if not rejections:
        return conditions
    first = rejections[0]
    if not first.everywhere:
        standing = "It goes without; other proxies are given it."
    else:
        standing = "The last good version stands." if first.last_good is not None else "It is withheld."
    others = f" So did {len(rejections) - 1} more." if len(rejections) > 1 else ""
    said = f"{first.node} refused it: {sentence(first.detail)} {standing}{others}"
    rejected = Condition("Programmed", False, "Rejected", said)
    return (*(condition for condition in conditions if condition.type != "Programmed"), rejected)
