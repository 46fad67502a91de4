"""What folders of files declare, decided without I/O: the state after a look at the disk follows from the one before.

Four rules. A file that cannot be read to its end changes nothing: what it declared before stands. In a file that can
be read each object is judged alone: valid ones count, an invalid one keeps its last good version, and nothing that the
file declared before goes away while it has errors. A file that looks cut off is not believed before it has kept still
for a while: whoever saves in place empties it first. Of one object in two files the first file by path declares it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from discovery.files.check import Located, check
from mesh.kinds.meta import Object
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.problems import Problem
from mesh.tables import Change

SOURCE = "files"
MAX_BYTES = 16 * 1024 * 1024

# How long a file that lost objects, or its end, must keep still before that counts. A copy over the network stalls
# where packets are lost: TCP sends again after 0.2 s, then each time after twice as long, so 3 s cover four in a row.
# An object that is meant to go goes 3 s later; one that is not meant to go would close a listener.
SETTLE_SECONDS = 3.0
# An empty file is hardly ever meant (who wants its objects gone removes it), and `kubectl get … > file` leaves it empty
# until the command has its answer.
EMPTY_SECONDS = 30.0
# From when on `problems` tells of the wait; a save in place is over long before.
TELL_SECONDS = 1.0


class Unreadable(msgspec.Struct, frozen=True):
    """A file that is there but gave no bytes: why, and what to do."""

    message: str
    fix: str


class Good(msgspec.Struct, frozen=True):
    """An object that a file declares, and the line where."""

    object: Object
    line: int


class Coming(msgspec.Struct, frozen=True):
    """What a file says that does not count yet, since when (seconds, monotonic), and whether it may lack its end."""

    state: FileState
    since: float
    cut: bool


class FileState(msgspec.Struct, frozen=True):
    """What one file declares at present, and what is wrong with it; `size` is that of its last good content."""

    declared: dict[ObjectKey, Good]
    problems: tuple[Problem, ...] = ()
    size: int = 0
    coming: Coming | None = None


class FolderState(msgspec.Struct, frozen=True):
    """All files by path, and what they declare together. `problems` are sorted by file and line."""

    files: dict[str, FileState]
    declared: dict[ObjectKey, Declared]
    problems: tuple[Problem, ...] = ()


EMPTY = FolderState({}, {})


def read_file(path: str, content: bytes | Unreadable, previous: FileState | None) -> FileState:
    """What a file declares, given its bytes and what it declared before."""
    size = previous.size if previous is not None else 0
    before = previous.declared if previous is not None else {}
    read = _read(path, content, before)
    if isinstance(content, bytes) and not any(problem.level == "error" for problem in read.problems):
        size = len(content)
    return msgspec.structs.replace(read, size=size)


def _read(path: str, content: bytes | Unreadable, before: dict[ObjectKey, Good]) -> FileState:
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
    now: float,
    missing: Mapping[str, Unreadable] | None = None,
) -> FolderState:
    """The state after a look at the disk, `now` in seconds of a monotonic clock.

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
            read = read_file(path, content, known)
            files[path] = read if known is None else _waiting(known, read, content, now)
        elif known is not None:
            files[path] = known
    _settle(files, now)
    declared: dict[ObjectKey, Declared] = {}
    problems = [
        Problem("UnreadableFolder", "error", "", unreadable.message, unreadable.fix, folder)
        for folder, unreadable in missing.items()
    ]
    for path in sorted(files):
        problems.extend(files[path].problems)
        problems.extend(_told(path, files[path], now))
        for key, good in files[path].declared.items():
            first = declared.setdefault(key, Declared(good.object, f"{path}:{good.line}"))
            if first.object is not good.object:
                message = f"{key} is declared in {first.location} already; that one stands"
                problems.append(Problem("DuplicateObject", "error", "", message, "keep one of them", path, good.line))
    problems.sort(key=lambda problem: (problem.file, problem.line))
    return FolderState(files, declared, tuple(problems))


def due(state: FolderState, now: float) -> float | None:
    """In how many seconds time alone changes the state; None: never."""
    waits = (file.coming for file in state.files.values() if file.coming is not None)
    times = (wait.since + seconds for wait in waits for seconds in (TELL_SECONDS, _patience(wait)))
    return min((at - now for at in times if at > now), default=None)


def _waiting(known: FileState, read: FileState, content: bytes | Unreadable, now: float) -> FileState:
    """A file that has changed, with what it says now beside what it declared; `_settle` judges whether that counts."""
    cut = isinstance(content, bytes) and len(content) == read.size < known.size and not content.endswith(b"\n")
    return msgspec.structs.replace(known, coming=Coming(read, now, cut))


def _settle(files: dict[str, FileState], now: float) -> None:
    """Let count what lacks nothing, or has kept still long enough. What another file declares now is not lacking."""
    waiting = [path for path, file in files.items() if file.coming is not None]
    if not waiting:
        return
    for path in waiting:
        if not _lacking(files[path]):
            _believe(files, path)
    elsewhere = Counter(key for file in files.values() for key in _staying(file))
    for path in waiting:
        coming = files[path].coming
        if coming is None:
            continue
        moved = not coming.cut and all(elsewhere[key] for key in _lost(files[path]))
        if moved or now - coming.since >= _patience(coming):
            _believe(files, path)


def _believe(files: dict[str, FileState], path: str) -> None:
    coming = files[path].coming
    if coming is not None:
        files[path] = coming.state


def _lost(file: FileState) -> Iterable[ObjectKey]:
    return file.declared.keys() - file.coming.state.declared.keys() if file.coming is not None else ()


def _lacking(file: FileState) -> bool:
    return file.coming is not None and (file.coming.cut or bool(_lost(file)))


def _staying(file: FileState) -> Iterable[ObjectKey]:
    """What a file declares, whatever becomes of its wait."""
    return file.declared.keys() & file.coming.state.declared.keys() if file.coming is not None else file.declared


def _patience(coming: Coming) -> float:
    return SETTLE_SECONDS if coming.state.size else EMPTY_SECONDS


def _told(path: str, file: FileState, now: float) -> Iterable[Problem]:
    """The wait for a file, where it is longer than a moment."""
    coming = file.coming
    if coming is None or now - coming.since < TELL_SECONDS:
        return
    lost = sorted(_lost(file))
    if not coming.state.size:
        what, fix = "it has become empty", "write it again, or remove it if its objects should go"
    elif lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        what, fix = f"it no longer declares {lost[0]}{more}", "nothing to do if that is meant; else write it to its end"
    else:
        what, fix = "it has become shorter and its last line does not end", "end it with a newline"
    message = f"{what}; what it declared stands until it has not changed for {_patience(coming):g} s"
    yield Problem("Waiting", "warning", "", message, fix, path)


def changes(before: FolderState, after: FolderState) -> tuple[Change, ...]:
    """What must be written to `DECLARED` to get from one state to the other, sorted by object."""
    found: list[Change] = []
    for key in sorted(before.declared.keys() | after.declared.keys()):
        row = after.declared.get(key)
        if row != before.declared.get(key):
            found.append(Change(DECLARED, DeclaredKey(*key, SOURCE), row))
    return tuple(found)
