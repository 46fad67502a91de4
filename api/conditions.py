"""Conditional requests (RFC 9110 §13): what `If-Match`, `If-None-Match` and `metadata.resourceVersion` ask for.

Pure. An ETag of ours is `"<revision>-<hash>"` on reads and `"<revision>"` on writes; for a condition of a write only
the revision counts, since a status changes without one. Objects that the store does not hold are at revision 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from api.problems import Refusal, invalid
from mesh.model import ObjectKey
from mesh.problems import Problem, shown

_TAG = re.compile(r'(W/)?"([^"]*)"')
_TAGS = re.compile(rf"\s*{_TAG.pattern}(?:\s*,\s*{_TAG.pattern})*\s*")
_OURS = re.compile(r"(\d{1,18})(?:-[0-9a-f]+)?")
_NUMBER = re.compile(r"[0-9]{1,18}")


class Condition(msgspec.Struct, frozen=True):
    """What must hold of the object for a write to happen; as it is made, nothing.

    `match` and `none_match` are revisions, `exists` and `absent` stand for `*`, `resource_version` is the body's.
    """

    match: frozenset[int] | None = None
    exists: bool = False
    none_match: frozenset[int] = frozenset()
    absent: bool = False
    resource_version: int | None = None

    @property
    def asks(self) -> bool:
        """Whether it asks for anything."""
        return self != Condition()

    def check(self, key: ObjectKey, at: int | None) -> None:
        """Raise Refusal unless it holds: 412, or 409 for the body's resourceVersion. `at=None`: there is no object."""
        met = (
            (self.match is None or at in self.match)
            and not (self.exists and at is None)
            and not (self.absent and at is not None)
            and at not in self.none_match
        )
        there = f"{shown(str(key), 300)} " + (
            "does not exist" if at is None else f"is at revision {at}" if at else "is not in the store"
        )
        present = {"Fairlead-Revision": str(at or 0)}
        if not met:
            raise Refusal(
                412,
                "PreconditionFailed",
                f"{there}, which is not what If-Match or If-None-Match ask for; nothing was done.",
                fix="Read it again and repeat the change on that",
                headers=present,
            )
        if self.resource_version is not None and self.resource_version != (at or 0):
            raise Refusal(
                409,
                "Conflict",
                f"{there}, and metadata.resourceVersion says {self.resource_version}; nothing was done.",
                fix="Read it again and repeat the change on that, or leave resourceVersion out",
                headers=present,
            )


def condition(headers: Mapping[str, str], body: Any = None) -> Condition:
    """The condition of a write, by its headers and its body. Raises Refusal for what cannot be read."""
    match, exists = _revisions(headers, "If-Match", weak=False)
    none_match, absent = _revisions(headers, "If-None-Match", weak=True)
    return Condition(match, exists, none_match or frozenset(), absent, _resource_version(body))


def not_modified(headers: Mapping[str, str], tag: str) -> bool:
    """Whether the reader has this content already."""
    said = [one.strip() for one in headers.get("if-none-match", "").split(",")]
    return "*" in said or any(one.removeprefix("W/") == tag for one in said)


def _revisions(headers: Mapping[str, str], name: str, *, weak: bool) -> tuple[frozenset[int] | None, bool]:
    """The revisions that a header names, and whether it says `*`. A tag of another server matches nothing.

    Weak tags count only where RFC 9110 compares weakly, which `If-Match` does not (§13.1.1).
    """
    said = headers.get(name.lower(), "").strip()
    if not said or said == "*":
        return None, said == "*"
    if len(said) > 2000 or not _TAGS.fullmatch(said):
        raise Refusal(400, "BadETag", f"{name}: {shown(said)} is no list of ETags.", fix=f'Write {name}: "7"')
    tags = [_OURS.fullmatch(tag) for mark, tag in _TAG.findall(said) if weak or not mark]
    return frozenset(int(found[1]) for found in tags if found), False


def _resource_version(body: Any) -> int | None:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    said = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(said, str) or not said:
        return None  # what is no text is the validator's to refuse
    if not _NUMBER.fullmatch(said):
        path, what = "metadata.resourceVersion", f"{shown(said)!r} is no revision of this server"
        fix = "send the one that was read, or leave it out to write whatever is there"
        raise invalid([Problem("BadResourceVersion", "error", path, what, fix)])
    return int(said)
