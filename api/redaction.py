"""What is never told: the values in Secrets, and the copy of them that `kubectl apply` leaves in an annotation.

Pure. Reads show `[redacted]` to everyone, whatever the role: who may write a key need not be able to read it back.
Certificates are public and stay readable. A write that carries the mark is refused, so that a read that is sent back
does not destroy a key; a PATCH that leaves `data` alone keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mesh.problems import Problem, child

MARK = "[redacted]"
_PUBLIC = frozenset({"tls.crt", "ca.crt"})
_FIELDS = ("data", "stringData")
# `kubectl apply` keeps the whole object here, keys and all.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def redacted(wire: dict[str, Any]) -> dict[str, Any]:
    """An object's wire form as people may see it; only Secrets change."""
    if wire.get("kind") != "Secret":
        return wire
    shown = dict(wire)
    for field in _FIELDS:
        if values := wire.get(field):
            shown[field] = {key: value if key in _PUBLIC else MARK for key, value in values.items()}
    metadata = wire.get("metadata", {})
    if _LAST_APPLIED in metadata.get("annotations", {}):
        shown["metadata"] = {**metadata, "annotations": {**metadata["annotations"], _LAST_APPLIED: MARK}}
    return shown


def marks(raw: Any) -> Iterator[Problem]:
    """A problem for each value of a Secret that is only the mark."""
    if not isinstance(raw, dict) or raw.get("kind") != "Secret":
        return
    for field in _FIELDS:
        values = raw.get(field)
        if isinstance(values, dict):
            for key in sorted(key for key, value in values.items() if value == MARK and isinstance(key, str)):
                yield Problem(
                    "RedactedValue",
                    "error",
                    child(field, key),
                    "this is the mark that stands for a value on reads, not a value",
                    "send the value itself, or change the rest of the object with PATCH, which keeps it",
                )
