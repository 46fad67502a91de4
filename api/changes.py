"""What a write would change: the paths that differ between two wire forms, never the values. Pure.

A dry run answers with them, and that is how a person learns whether a Secret in a file is the one that the server has:
reads hide its values from everybody. It tells no more than the server told before: who may ask (a role that may write)
could write the value and see whether the revision moves. No hash of a value is handed out, for a hash could be taken
home and tried against guesses at leisure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.problems import child

_ABSENT = object()


def changed(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths that differ, sorted by field. Lists and plain values are looked at as a whole."""
    for key in sorted(old.keys() | new.keys()):
        before, after, at = old.get(key, _ABSENT), new.get(key, _ABSENT), child(path, key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from changed(before, after, at)
        elif before != after:
            yield at
