from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from api import ports
from discovery.copies import Copies
from discovery.stores import store as stores
from discovery.stores.sqlite import SqliteStore
from fairlead.stores.store_source import StoreSource
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.namespace import Namespace
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.objects import OBJECTS, SHADOWED
from mesh.problems import Problem
from mesh.tables import Change, Engine

KEY = ObjectKey("Namespace", "", "a")


def namespace(name: str = "a", **labels: str) -> Namespace:
    return Namespace(api_version="v1", kind="Namespace", metadata=ObjectMeta(name=name, labels=labels))


class Setting:
    """A store source whose changes are committed as they come, or held back."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.engine = Engine([DECLARED, OBJECTS, SHADOWED])
        self.held: list[Change] | None = None
        self.submitted: list[Change] = []
        others = ("files", "kubernetes:x")
        self.copies = Copies(store, "store")
        self.source = StoreSource(store, self.engine, self._submit, other_sources=others)

    def over(self, shared: Any) -> Setting:
        """Another one, over a store elsewhere, that keeps copies in this one's."""
        other = Setting(self.store)
        other.copies = Copies(self.store, "store")
        other.source = StoreSource(shared, other.engine, other._submit, copies=other.copies)
        return other

    def _submit(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        self.submitted.extend(changes)
        if self.held is None:
            self.engine.commit(changes)
        else:
            self.held.extend(changes)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    store = await SqliteStore.open(tmp_path / "f.db")
    yield Setting(store)
    await store.close()


async def test_everything_in_the_store_is_handed_over_with_its_revision(setting: Setting) -> None:
    stored = await setting.store.put(namespace())
    await setting.source.load()
    row = setting.engine.get(DECLARED, DeclaredKey(*KEY, "store"))
    assert row == Declared(stored.object, location=f"store@{stored.revision}")


async def test_a_write_is_part_of_the_model_at_once_and_the_watch_does_not_repeat_it(setting: Setting) -> None:
    await setting.source.load()
    following = asyncio.get_running_loop().create_task(setting.source.follow())
    item = await setting.source.put(namespace(x="1"), expected=0, by="me")
    assert [change.row.location for change in setting.submitted] == [f"store@{item.revision}"]
    await setting.store.put(namespace("b"), by="somebody else")
    async with asyncio.timeout(5):
        while len(setting.submitted) < 2:  # noqa: ASYNC110 - the store's watch has its own thread
            await asyncio.sleep(0.001)
    following.cancel()
    assert [change.key.name for change in setting.submitted] == ["a", "b"]


async def test_a_write_is_on_its_way_until_the_model_has_it(setting: Setting) -> None:
    await setting.source.load()
    setting.held = []
    await setting.source.put(namespace(), expected=None, by="me")
    assert setting.source.on_its_way(KEY)
    setting.engine.commit(setting.held)
    assert not setting.source.on_its_way(KEY)
    setting.held = []
    await setting.source.delete(KEY, expected=None, by="me")
    assert setting.source.on_its_way(KEY)
    setting.engine.commit(setting.held)
    assert not setting.source.on_its_way(KEY)


async def test_errors_of_the_store_are_those_that_the_api_knows(setting: Setting) -> None:
    await setting.source.load()
    await setting.source.put(namespace(), expected=None, by="me")
    with pytest.raises(ports.Conflict) as conflict:
        await setting.source.put(namespace(x="1"), expected=0, by="me")
    assert conflict.value.actual == 1
    with pytest.raises(ports.NotFound):
        await setting.source.delete(ObjectKey("Namespace", "", "none"), expected=None, by="me")
    await setting.store.close()
    with pytest.raises(ports.Unavailable) as unavailable:
        await setting.source.put(namespace(x="2"), expected=None, by="me")
    assert unavailable.value.fix


async def test_history_remembers_who(setting: Setting) -> None:
    await setting.source.put(namespace(x="1"), expected=None, by="ann")
    await setting.source.put(namespace(x="2"), expected=None, by="bob")
    history = await setting.source.history(KEY, limit=10)
    assert [past.by for past in history] == ["bob", "ann"]
    past = await setting.source.past(KEY, history[-1].revision)
    assert past is not None
    assert past.object is not None
    assert past.object.metadata.labels == {"x": "1"}


async def test_a_revision_that_cannot_be_read_is_told_with_its_error(setting: Setting, tmp_path: Path) -> None:
    item = await setting.source.put(namespace(), expected=None, by="ann")
    with sqlite3.connect(tmp_path / "f.db") as connection:
        connection.execute("UPDATE revisions SET body = x'7b'")
    connection.close()
    [past] = await setting.source.history(KEY, limit=10)
    assert past.object is None
    assert past.error
    assert await setting.source.past(KEY, item.revision) == past


async def test_what_other_sources_declare_is_told_apart_and_kubernetes_comes_first(setting: Setting) -> None:
    await setting.source.put(namespace(), expected=None, by="me")
    rows = [
        Change(DECLARED, DeclaredKey(*KEY, name), Declared(namespace(), location=name))
        for name in ("files", "kubernetes:x")
    ]
    setting.engine.commit(rows)
    assert [item.source for item in setting.source.others(KEY)] == ["kubernetes:x", "files"]
    assert [item.source for item in setting.source.others_of_kind("Namespace", None)] == ["kubernetes:x", "files"]
    assert setting.source.others_of_kind("Service", None) == []
    item = await setting.source.get(KEY)
    assert item is not None
    assert (item.source, item.revision) == ("store", 1)


# -- a store that is another program ---------------------------------------------------------------------------------


class Faraway:
    """A SQLite store that is away when it is told to be, as only a store elsewhere can be."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.away = False
        self.restored: tuple[stores.Event, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        return ()

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise stores.StoreAway("It does not answer", fix="Wait.")
        return getattr(self._store, name)

    async def watch(self, after: int) -> AsyncIterator[tuple[stores.Event, ...]]:
        if self.restored:
            yield self.restored
        async for events in self._store.watch(after):
            yield events


@pytest.fixture
async def faraway(tmp_path: Path) -> AsyncIterator[Faraway]:
    store = await SqliteStore.open(tmp_path / "shared.db")
    yield Faraway(store)
    await store.close()


async def ran(source: StoreSource, until: Callable[[], bool]) -> None:
    """Follow until something is so."""
    following = asyncio.get_running_loop().create_task(source.follow())
    try:
        deadline = asyncio.get_running_loop().time() + 30
        while not until():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_store_that_is_away_at_the_start_is_stood_in_for_by_what_was_kept_until_it_is_back(
    setting: Setting, faraway: Faraway
) -> None:
    await faraway._store.put(namespace("a"))
    await faraway._store.put(namespace("b"))
    first = setting.over(faraway)
    await first.source.load()
    await first.copies.flush()
    await faraway._store.delete(ObjectKey("Namespace", "", "b"))
    await faraway._store.put(namespace("c"))

    faraway.away = True
    second = setting.over(faraway)
    await second.source.load()
    assert [(key.name, row.stale) for key, row in sorted(second.engine.rows(DECLARED).items())] == [
        ("a", True),
        ("b", True),
    ]
    assert [problem.problem.code for problem in second.source.problems()] == ["StoreAway"]
    item = await second.source.get(KEY)
    assert item is not None
    assert (item.stale, item.revision) == (True, 1)
    assert [item.object.metadata.name for item in await second.source.list("Namespace", None)] == ["a", "b"]
    with pytest.raises(ports.Unavailable, match="does not answer"):
        await second.source.put(namespace("d"), expected=None, by="")

    faraway.away = False
    await ran(second.source, lambda: DeclaredKey("Namespace", "", "c", "store") in second.engine.rows(DECLARED))
    assert [(key.name, row.stale) for key, row in sorted(second.engine.rows(DECLARED).items())] == [
        ("a", False),
        ("c", False),
    ]
    assert second.source.problems() == []


async def test_a_store_that_was_never_seen_is_waited_for(setting: Setting, faraway: Faraway) -> None:
    faraway.away = True
    source = setting.over(faraway).source
    loading = asyncio.get_running_loop().create_task(source.load())
    deadline = asyncio.get_running_loop().time() + 30
    while not source.problems():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    assert not loading.done()
    faraway.away = False
    await asyncio.wait_for(loading, 30)


async def test_what_was_restored_counts_though_a_higher_revision_is_known(setting: Setting, faraway: Faraway) -> None:
    old = await faraway._store.put(namespace(version="old"))
    await faraway._store.put(namespace(version="new"))
    here = setting.over(faraway)
    await here.source.load()
    faraway.restored = (stores.Event(KEY, old.revision, old.object, restored=True),)
    row = Declared(old.object, location=f"store@{old.revision}")
    await ran(here.source, lambda: here.engine.get(DECLARED, DeclaredKey(*KEY, "store")) == row)
