"""Label selectors in Kubernetes' query syntax: `app=web,tier!=db,zone in (a,b),canary,!old`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from api.problems import Refusal
from mesh.problems import shown

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_EQUALITY = re.compile(rf"({_KEY})\s*(=|==|!=)\s*({_VALUE})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^()]*\))")
MAX_LENGTH = 2000


class Requirement(msgspec.Struct, frozen=True):
    """One condition on the label `key`; an absent label satisfies `notin`, as in Kubernetes."""

    key: str
    operator: Literal["in", "notin", "exists", "absent"]
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy it."""
        if self.operator == "exists":
            return self.key in labels
        if self.operator == "absent":
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator == "in")


def selector(text: str) -> tuple[Requirement, ...]:
    """The requirements of a selector, all of which must hold; raises Refusal for one that cannot be read."""
    if len(text) > MAX_LENGTH:
        raise Refusal(400, "BadSelector", f"The label selector is longer than {MAX_LENGTH} characters.")
    parts = [part.strip() for part in _COMMA_OUTSIDE_PARENTHESES.split(text)] if text.strip() else []
    return tuple(_requirement(part) for part in parts)


def _requirement(part: str) -> Requirement:
    if found := _EQUALITY.fullmatch(part):
        return Requirement(found[1], "notin" if found[2] == "!=" else "in", frozenset({found[3]}))
    if found := _SET.fullmatch(part):
        values = frozenset(value.strip() for value in found[3].split(","))
        if all(re.fullmatch(_VALUE, value) for value in values):
            return Requirement(found[1], "in" if found[2] == "in" else "notin", values)
    if found := _EXISTS.fullmatch(part):
        return Requirement(found[2], "absent" if found[1] else "exists")
    raise Refusal(
        400,
        "BadSelector",
        f"The label selector has a part that cannot be read: {shown(part)!r}.",
        fix="Write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, separated by commas",
    )


def selected(labels: Mapping[str, str], requirements: tuple[Requirement, ...]) -> bool:
    """Whether labels satisfy every requirement."""
    return all(requirement.holds(labels) for requirement in requirements)
