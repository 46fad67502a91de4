"""Objects as the API shows them: wire form, status, where they come from, secrets redacted. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from api.ports import Item, Past
from api.problems import shown_problem
from api.redaction import redacted
from mesh.kinds import to_json
from mesh.model import ObjectKey
from mesh.problems import Problem

_ENCODER = msgspec.json.Encoder(order="deterministic")


def shown_object(
    item: Item,
    status: Mapping[str, Any] | None,
    *,
    warnings: Sequence[Problem] = (),
    changes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """An object with `status` (what became of it), `origin` (where it was declared), and a write's `warnings`.

    With what a dry run would change, `changes`. They are dropped when the object is sent back.
    """
    wire = redacted(to_json(item.object))
    if status:
        wire["status"] = status
    origin: dict[str, Any] = {"source": item.source}
    if item.location:
        origin["location"] = item.location
    if item.stale:
        origin["stale"] = True
    wire["origin"] = origin
    if warnings:
        wire["warnings"] = [shown_problem(problem) for problem in warnings]
    if changes is not None:
        wire["changes"] = list(changes)
    return wire


def shown_name(key: ObjectKey) -> dict[str, Any]:
    """What is left of an object that is gone."""
    metadata = {"name": key.name, "namespace": key.namespace} if key.namespace else {"name": key.name}
    return {"kind": key.kind, "metadata": metadata}


def shown_past(past: Past) -> dict[str, Any]:
    """A revision in a history."""
    wire: dict[str, Any] = {"revision": past.revision, "at": past.at, "by": past.by}
    if past.object is not None:
        wire["object"] = redacted(to_json(past.object))
    elif past.error:
        wire["error"] = past.error
    else:
        wire["deleted"] = True
    return wire


def etag(item: Item, wire: Mapping[str, Any]) -> str:
    """The revision, which `If-Match` compares, and a hash of the rest, since a status changes without a revision."""
    rest = hashlib.sha256(_ENCODER.encode(wire)).hexdigest()[:12]
    return f'"{item.revision}-{rest}"'


def encoded(value: Any) -> bytes:
    """JSON with sorted keys, so that equal content is equal bytes."""
    return _ENCODER.encode(value)
