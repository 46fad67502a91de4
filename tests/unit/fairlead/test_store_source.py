from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from api import ports
from discovery.stores.sqlite import SqliteStore
from fairlead.store_source import StoreSource
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.namespace import Namespace
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.objects import OBJECTS, SHADOWED
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
        self.source = StoreSource(store, self.engine, self._submit, other_sources=others)

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
