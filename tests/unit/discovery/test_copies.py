"""Copies in a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from discovery.copies import CATALOG, Copies, name_of, object_name
from discovery.stores.sqlite import SqliteStore
from mesh.model import (
    DECLARED,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    Declared,
    DeclaredKey,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    Locality,
    ObjectKey,
    ServicePort,
)
from mesh.tables import Change
from mesh.validation import validate

SOURCE = "kubernetes:east"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "store.db")
    yield opened
    await opened.close()


def declared(name: str = "v1", *, stale: bool = False) -> Change:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "ServiceSubset",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "7", "uid": "u", "generation": 3},
        "spec": {"service": "reviews", "labels": {"version": "v1"}},
    }
    made = validate(raw).object
    assert made is not None
    return Change(DECLARED, DeclaredKey("ServiceSubset", "shop", name, SOURCE), Declared(made, "here", stale=stale))


def service(name: str = "reviews") -> Change:
    row = DiscoveredService(ports=(ServicePort("http", 80, "HTTP"),), labels=(("app", "x"),), export_to=("*",))
    return Change(DISCOVERED_SERVICES, DiscoveredServiceKey(SOURCE, "shop", name), row)


def endpoints(address: str = "10.0.0.1", part: str = "reviews-a") -> Change:
    ends = Endpoint(
        address, (("http", 8080),), (("v", "1"),), 2, Locality("r", "z", "s"), "Healthy", 1, "sa", mesh_tls=True
    )
    return Change(
        DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey(SOURCE, "shop", "reviews", part), DiscoveredEndpoints((ends,))
    )


async def written(store: SqliteStore, *changes: Change) -> Copies:
    copies = Copies(store, SOURCE)
    await copies.load()
    copies.note(changes)
    copies.whole(CATALOG, [name_of(change) for change in changes if change.table is not DECLARED])
    copies.whole("ServiceSubset", [name_of(change) for change in changes if change.table is DECLARED])
    await copies.flush()
    return copies


async def reopened(store: SqliteStore) -> Copies:
    copies = Copies(store, SOURCE)
    await copies.load()
    return copies


async def test_what_was_noted_comes_back_stale_and_otherwise_equal(store: SqliteStore) -> None:
    await written(store, declared(), service(), endpoints())
    copies = await reopened(store)
    assert copies.objects("ServiceSubset") == [declared().row.object]
    assert copies.object(ObjectKey("ServiceSubset", "shop", "v1")) == declared().row.object
    back = {change.key: change.row for change in copies.discovered()}
    assert back.keys() == {service().key, endpoints().key}
    assert back[service().key].stale
    assert back[service().key].ports == service().row.ports
    assert back[endpoints().key].endpoints == endpoints().row.endpoints


async def test_a_part_has_a_copy_once_it_was_whole_even_if_it_was_empty(store: SqliteStore) -> None:
    assert not (await reopened(store)).has(CATALOG)
    await written(store)
    copies = await reopened(store)
    assert copies.has(CATALOG)
    assert copies.has("ServiceSubset")
    assert not copies.has("HTTPRoute")
    assert copies.discovered() == []


async def test_removed_rows_and_those_that_a_whole_part_lacks_have_no_copy(store: SqliteStore) -> None:
    copies = await written(store, declared("v1"), declared("v2"), endpoints(part="a"), endpoints(part="b"))
    gone = endpoints(part="a")
    copies.note([Change(gone.table, gone.key, None)])
    await copies.flush()
    again = await reopened(store)
    assert [change.key[3] for change in again.discovered()] == ["b"]
    again.whole("ServiceSubset", [object_name(ObjectKey("ServiceSubset", "shop", "v2"))])
    await again.flush()
    assert [made.metadata.name for made in (await reopened(store)).objects("ServiceSubset")] == ["v2"]
    assert (await reopened(store)).discovered(), "another part is left alone"


async def test_stale_rows_are_no_news(store: SqliteStore) -> None:
    await written(store, declared(stale=True))
    assert (await reopened(store)).objects("ServiceSubset") == []


async def test_equal_content_is_not_written_again(store: SqliteStore) -> None:
    copies = await written(store, service())
    writes: list[object] = []
    write = store.write_documents

    async def counted(collection: str, changes: dict[str, bytes | None]) -> None:
        writes.append(changes)
        await write(collection, changes)

    store.write_documents = counted  # type: ignore[method-assign]
    copies.note([service()])
    await copies.flush()
    assert writes == []


async def test_a_copy_that_cannot_be_read_is_as_good_as_none(store: SqliteStore) -> None:
    await written(store, declared(), service())
    await store.write_documents(
        SOURCE,
        {
            "service/shop/bad": b"{",
            "endpoints/shop": b"{}",
            "object/ServiceSubset/shop/bad": b"[]",
            "object/NoKind/shop/x": b"{}",
            "what/is/this": b"",
        },
    )
    copies = await reopened(store)
    assert len(copies.discovered()) == 1
    assert len(copies.objects("ServiceSubset")) == 1
    assert copies.objects("NoKind") == []


async def test_a_store_that_is_away_loses_nothing(store: SqliteStore, tmp_path: Path) -> None:
    copies = Copies(store, SOURCE)
    await copies.load()
    copies.note([service()])
    await store.close()
    await copies.flush()
    again = await SqliteStore.open(tmp_path / "store.db")
    copies._store = again
    await copies.flush()
    assert len((await reopened(again)).discovered()) == 1
    await again.close()


async def test_many_rows_are_written_some_at_a_time(store: SqliteStore) -> None:
    copies = Copies(store, SOURCE)
    await copies.load()
    copies.note([service(f"s{number}") for number in range(10)])
    await copies.flush(most=4)
    assert len((await reopened(store)).discovered()) == 4
    await copies.flush()
    assert len((await reopened(store)).discovered()) == 10


async def test_copies_of_another_cluster_with_the_same_name_are_removed_and_never_served(store: SqliteStore) -> None:
    before = Copies(store, SOURCE, place="/one#")
    await before.load()
    before.note([service()])
    before.whole(CATALOG, [name_of(service())])
    await before.flush()
    again = Copies(store, SOURCE, place="/one#")
    await again.load()
    assert again.has(CATALOG)
    assert again.discovered()
    other = Copies(store, SOURCE, place="/two#")
    await other.load()
    assert not other.has(CATALOG)
    assert other.discovered() == []
    other.note([service("ratings")])
    await other.flush()
    assert set(await store.documents(SOURCE)) == {"service/shop/ratings", "whole/@place"}
