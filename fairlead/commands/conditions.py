"""The status of an object in a few words, for a cell of a table."""

from __future__ import annotations

from typing import Any


def summary(status: dict[str, Any]) -> str:
    """A status in a few words: the conditions that are not as they should be, else those that are."""
    conditions = list(status.get("conditions", ()))
    for part in (*status.get("parents", ()), *status.get("listeners", ())):
        conditions.extend(part.get("conditions", ()))
    wrong = [each for each in conditions if (each["status"] == "True") == (each["type"] in ("Conflicted", "Shadowed"))]
    if wrong:
        return "; ".join(sorted({f"{each['reason']}: {each['message']}" for each in wrong}))
    if status.get("shadowed"):
        return f"shadows {', '.join(status['shadowed'])}"
    return ", ".join(sorted({each["type"] for each in conditions if each["status"] == "True"}))
