"""A SQLite file as a store's home: opening, migrating, backing up, restoring it, and what its errors mean to a user.

Owns the file, not its rows (`sqlite.py` does). Migrations are the numbered files of `migrations/`; `user_version` is
the number of the last one that ran, `application_id` marks the file as ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from discovery.stores.store import StoreCorrupt, StoreFull, StoreLocked, StoreTooNew, StoreUnavailable

APPLICATION_ID = 0x464C4431  # "FLD1"
BUSY_SECONDS = 5.0  # how long a write waits for another process (a backup, a person's sqlite3) before it is refused

_FULL = {sqlite3.SQLITE_FULL}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_WAL_SUFFIXES = ("-wal", "-shm")


def migrations() -> tuple[tuple[int, str], ...]:
    """The numbered migrations, in order: (number, SQL)."""
    scripts = files("discovery.stores").joinpath("migrations").iterdir()
    return tuple(
        sorted(
            (int(match[1]), entry.read_text(encoding="utf-8"))
            for entry in scripts
            if (match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name))
        )
    )


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which say what happened, that nothing was lost, and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise meaning(error, path) from error


def meaning(error: sqlite3.Error, path: Path) -> StoreUnavailable:
    """What an error of SQLite means to a user."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the primary code
    if code in _FULL:
        return StoreFull(
            f"The store {path} has no room left, so nothing was written ({error})",
            fix=f"Free some space on the disk of {path.parent}; writing works again without a restart.",
        )
    if code in _BUSY:
        return StoreLocked(
            f"The store {path} is locked by another process, so nothing was written ({error})",
            fix="Find and end what holds it (`fuser` names it); writing works again without a restart.",
        )
    if code in _BROKEN:
        return StoreCorrupt(
            f"The store {path} is damaged or not a SQLite file ({error})",
            fix=f"Stop Fairlead and keep a copy of {path}*; then `fairlead restore BACKUP`, or move it away.",
        )
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return StoreUnavailable(
            f"The store {path} cannot be opened for writing ({error})",
            fix=f"Let this user (uid {os.getuid()}) write to it and to its directory, or choose another with --store.",
        )
    return StoreUnavailable(
        f"The store {path} failed, so nothing was written ({error})",
        fix=f"Check the disk of {path.parent} (`dmesg`, `df`); if it is well, this is a defect of Fairlead: report it.",
    )


class Lock:
    """That this process, and no other, writes the store. Kept in a file beside it, held until `release`.

    Not on the file itself: closing any descriptor of that would drop SQLite's own POSIX locks.
    """

    def __init__(self, path: Path) -> None:
        lock = path.with_name(path.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"The store's directory {path.parent} cannot be used ({error.strerror})",
                fix="Make it writable for this user, or choose another store with --store sqlite:PATH.",
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreLocked(
                f"The store {path} is in use by another Fairlead (process {holder or 'unknown'})",
                fix="Stop that one, or choose another store with --store sqlite:PATH.",
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it. The file stays: removing it would let two processes lock different files."""
        os.close(self._descriptor)


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection with the settings every one of ours has; transactions are explicit."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # a write is on the disk before it is answered
    if readonly:
        connection.execute("PRAGMA query_only = ON")
    return connection


def prepare(path: Path) -> sqlite3.Connection:
    """Open the store for writing: make it where there is none, check it, bring its schema up to date."""
    with explained(path):
        connection = connect(_private(path))
        try:
            _refuse_strangers(connection, path)
            _check_pages(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _private(path: Path) -> Path:
    # made by us and not by SQLite, which would let everybody read the keys in it; its -wal and -shm copy the mode
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(
            f"The store {path} cannot be opened for writing ({error.strerror})",
            fix=f"Let this user (uid {os.getuid()}) write to it, or choose another with --store sqlite:PATH.",
        ) from error
    return path


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application != APPLICATION_ID and not (application == 0 and empty):
        raise StoreUnavailable(
            f"{path} is a SQLite file of another program", fix="Choose another path with --store sqlite:PATH."
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = migrations()[-1][0]
    if version > newest:
        raise StoreTooNew(
            f"The store {path} was written by a newer Fairlead (schema {version}, this one knows {newest})",
            fix="Run that version again, or restore a backup made by this one.",
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, script in migrations():
        if number > version:
            try:
                connection.executescript(
                    f"BEGIN IMMEDIATE;\n{script}\n"
                    f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};\nCOMMIT;"
                )
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise meaning(error, path) from error


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        error = sqlite3.DatabaseError(found)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise meaning(error, path)


def backup(path: Path, target: Path) -> None:
    """Copy a store, also while a server uses it, to a file that must not exist yet. The copy appears whole or not."""
    if target.exists():
        raise StoreUnavailable(f"{target} exists", fix="Choose a new file for the backup, or move that one away.")
    if not path.exists():
        raise StoreUnavailable(f"There is no store at {path}", fix="Name the store with --store sqlite:PATH.")
    with explained(path), contextlib.closing(connect(path, readonly=True)) as source:
        _refuse_strangers(source, path)
        _copy(source, target)


def restore(copy: Path, path: Path) -> Path | None:
    """Put a backup in a store's place; where the replaced store was moved to (None: there was none).

    The server must be stopped: the lock is taken meanwhile.
    """
    if not copy.exists():
        raise StoreUnavailable(f"There is no backup at {copy}", fix="Name a file that `fairlead backup` made.")
    lock = Lock(path)
    try:
        with explained(copy), contextlib.closing(connect(copy, readonly=True)) as source:
            _refuse_strangers(source, copy)
            _check_pages(source, copy)
            if source.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StoreUnavailable(f"{copy} is empty", fix="Name a file that `fairlead backup` made.")
            incoming = path.with_name(path.name + ".incoming")
            incoming.unlink(missing_ok=True)
            _copy(source, incoming)
        kept = _set_aside(path)
        incoming.rename(path)
        _sync(path.parent)
    except StoreCorrupt as error:  # what it says to do is for a store
        words, fix = f"{copy} is damaged, or no backup; nothing was changed", "Name a file that `fairlead backup` made."
        raise StoreCorrupt(words, fix=fix) from error
    else:
        return kept
    finally:
        lock.release()


def _copy(source: sqlite3.Connection, target: Path) -> None:
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with explained(target), contextlib.closing(sqlite3.connect(unfinished)) as sink:
            source.backup(sink)
            sink.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
        unfinished.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target} cannot be written ({error.strerror})", fix="Choose another place.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _set_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.name}.before-restore-{number}")).exists():
        number += 1
    for suffix in _WAL_SUFFIXES:  # the write-ahead log belongs to the old content and must move with it
        if (beside := path.with_name(path.name + suffix)).exists():
            beside.rename(kept.with_name(kept.name + suffix))
    path.rename(kept)
    return kept


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
