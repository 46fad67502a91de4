"""What only the SQLite store must do: the file, what can happen to it, backups."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from discovery.stores import sqlite_file
from discovery.stores.sqlite import SqliteStore
from discovery.stores.store import (
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    StoreUnavailable,
)
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.service import Service, ServiceEndpoint, ServicePort, ServiceSpec
from mesh.model import ObjectKey


def service(name: str, *, endpoints: int = 1, address: str = "127.0.0.1") -> Service:
    return Service(
        api_version="fairlead.dev/v1alpha1",
        kind="Service",
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ServiceSpec(
            ports=(ServicePort(name="http", port=80),),
            endpoints=tuple(
                ServiceEndpoint(address=address, ports={"http": 1 + n}, labels={"version": "v1"}, zone="b")
                for n in range(endpoints)
            ),
        ),
    )


def key(name: str) -> ObjectKey:
    return ObjectKey("Service", "default", name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "fairlead.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(path)
    yield opened
    await opened.close()


async def test_only_the_owner_can_read_the_file(store: SqliteStore) -> None:
    await store.put(service("reviews"))
    for file in store.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


async def test_a_second_server_on_the_same_file_is_refused_by_name_of_the_first(store: SqliteStore) -> None:
    with pytest.raises(StoreLocked, match=rf"another Fairlead \(process {os.getpid()}\).*--store"):
        await SqliteStore.open(store.path)
    await store.put(service("reviews"))


async def test_a_schema_newer_than_ours_is_refused_and_left_alone(path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreTooNew, match=r"newer Fairlead \(schema 999"):
        await SqliteStore.open(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (999,)


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="another program"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, and longer than a header of SQLite is" * 40, b"\0" * 8192])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fairlead.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="fairlead restore"):
        await SqliteStore.open(path)
    assert path.read_bytes() == content


async def test_a_damaged_page_is_found_at_start(path: Path) -> None:
    store = await SqliteStore.open(path)
    for n in range(50):
        await store.put(service(f"s{n}", endpoints=20))
    await store.close()
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 8)
    with pytest.raises(StoreCorrupt, match="damaged"):
        await SqliteStore.open(path)
    (path.parent / "fairlead.db.lock").unlink()  # nobody holds it: a refused opening lets go


async def test_a_directory_that_cannot_be_used_is_refused_with_words(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a directory should be")
    with pytest.raises(StoreUnavailable, match="--store"):
        await SqliteStore.open(tmp_path / "state" / "fairlead.db")
    (tmp_path / "directory.db").mkdir()
    with pytest.raises(StoreUnavailable, match="opened for writing"):
        await SqliteStore.open(tmp_path / "directory.db")


async def test_a_full_disk_refuses_the_write_and_loses_nothing(store: SqliteStore) -> None:
    kept = await store.put(service("reviews"))
    pages = store._writer.connection.execute("PRAGMA page_count").fetchone()[0]
    store._writer.connection.execute(f"PRAGMA max_page_count = {pages}")
    small, large = await asyncio.gather(
        store.put(service("reviews")), store.put(service("large", endpoints=500)), return_exceptions=True
    )
    assert small == replace(kept, created=False), (
        "equal content needs no room, and a neighbour's failure is not its own"
    )
    assert isinstance(large, StoreFull)
    assert "Free some space" in str(large)
    assert [one.object.metadata.name for one in (await store.list()).objects] == ["reviews"]
    store._writer.connection.execute("PRAGMA max_page_count = 1000000")
    await store.put(service("large", endpoints=500))
    assert await store.get(key("large")) is not None


async def test_a_locked_database_refuses_the_write_and_reads_go_on(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await store.put(service("reviews"))
    store._writer.connection.execute("PRAGMA busy_timeout = 20")
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match="locked by another process"):
            await store.put(service("ratings"))
        assert await store.get(key("reviews")) == replace(kept, created=False)
        other.execute("ROLLBACK")
    assert await store.get(key("ratings")) is None
    await store.put(service("ratings"))


async def test_a_row_that_cannot_be_read_is_reported_and_the_rest_lives_on(store: SqliteStore) -> None:
    await store.put(service("reviews"))
    await store.put(service("ratings"))
    store._writer.connection.execute("UPDATE revisions SET body = ? WHERE name = 'reviews'", (b'{"kind": "Serv',))
    snapshot = await store.list()
    assert [one.object.metadata.name for one in snapshot.objects] == ["ratings"]
    assert [one.key for one in snapshot.unreadable] == [key("reviews")]
    watch = store.watch(0)
    events = await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]
    assert [(event.key, bool(event.error)) for event in events] == [(key("reviews"), True), (key("ratings"), False)]
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        await store.get(key("reviews"))
    assert [(past.object, bool(past.error)) for past in await store.history(key("reviews"))] == [(None, True)]
    mended = await store.put(service("reviews", endpoints=2))
    assert await store.get(key("reviews")) == mended


async def test_history_keeps_the_newest_revisions_and_always_the_last(path: Path) -> None:
    store = await SqliteStore.open(path, history_limit=3)
    for n in range(6):
        await store.put(service("reviews", address=f"127.0.0.{n + 1}"))
    assert len(await store.history(key("reviews"))) == 3
    assert await store.get(key("reviews")) is not None
    await store.close()


async def test_a_backup_of_a_store_in_use_is_whole_and_restores(store: SqliteStore, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    kept = [await store.put(service(f"s{n}")) for n in range(20)]
    await store.write_documents("rejections", {"a": b"1"})
    await store.backup(copy)
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "state"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    late = await store.put(service("late"))
    await store.close()

    replaced = sqlite_file.restore(copy, store.path)

    opened = await SqliteStore.open(store.path)
    assert sorted((await opened.list()).objects, key=lambda one: one.revision) == [
        replace(one, created=False) for one in kept
    ]
    assert await opened.documents("rejections") == {"a": b"1"}
    await opened.close()
    assert replaced is not None
    before = await SqliteStore.open(replaced)
    assert await before.get(key("late")) == replace(late, created=False), "what a restore replaces is kept"
    await before.close()


async def test_a_backup_never_overwrites_and_a_restore_never_runs_under_a_server(
    store: SqliteStore, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"precious")
    with pytest.raises(StoreUnavailable, match="exists"):
        await store.backup(copy)
    assert copy.read_bytes() == b"precious"
    good = tmp_path / "good.db"
    await store.backup(good)
    with pytest.raises(StoreLocked):
        sqlite_file.restore(good, store.path)
    with pytest.raises(StoreUnavailable, match="no backup"):
        sqlite_file.restore(tmp_path / "nowhere.db", store.path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
async def test_restoring_something_else_than_a_backup_changes_nothing(
    path: Path, tmp_path: Path, content: bytes
) -> None:
    store = await SqliteStore.open(path)
    kept = await store.put(service("reviews"))
    await store.close()
    bad = tmp_path / "bad.db"
    bad.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"bad\.db is (empty|damaged, or no backup).* Name a file that"):
        sqlite_file.restore(bad, path)
    store = await SqliteStore.open(path)
    assert await store.get(key("reviews")) == replace(kept, created=False)
    await store.close()


_CHILD = """
import asyncio, sys
from pathlib import Path
from discovery.stores.sqlite import SqliteStore
from tests.unit.discovery.stores.test_sqlite import service

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    for n in range(10_000):
        await store.put(service(f"s{n}"))
        print(n, flush=True)

asyncio.run(main())
"""


def _written_until_killed(path: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        answered = -1
        for line in child.stdout:
            answered = int(line)
            if answered >= 40:
                child.send_signal(signal.SIGKILL)
                break
        child.stdout.close()
        child.wait(10)
    return answered


async def test_what_was_answered_survives_sigkill(path: Path) -> None:
    answered = await asyncio.to_thread(_written_until_killed, path)
    assert answered >= 40
    store = await SqliteStore.open(path)
    names = {one.object.metadata.name for one in (await store.list()).objects}
    assert {f"s{n}" for n in range(answered + 1)} <= names
    await store.close()


async def test_writes_of_many_at_once_are_all_there_each_at_a_revision_of_its_own(store: SqliteStore) -> None:
    kept = await asyncio.gather(*(store.put(service(f"s{n}", endpoints=10)) for n in range(600)))
    snapshot = await store.list()
    assert sorted(one.revision for one in snapshot.objects) == list(range(1, 601))
    assert sorted(snapshot.objects, key=lambda one: one.revision) == sorted(
        (replace(one, created=False) for one in kept), key=lambda one: one.revision
    )


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in sqlite_file.migrations()] == list(range(1, len(sqlite_file.migrations()) + 1))


async def test_a_migration_that_fails_leaves_the_store_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(path)
    kept = await store.put(service("reviews"))
    await store.close()
    known = sqlite_file.migrations()
    broken = (*known, (len(known) + 1, "CREATE TABLE extra (x);\nINSERT INTO nowhere VALUES (1);"))
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file, "migrations", lambda: broken)
        with pytest.raises(StoreUnavailable):
            await SqliteStore.open(path)
    store = await SqliteStore.open(path)
    assert await store.get(key("reviews")) == replace(kept, created=False)
    assert store._reader.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    await store.close()
