"""Looks at the disk: which config files there are below some folders, and the bytes of those that changed.

It waits for nothing and follows what Kubernetes mounts look like: hidden entries are left out (`..data` and the
folders it points to), links are followed. Pipes, devices and oversized files are never opened or read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from discovery.files.folder_state import MAX_BYTES, Unreadable

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILES = 100_000


class Signature(NamedTuple):
    """What changes when a file does: a rename changes the inode, a write its times."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Look(msgspec.Struct, frozen=True):
    """One look at the disk: see `folder_state.scan` for `found` and `missing`."""

    found: dict[str, bytes | Unreadable | None]
    missing: dict[str, Unreadable]
    signatures: dict[str, Signature]


def look(folders: Iterable[Path], known: dict[str, Signature]) -> Look:
    """List the folders and read what differs from `known`. A folder may also be a single file."""
    found: dict[str, bytes | Unreadable | None] = {}
    missing: dict[str, Unreadable] = {}
    signatures: dict[str, Signature] = {}
    for folder in folders:
        for path in _files(folder, missing):
            name = str(path)
            if name in found:
                continue
            if len(found) >= MAX_FILES:
                missing[str(folder)] = Unreadable(f"it has more than {MAX_FILES} files", "split the folder")
                break
            content, signature = _read(path, known.get(name))
            found[name] = content
            if signature is not None:
                signatures[name] = signature
    return Look(found, missing, signatures)


def _files(folder: Path, missing: dict[str, Unreadable]) -> Iterator[Path]:
    """The config files of a folder, in no order; each real folder is entered once, so that links cannot loop."""
    if folder.is_file():
        yield folder
        return
    entered: set[tuple[int, int]] = set()
    todo = [folder]
    while todo:
        at = todo.pop()
        try:
            status = at.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(at) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        todo.append(Path(entry.path))
                    elif entry.name.endswith(SUFFIXES):
                        yield Path(entry.path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            missing[str(at)] = Unreadable(
                f"the folder cannot be read: {reason}", "check that it exists and may be read"
            )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself, for one; as a file it will be named


def _read(path: Path, known: Signature | None) -> tuple[bytes | Unreadable | None, Signature | None]:
    try:
        # Without waiting: opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        reason = "it is a link to nothing" if path.is_symlink() and not path.exists() else error.strerror or "unknown"
        return Unreadable(f"it cannot be opened: {reason}", "mend or remove it"), None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Unreadable("it is not a regular file", "remove it, or put a regular file there"), None
        signature = Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if signature == known:
            return None, known
        if status.st_size > MAX_BYTES:
            return Unreadable(
                f"it has {status.st_size} bytes, at most {MAX_BYTES} are read", "split the file"
            ), signature
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1), signature
    except OSError as error:
        return Unreadable(f"it cannot be read: {error.strerror or type(error).__name__}", "mend or remove it"), None
    finally:
        os.close(descriptor)
