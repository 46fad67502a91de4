from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from discovery.stores.sqlite import SqliteStore
from discovery.stores.store import StoreLocked
from fairlead.stores import documents
from fairlead.stores.documents import DocumentWriter


class Moody(SqliteStore):
    """A store that is away for the first writes."""

    refusals = 0

    async def write_documents(self, collection: str, changes: Mapping[str, bytes | None]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreLocked("busy", fix="wait")
        await super().write_documents(collection, changes)


async def test_what_is_saved_is_in_the_store_soon(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "f.db")
    writer = DocumentWriter(store, "things")
    running = asyncio.get_running_loop().create_task(writer.run())
    writer.save({"a": b"1", "b": b"2"})
    async with asyncio.timeout(5):
        while await store.documents("things") != {"a": b"1", "b": b"2"}:  # noqa: ASYNC110 - written by a thread
            await asyncio.sleep(0.001)
    running.cancel()
    writer.save({"a": None})
    assert await writer.flush()
    assert await store.documents("things") == {"b": b"2"}
    await store.close()


async def test_while_the_store_is_away_only_the_latest_of_each_waits_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_RETRY_SECONDS", 0)
    store = await Moody.open(tmp_path / "f.db")
    assert isinstance(store, Moody)
    store.refusals = 3
    writer = DocumentWriter(store, "things")
    writer.save({"a": b"1", "b": b"1"})
    assert not await writer.flush()
    writer.save({"a": b"2"})
    running = asyncio.get_running_loop().create_task(writer.run())
    async with asyncio.timeout(5):
        while await store.documents("things") != {"a": b"2", "b": b"1"}:  # noqa: ASYNC110 - written by a thread
            await asyncio.sleep(0.001)
    running.cancel()
    await store.close()
