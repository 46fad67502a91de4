"""The thread that writes a SQLite store.

Whatever has queued up while it wrote becomes the next transaction, so that concurrent writers share one fsync, and each
is answered only after it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from discovery.stores.sqlite_file import meaning
from discovery.stores.store import StoreError, StoreUnavailable

T = TypeVar("T")

WRITES_AT_ONCE = 256  # of one transaction


class _Write(msgspec.Struct, frozen=True, eq=False):
    """A write that waits for its turn, and the future of whoever waits for it."""

    apply: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Owns the writing connection and its thread. `written` is called from the thread after each transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path, written: Callable[[], None]) -> None:
        self.connection = connection
        self._path = path
        self._written = written
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def write(self, apply: Callable[[sqlite3.Connection], T]) -> T:
        """Run `apply` in a transaction; its result once that is durable, or the error that kept it from being written.

        `apply` may refuse by raising a StoreError before it has written anything.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._writes.put(_Write(apply, done, loop))
        # shielded: a caller that goes away does not unwrite, and the thread may still answer
        return await asyncio.shield(done)

    def stop(self) -> None:
        """Write what was accepted, then end the thread and close the connection. Blocks."""
        self._writes.put(None)
        self._thread.join()
        self.connection.close()

    def _run(self) -> None:
        going = True
        while going:
            group: list[_Write] = []
            going = _take(self._writes, group)
            if not group:
                continue
            outcomes = self._transaction([write.apply for write in group])
            if len(group) > 1 and any(isinstance(outcome, StoreUnavailable) for outcome in outcomes):
                # one that is too large for the disk must not take its neighbours with it
                outcomes = [self._transaction([write.apply])[0] for write in group]
            for write, outcome in zip(group, outcomes, strict=True):
                _answer(write, outcome)
            self._written()

    def _transaction(self, applies: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """The result or the refusal of each write; where SQLite fails, nothing is written and all get that error."""
        connection = self.connection
        outcomes: list[Any] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for apply in applies:
                try:
                    outcomes.append(apply(connection))
                except StoreError as refused:
                    outcomes.append(refused)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever happens in this thread belongs to those who wait for it
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = meaning(error, self._path) if isinstance(error, sqlite3.Error) else _defect(error, self._path)
            return [failure] * len(applies)
        return outcomes


def _take(writes: queue.SimpleQueue[_Write | None], group: list[_Write]) -> bool:
    """Wait for a write and take all that queued up with it; False when the store is to be closed."""
    write = writes.get()
    while write is not None:
        group.append(write)
        if len(group) == WRITES_AT_ONCE:
            return True
        try:
            write = writes.get_nowait()
        except queue.Empty:
            return True
    return False


def _answer(write: _Write, outcome: Any) -> None:
    def tell() -> None:
        if write.done.done():
            return
        if isinstance(outcome, Exception):
            write.done.set_exception(outcome)
        else:
            write.done.set_result(outcome)

    if not write.loop.is_closed():
        write.loop.call_soon_threadsafe(tell)


def _defect(error: Exception, path: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"Writing to the store {path} failed, so nothing was written ({type(error).__name__}: {error})",
        fix="This is a defect of Fairlead: report it.",
    )
