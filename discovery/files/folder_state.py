"""What folders of files declare, decided without I/O: the state after a look at the disk follows from the one before.

Three rules. A file that cannot be read to its end changes nothing: what it declared before stands. In a file that can
be read each object is judged alone: valid ones count, an invalid one keeps its last good version, and nothing that the
file declared before goes away while it has errors. Of one object in two files the first file by path declares it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from discovery.files.check import Located, check
from mesh.kinds.meta import Object
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.problems import Problem
from mesh.tables import Change

SOURCE = "files"
MAX_BYTES = 16 * 1024 * 1024


class Unreadable(msgspec.Struct, frozen=True):
    """A file that is there but gave no bytes: why, and what to do."""

    message: str
    fix: str


class Good(msgspec.Struct, frozen=True):
    """An object that a file declares, and the line where."""

    object: Object
    line: int


class FileState(msgspec.Struct, frozen=True):
    """What one file declares at present, and what is wrong with it."""

    declared: dict[ObjectKey, Good]
    problems: tuple[Problem, ...] = ()


class FolderState(msgspec.Struct, frozen=True):
    """All files by path, and what they declare together. `problems` are sorted by file and line."""

    files: dict[str, FileState]
    declared: dict[ObjectKey, Declared]
    problems: tuple[Problem, ...] = ()


EMPTY = FolderState({}, {})


def read_file(path: str, content: bytes | Unreadable, previous: FileState | None) -> FileState:
    """What a file declares, given its bytes and what it declared before."""
    before = previous.declared if previous is not None else {}
    text = _text(content)
    if isinstance(text, Unreadable):
        return _stands(before, Problem("UnreadableFile", "error", "", text.message, text.fix, path))
    judged = check(text[0], path) if text[1] is None else None
    if judged is None:
        message = f"it is not UTF-8: {text[0]}"
        return _stands(before, Problem("UnreadableFile", "error", "", message, "save it as UTF-8", path, text[1] or 0))
    if judged.unreadable is not None:
        kept = _stands(before, judged.unreadable)
        return msgspec.structs.replace(kept, problems=judged.problems)
    declared: dict[ObjectKey, Good] = {}
    for located in judged.objects:
        if located.object is not None and located.key is not None:
            declared[located.key] = Good(located.object, located.line)
    if any(_failed(located) for located in judged.objects):
        declared = {**before, **declared}
    return FileState(declared, judged.problems)


def _stands(before: dict[ObjectKey, Good], problem: Problem) -> FileState:
    return FileState(before, (problem,))


def _failed(located: Located) -> bool:
    return any(problem.level == "error" for problem in located.problems)


def _text(content: bytes | Unreadable) -> tuple[str, int | None] | Unreadable:
    """The text and None, or what is not UTF-8 about it and the line."""
    if isinstance(content, Unreadable):
        return content
    if len(content) > MAX_BYTES:
        return Unreadable(f"it has {len(content)} bytes, at most {MAX_BYTES} are read", "split the file")
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        return error.reason, content.count(b"\n", 0, error.start) + 1


def scan(
    previous: FolderState,
    found: Mapping[str, bytes | Unreadable | None],
    *,
    missing: Mapping[str, Unreadable] | None = None,
) -> FolderState:
    """The state after a look at the disk.

    `found` has every file that there is: its bytes where it is new or changed, None where it is as before. `missing`
    are folders that could not be listed, by path: what their files declared stands.
    """
    missing = missing or {}
    files = {
        path: state
        for path, state in previous.files.items()
        if path not in found and any(path == folder or path.startswith(f"{folder}/") for folder in missing)
    }
    for path, content in found.items():
        known = previous.files.get(path)
        if content is not None:
            files[path] = read_file(path, content, known)
        elif known is not None:
            files[path] = known
    declared: dict[ObjectKey, Declared] = {}
    problems = [
        Problem("UnreadableFolder", "error", "", unreadable.message, unreadable.fix, folder)
        for folder, unreadable in missing.items()
    ]
    for path in sorted(files):
        problems.extend(files[path].problems)
        for key, good in files[path].declared.items():
            first = declared.setdefault(key, Declared(good.object, f"{path}:{good.line}"))
            if first.object is not good.object:
                message = f"{key} is declared in {first.location} already; that one stands"
                problems.append(Problem("DuplicateObject", "error", "", message, "keep one of them", path, good.line))
    problems.sort(key=lambda problem: (problem.file, problem.line))
    return FolderState(files, declared, tuple(problems))


def changes(before: FolderState, after: FolderState) -> tuple[Change, ...]:
    """What must be written to `DECLARED` to get from one state to the other, sorted by object."""
    found: list[Change] = []
    for key in sorted(before.declared.keys() | after.declared.keys()):
        row = after.declared.get(key)
        if row != before.declared.get(key):
            found.append(Change(DECLARED, DeclaredKey(*key, SOURCE), row))
    return tuple(found)
