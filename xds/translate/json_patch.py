"""RFC 6902 (JSON patch) on plain values, with bounds: a patch can be written by anybody who may write an object.

`apply_patch` works on its own copy and changes nothing it was given. All operations are done, or `PatchError` says
which could not be and why.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from mesh.kinds.envoypatch import PatchOperation
from mesh.problems import shown

MOST_COPIED = 20_000
"""Values that `copy` may make in all: doubled a few dozen times, a resource would fill any memory."""


class PatchError(ValueError):
    """Why a patch does not apply, as a sentence without its full stop."""


def apply_patch(document: Any, operations: Iterable[PatchOperation]) -> Any:
    """The document with all operations done.

    Raises:
        PatchError: an operation cannot be done.
    """
    root = [copy.deepcopy(document)]  # so that the document itself has a parent
    left = MOST_COPIED
    for number, operation in enumerate(operations):
        at = f"spec.patch[{number}]"
        match operation.op:
            case "add":
                _add(root[0], operation.path, copy.deepcopy(operation.value), at)
            case "remove":
                _remove(root[0], operation.path, at)
            case "replace":
                _replace(root[0], operation.path, copy.deepcopy(operation.value), at)
            case "test":
                if not _equal(_get(root[0], operation.path, at), operation.value):
                    raise PatchError(f"{at}: what is at {shown(operation.path)} is not the tested value")
            case "move":
                _add(root[0], operation.path, _remove(root[0], operation.from_ or "", at), at)
            case "copy":
                value = _get(root[0], operation.from_ or "", at)
                left -= _count(value, left, at)
                _add(root[0], operation.path, copy.deepcopy(value), at)
    return root[0]


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _get(document: Any, pointer: str, at: str) -> Any:
    value = document
    for part in _parts(pointer):
        value = _step(value, part, pointer, at)
    return value


def _step(value: Any, part: str, pointer: str, at: str) -> Any:
    if isinstance(value, dict) and part in value:
        return value[part]
    if isinstance(value, list):
        return value[_index(value, part, pointer, at, most=len(value) - 1)]
    raise _nothing(value, part, pointer, at)


def _nothing(value: Any, part: str, pointer: str, at: str) -> PatchError:
    if isinstance(value, dict):
        # Names only: a patch must not become a way to read values.
        there = ", ".join(sorted(value)[:8]) or "nothing"
        return PatchError(f"{at}: {shown(pointer)}: there is no `{shown(part)}`; there is: {shown(there, 200)}")
    return PatchError(f"{at}: {shown(pointer)}: `{shown(part)}` would be inside something that has no parts")


def _index(value: list[Any], part: str, pointer: str, at: str, *, most: int) -> int:
    if not (part.isascii() and part.isdigit()) or (part != "0" and part.startswith("0")) or len(part) > 9:
        raise PatchError(f"{at}: {shown(pointer)}: `{shown(part)}` is no place in a list")
    if int(part) > most:
        raise PatchError(f"{at}: {shown(pointer)}: the list ends before `{part}`: it has {len(value)} entries")
    return int(part)


def _parent(document: Any, pointer: str, at: str) -> tuple[Any, str]:
    value = document
    *before, last = _parts(pointer)
    for part in before:
        value = _step(value, part, pointer, at)
    return value, last


def _add(document: Any, pointer: str, new: Any, at: str) -> None:
    parent, last = _parent(document, pointer, at)
    if isinstance(parent, dict):
        parent[last] = new
    elif isinstance(parent, list):
        place = len(parent) if last == "-" else _index(parent, last, pointer, at, most=len(parent))
        parent.insert(place, new)
    else:
        raise _nothing(parent, last, pointer, at)


def _remove(document: Any, pointer: str, at: str) -> Any:
    parent, last = _parent(document, pointer, at)
    found = _step(parent, last, pointer, at)
    if isinstance(parent, dict):
        del parent[last]
    else:
        parent.pop(int(last))
    return found


def _replace(document: Any, pointer: str, new: Any, at: str) -> None:
    parent, last = _parent(document, pointer, at)
    _step(parent, last, pointer, at)
    parent[last if isinstance(parent, dict) else int(last)] = new


def _equal(one: Any, other: Any) -> bool:
    """JSON's equality, in which true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _count(value: Any, left: int, at: str) -> int:
    count, todo = 0, [value]
    while todo:
        item = todo.pop()
        count += 1
        if count > left:
            raise PatchError(f"{at}: it copies more than {MOST_COPIED} values in all")
        todo.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
    return count
