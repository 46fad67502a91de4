"""What every store must do. A new store is one more entry of `OPENERS`.

Consul's KV is a real agent's; those tests are marked `consul`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from discovery.consul.http import Consul, Target
from discovery.stores.consul import ConsulStore
from discovery.stores.sqlite import SqliteStore
from discovery.stores.store import Conflict, Event, NotFound, Store, Stored, StoreUnavailable
from fairlead.processes import Children
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.service import Service, ServiceEndpoint, ServicePort, ServiceSpec
from mesh.model import ObjectKey
from tests.support.consul import required_consul, start_agent


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


Opener = Callable[[], Awaitable[Store]]


def _sqlite(_request: pytest.FixtureRequest, directory: Path, clock: Clock) -> Opener:
    return lambda: SqliteStore.open(directory / "fairlead.db", now=clock)


def _consul(request: pytest.FixtureRequest, directory: Path, clock: Clock) -> Opener:
    url = request.getfixturevalue("consul_url")
    prefix = hashlib.sha256(str(directory).encode()).hexdigest()

    async def opened() -> Store:
        return ConsulStore(Consul(Target(url=url)), f"tests/{prefix}", now=clock)

    return opened


OPENERS = {"sqlite": _sqlite, "consul": _consul}
PARAMS = ["sqlite", pytest.param("consul", marks=pytest.mark.consul)]


@pytest.fixture(scope="module")
def consul_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Children(tmp_path_factory.mktemp("consul")) as children:
        yield start_agent(children, required_consul()).url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=PARAMS)
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Opener:
    return OPENERS[request.param](request, tmp_path, clock)


@pytest.fixture
async def store(reopen: Opener) -> AsyncIterator[Store]:
    opened = await reopen()
    yield opened
    await opened.close()


def service(name: str = "reviews", port: int = 80, **metadata: Any) -> Service:
    return Service(
        api_version="fairlead.dev/v1alpha1",
        kind="Service",
        metadata=ObjectMeta(name=name, namespace="default", **metadata),
        spec=ServiceSpec(
            ports=(ServicePort(name="http", port=port),), endpoints=(ServiceEndpoint(address="127.0.0.1"),)
        ),
    )


KEY = ObjectKey("Service", "default", "reviews")


def at_rest(stored: Stored) -> Stored:
    """What a `put` answered, as it is read back."""
    return replace(stored, created=False)


async def test_what_was_put_is_read_back_with_its_revision(store: Store) -> None:
    stored = await store.put(service(), by="ann")
    assert stored.object.metadata.resource_version == str(stored.revision)
    assert stored.created
    assert await store.get(KEY) == at_rest(stored)
    snapshot = await store.list()
    assert snapshot.objects == (at_rest(stored),)
    assert snapshot.revision == stored.revision


async def test_an_object_nobody_wrote_is_none(store: Store) -> None:
    assert await store.get(KEY) is None
    assert await store.past(KEY, 1) is None
    assert await store.history(KEY) == ()
    assert (await store.list()).objects == ()


async def test_the_first_put_stamps_creation_and_later_ones_keep_it(store: Store, clock: Clock) -> None:
    first = (await store.put(service())).object.metadata
    clock.now += timedelta(days=1)
    second = (await store.put(service(port=81, uid="mine", creation_timestamp="1999-01-01T00:00:00Z"))).object.metadata
    assert first.creation_timestamp == second.creation_timestamp == "2026-11-23T06:00:00Z"
    assert first.uid == second.uid != ""


async def test_an_object_made_again_is_young_again(store: Store, clock: Clock) -> None:
    first = (await store.put(service())).object.metadata
    await store.delete(KEY)
    clock.now += timedelta(days=1)
    again = (await store.put(service())).object.metadata
    assert (again.creation_timestamp, again.generation) == ("2026-11-24T06:00:00Z", 1)
    assert again.uid != first.uid


async def test_generation_counts_changes_of_spec_and_not_of_labels(store: Store) -> None:
    assert (await store.put(service())).object.metadata.generation == 1
    assert (await store.put(service(labels={"a": "b"}))).object.metadata.generation == 1
    assert (await store.put(service(port=81, labels={"a": "b"}))).object.metadata.generation == 2


async def test_equal_content_is_not_written_again(store: Store, clock: Clock) -> None:
    first = await store.put(service())
    clock.now += timedelta(days=1)
    assert await store.put(service()) == at_rest(first)
    assert await store.put(first.object) == at_rest(first)
    assert len(await store.history(KEY)) == 1


async def test_a_put_over_another_revision_than_expected_is_a_conflict_and_writes_nothing(store: Store) -> None:
    first = await store.put(service())
    second = await store.put(service(port=81), expected=first.revision)
    with pytest.raises(Conflict) as conflict:
        await store.put(service(port=82), expected=first.revision)
    assert (conflict.value.expected, conflict.value.actual) == (first.revision, second.revision)
    assert await store.get(KEY) == second


async def test_expecting_nothing_refuses_what_exists(store: Store) -> None:
    first = await store.put(service(), expected=0)
    with pytest.raises(Conflict, match="exists already"):
        await store.put(service(port=81), expected=0)
    with pytest.raises(Conflict, match="does not exist"):
        await store.put(service("ratings"), expected=first.revision)


async def test_a_deleted_object_is_gone_and_its_history_stays(store: Store) -> None:
    first = await store.put(service(), by="ann")
    removed = await store.delete(KEY, by="bob")
    assert removed > first.revision
    assert await store.get(KEY) is None
    assert [(past.revision, past.object is None, past.by) for past in await store.history(KEY)] == [
        (removed, True, "bob"),
        (first.revision, False, "ann"),
    ]


async def test_deleting_what_is_not_there_is_not_found_and_a_wrong_revision_a_conflict(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.delete(KEY)
    first = await store.put(service())
    with pytest.raises(Conflict):
        await store.delete(KEY, expected=first.revision + 7)
    assert await store.get(KEY) == at_rest(first)


async def test_history_says_who_and_when_and_gives_back_every_revision(store: Store, clock: Clock) -> None:
    first = await store.put(service(), by="ann")
    clock.now += timedelta(hours=1)
    second = await store.put(service(port=81), by="bob")
    history = await store.history(KEY)
    assert [(past.by, past.at) for past in history] == [
        ("bob", "2026-11-23T07:00:00Z"),
        ("ann", "2026-11-23T06:00:00Z"),
    ]
    assert await store.past(KEY, first.revision) == history[1]
    assert history[1].object == first.object
    assert [past.revision for past in await store.history(KEY, limit=1)] == [second.revision]
    assert await store.past(ObjectKey("Service", "default", "other"), first.revision) is None


async def test_of_many_writers_that_expect_one_revision_one_wins(store: Store) -> None:
    first = await store.put(service())
    outcomes = await asyncio.gather(
        *(store.put(service(port=1000 + n), expected=first.revision) for n in range(20)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome is not won[0])
    assert await store.get(KEY) == won[0]


async def test_a_caller_that_goes_away_does_not_undo_its_write(store: Store) -> None:
    waiting = asyncio.get_running_loop().create_task(store.put(service()))
    await asyncio.sleep(0)  # let it hand its write over
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.put(service("ratings"))  # later in the same order
    assert await store.get(KEY) is not None


async def _next(watch: AsyncIterator[tuple[Event, ...]]) -> tuple[Event, ...]:
    return await asyncio.wait_for(anext(watch), 10)


async def test_a_watch_tells_what_changed_since_and_then_what_changes(store: Store) -> None:
    first = await store.put(service())
    second = await store.put(service("ratings"))
    watch = store.watch(first.revision)
    assert await _next(watch) == (Event(ObjectKey("Service", "default", "ratings"), second.revision, second.object),)
    removed = await store.delete(KEY)
    assert await _next(watch) == (Event(KEY, removed, None),)
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_slow_watcher_gets_each_key_once_in_its_latest_state(store: Store) -> None:
    for port in range(100, 150):
        await store.put(service(port=port))
    last = await store.put(service(port=200))
    watch = store.watch(0)
    assert await _next(watch) == (Event(KEY, last.revision, last.object),)
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_watch_resumes_over_a_restart_and_hears_of_deletions(
    reopen: Opener,
) -> None:
    store = await reopen()
    seen = await store.put(service())
    removed = await store.delete(KEY)
    await store.close()
    store = await reopen()
    watch = store.watch(seen.revision)
    assert await _next(watch) == (Event(KEY, removed, None),)
    await watch.aclose()  # type: ignore[attr-defined]
    await store.close()


async def test_everything_answered_is_there_after_a_restart(reopen: Opener) -> None:
    store = await reopen()
    stored = await asyncio.gather(*(store.put(service(f"s{n:03}")) for n in range(50)))
    await store.write_documents("rejections", {"a": b"1"})
    await store.close()
    store = await reopen()
    snapshot = await store.list()
    assert snapshot.objects == tuple(at_rest(one) for one in sorted(stored, key=lambda one: one.object.metadata.name))
    assert snapshot.revision == max(one.revision for one in stored)
    assert await store.documents("rejections") == {"a": b"1"}
    later = await store.put(service("later"))
    assert later.revision > snapshot.revision
    await store.close()


async def test_documents_are_written_together_and_removed_by_none(store: Store) -> None:
    await store.write_documents("rejections", {"a": b"1", "b": b"2"})
    await store.write_documents("copies", {"a": b"3"})
    await store.write_documents("rejections", {"a": None, "b": b"4", "c": b"5"})
    assert await store.documents("rejections") == {"b": b"4", "c": b"5"}
    assert await store.documents("copies") == {"a": b"3"}


async def test_a_closed_store_says_so_and_ends_its_watches(reopen: Opener) -> None:
    store = await reopen()
    watch = store.watch(0)
    waiting = asyncio.get_running_loop().create_task(_next(watch))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises((StopAsyncIteration, StoreUnavailable)):
        await waiting
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.put(service())
    await store.close()


async def test_kinds_and_namespaces_of_one_name_are_different_objects(store: Store) -> None:
    here = at_rest(await store.put(service()))
    elsewhere = service()
    there = at_rest(await store.put(replace(elsewhere, metadata=replace(elsewhere.metadata, namespace="other"))))
    assert (await store.get(KEY)) == here
    assert {one.revision for one in (await store.list()).objects} == {here.revision, there.revision}
    assert await store.list_of("Service", None) == (here, there)
    assert await store.list_of("Service", "other") == (there,)
    assert await store.list_of("Gateway", None) == ()
