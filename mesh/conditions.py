"""A condition of Gateway API: one fact about an object, whether it holds, and why, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Condition(msgspec.Struct, frozen=True):
    """`reason` is a word of the specification, `message` a sentence that says what to mend where something is wrong.

    `generation`: the one that it holds of, where that is not the object's present one.
    """

    type: str
    status: bool
    reason: str
    message: str = ""
    generation: int | None = None


def holds(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether the condition of that type is there and true."""
    return any(condition.type == kind and condition.status for condition in conditions)
