"""The default store: one SQLite file in WAL mode.

Owns the rows. One thread writes (`sqlite_writer.py`), another reads from a connection of its own and never waits for
the writer; the event loop touches neither. `sqlite_file.py` owns the file: its schema, its lock, backups, and what
SQLite's errors mean.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from discovery.stores import sqlite_file
from discovery.stores import sqlite_queries as queries
from discovery.stores.sqlite_file import Lock, connect, explained, prepare
from discovery.stores.sqlite_writer import Writer
from discovery.stores.stamps import same, stamped, timestamp
from discovery.stores.store import Conflict, Event, NotFound, Past, Snapshot, Stored, StoreUnavailable
from mesh.kinds import encode
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import Problem

T = TypeVar("T")

# A watch lets so much time pass after a write before it reads: a hundred writes a second, which the program that made
# them knows of already, do not cost a hundred queries more.
GATHER_SECONDS = 0.05
HISTORY_LIMIT = 1000  # revisions kept per object; the oldest go first, the newest (a deletion too) always stays


class SqliteStore:
    """A `Store` in a file. Made by `SqliteStore.open`; `now` is the clock that stamps writes."""

    def __init__(self, path: Path, *, now: Callable[[], datetime], history_limit: int) -> None:
        self.path = path
        self._now = now
        self._history_limit = history_limit
        self._lock = Lock(path)
        try:
            connection = prepare(path)
            with explained(path):
                self._reader = connect(path, readonly=True)
        except BaseException:
            self._lock.release()
            raise
        self._bells: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reader")
        self._closed = False
        self._writer = Writer(connection, path, self._ring)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        history_limit: int = HISTORY_LIMIT,
    ) -> SqliteStore:
        """Open a store or make it; raises StoreUnavailable when the file is held, damaged, too new or not ours."""
        return await asyncio.to_thread(cls, path, now=now, history_limit=history_limit)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """See `Store.problems`: a file that fails says so at each read and write."""
        return ()

    # -- reading ------------------------------------------------------------------------------------------------

    async def get(self, key: ObjectKey) -> Stored | None:
        """See `Store.get`."""
        return await self._read(lambda connection: queries.get(connection, key))

    async def list(self) -> Snapshot:
        """See `Store.list`."""
        return await self._read(queries.everything)

    async def list_of(self, kind: str, namespace: str | None) -> tuple[Stored, ...]:
        """See `Store.list_of`."""
        return await self._read(lambda connection: queries.of_kind(connection, kind, namespace))

    async def history(self, key: ObjectKey, *, limit: int = 100) -> tuple[Past, ...]:
        """See `Store.history`."""
        return await self._read(lambda connection: queries.history(connection, key, limit))

    async def past(self, key: ObjectKey, revision: int) -> Past | None:
        """See `Store.past`."""
        return await self._read(lambda connection: queries.past(connection, key, revision))

    async def documents(self, collection: str) -> Mapping[str, bytes]:
        """See `Store.documents`."""
        return await self._read(lambda connection: queries.documents(connection, collection))

    async def watch(self, after: int) -> AsyncIterator[tuple[Event, ...]]:
        """See `Store.watch`."""
        bell = asyncio.Event()
        entry = (asyncio.get_running_loop(), bell)
        self._bells.add(entry)
        try:
            while not self._closed:
                bell.clear()
                events = await self._read(partial(queries.changes, after=after))
                if events:
                    after = events[-1].revision
                    yield events
                else:
                    await bell.wait()
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._bells.discard(entry)

    async def backup(self, target: Path) -> None:
        """Copy the store to a new file while it is in use."""
        await asyncio.to_thread(sqlite_file.backup, self.path, target)

    def _open_writer(self) -> Writer:
        if self._closed:
            raise _gone(self.path)
        return self._writer

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise _gone(self.path)

        def run() -> T:
            with explained(self.path):
                return query(self._reader)

        return await asyncio.get_running_loop().run_in_executor(self._reading, run)

    # -- writing ------------------------------------------------------------------------------------------------

    async def put(self, object: Object, *, expected: int | None = None, by: str = "") -> Stored:  # noqa: A002
        """See `Store.put`."""
        now = self._now()

        def apply(connection: sqlite3.Connection) -> Stored:
            key = ObjectKey(object.kind, object.metadata.namespace, object.metadata.name)
            row = queries.row_of(connection, key)
            _expect(key, expected, 0 if row is None else row[0])
            old = None if row is None else queries.decoded(key.kind, row[1])
            if isinstance(old, str):
                old = None  # what cannot be read is written anew
            if row is not None and old is not None and same(object, old):
                return Stored(old, row[0])
            revision = queries.newest_revision(connection) + 1
            uid = old.metadata.uid if old is not None else ""
            new = stamped(object, old, revision=revision, now=now, uid=uid or str(uuid.uuid4()))
            self._append(connection, revision, key, encode(new), by, now)
            connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*key, revision))
            return Stored(new, revision, created=row is None)

        return await self._open_writer().write(apply)

    async def delete(self, key: ObjectKey, *, expected: int | None = None, by: str = "") -> int:
        """See `Store.delete`."""
        now = self._now()

        def apply(connection: sqlite3.Connection) -> int:
            actual = queries.revision_of(connection, key)
            _expect(key, expected, actual)
            if actual == 0:
                raise NotFound(key)
            revision = queries.newest_revision(connection) + 1
            self._append(connection, revision, key, None, by, now)
            connection.execute("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", key)
            return revision

        return await self._open_writer().write(apply)

    async def write_documents(self, collection: str, changes: Mapping[str, bytes | None]) -> None:
        """See `Store.write_documents`."""

        def apply(connection: sqlite3.Connection) -> None:
            for name, body in changes.items():
                if body is None:
                    connection.execute("DELETE FROM documents WHERE collection = ? AND name = ?", (collection, name))
                else:
                    connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (collection, name, body))

        await self._open_writer().write(apply)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._writer.stop)
        self._ring()
        await asyncio.to_thread(self._reading.shutdown)
        self._reader.close()
        self._lock.release()

    def _append(
        self, connection: sqlite3.Connection, revision: int, key: ObjectKey, body: bytes | None, by: str, now: datetime
    ) -> None:
        connection.execute(
            "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?)", (revision, *key, body, by, timestamp(now))
        )
        connection.execute(
            "DELETE FROM revisions WHERE kind = ? AND namespace = ? AND name = ? AND revision <= "
            "(SELECT revision FROM revisions WHERE kind = ? AND namespace = ? AND name = ? "
            "ORDER BY revision DESC LIMIT 1 OFFSET ?)",
            (*key, *key, self._history_limit),
        )

    def _ring(self) -> None:
        for loop, bell in tuple(self._bells):
            if not loop.is_closed():
                loop.call_soon_threadsafe(bell.set)


def _gone(path: Path) -> StoreUnavailable:
    return StoreUnavailable(f"The store {path} is closed", fix="Fairlead is stopping; try again when it is back.")


def _expect(key: ObjectKey, expected: int | None, actual: int) -> None:
    if expected is not None and expected != actual:
        raise Conflict(key, expected=expected, actual=actual)
