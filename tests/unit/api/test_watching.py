from __future__ import annotations

from contextlib import aclosing

import pytest

from api.bodies import Limits
from api.feed import Feed
from api.objects import Objects
from api.ports import Item
from api.shared_renderings import SharedRenderings
from api.watching import Watch
from mesh.model import ObjectKey
from tests.unit.api.fakes import Event, Fixture, MemoryConfig, MemoryWorld, fixture, made, service

SERVICES = "/api/v1/namespaces/default/services"
KEY = ObjectKey("Service", "default", "reviews")


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.name, event.data.get("metadata", {}).get("name", "")) for event in events]


async def put(api: Fixture, name: str, **metadata: object) -> None:
    assert (await api.client.put(f"{SERVICES}/{name}", service(name, **metadata))).status in {200, 201}


async def test_a_watch_begins_with_what_is_there_and_goes_on_with_what_changes(api: Fixture) -> None:
    await put(api, "reviews")
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        assert told(await events.until("SYNCED")) == [("ADDED", "reviews"), ("SYNCED", "")]
        await put(api, "ratings")
        assert told(await events.until("SYNCED")) == [("ADDED", "ratings"), ("SYNCED", "")]
        await put(api, "ratings", labels={"a": "b"})
        assert told(await events.until("SYNCED")) == [("MODIFIED", "ratings"), ("SYNCED", "")]
        await api.client.delete(f"{SERVICES}/reviews")
        assert told(await events.until("SYNCED")) == [("DELETED", "reviews"), ("SYNCED", "")]


async def test_a_new_status_is_a_change(api: Fixture) -> None:
    await put(api, "reviews")
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        await events.until("SYNCED")
        api.world.statuses[KEY] = {"conditions": [{"type": "Accepted"}]}
        api.feed.publish([KEY])
        changed = await events.until("SYNCED")
        assert changed[0].data["status"] == {"conditions": [{"type": "Accepted"}]}


async def test_other_kinds_namespaces_and_labels_are_not_told_of(api: Fixture) -> None:
    await put(api, "reviews", labels={"app": "web"})
    await put(api, "ratings", labels={"app": "db"})
    async with api.client.stream(f"{SERVICES}?watch=true&labelSelector=app%3Dweb") as events:
        assert told(await events.until("SYNCED")) == [("ADDED", "reviews"), ("SYNCED", "")]
        api.feed.publish([ObjectKey("HTTPRoute", "default", "reviews"), ObjectKey("Service", "other", "reviews")])
        await put(api, "ratings", labels={"app": "web"})
        assert told([await events.change()]) == [("ADDED", "ratings")]
        await put(api, "reviews", labels={"app": "db"})
        assert told([await events.change()]) == [("DELETED", "reviews")]


async def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_else(api: Fixture) -> None:
    await put(api, "reviews")
    await put(api, "ratings")
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        place = (await events.until("SYNCED"))[-1].id
        assert place is not None
    await put(api, "ratings", labels={"a": "b"})
    await api.client.delete(f"{SERVICES}/reviews")
    async with api.client.stream(f"{SERVICES}?watch=true", last_event_id=place) as events:
        assert told(await events.until("SYNCED")) == [("MODIFIED", "ratings"), ("DELETED", "reviews"), ("SYNCED", "")]


async def test_a_client_that_missed_nothing_hears_only_that(api: Fixture) -> None:
    await put(api, "reviews")
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        place = (await events.until("SYNCED"))[-1].id or ""
    async with api.client.stream(f"{SERVICES}?watch=true", last_event_id=place) as events:
        assert told(await events.until("SYNCED")) == [("SYNCED", "")]


@pytest.mark.parametrize("place", ["other-1", "e1-999", "e1-x", "garbage", "e1-" + "9" * 100])
async def test_a_place_that_means_nothing_here_starts_over(api: Fixture, place: str) -> None:
    await put(api, "reviews")
    async with api.client.stream(f"{SERVICES}?watch=true", last_event_id=place) as events:
        assert told(await events.until("SYNCED")) == [("RESYNC", ""), ("ADDED", "reviews"), ("SYNCED", "")]


async def test_a_place_that_fell_out_of_the_ring_starts_over() -> None:
    api = fixture(ring=3)
    await put(api, "reviews")
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        place = (await events.until("SYNCED"))[-1].id or ""
    for n in range(5):
        await put(api, f"s{n}")
    async with api.client.stream(f"{SERVICES}?watch=true", last_event_id=place) as events:
        assert (await events.next()).name == "RESYNC"
        assert len(await events.until("SYNCED")) == 7


async def test_a_slow_watcher_gets_the_latest_state_once() -> None:
    feed = Feed("e1")
    feed.publish([KEY] * 50 + [ObjectKey("Service", "default", "b"), KEY])
    assert feed.since(0, "Service") == (ObjectKey("Service", "default", "b"), KEY)
    assert feed.since(feed.place, "Service") == ()


async def test_a_file_behind_a_deleted_object_comes_forward(api: Fixture) -> None:
    api.config.elsewhere = [Item(made(service(port=99)), "files", 0, "a.yaml:1")]
    await put(api, "reviews")
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        await events.until("SYNCED")
        await api.client.delete(f"{SERVICES}/reviews")
        event = await events.next()
        assert (event.name, event.data["origin"]["source"]) == ("MODIFIED", "files")


async def test_closing_the_feed_ends_every_watch(api: Fixture) -> None:
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        await events.until("SYNCED")
        api.feed.close()
        await events.task
    assert api.feed.watchers == 0


async def test_a_client_that_goes_leaves_nothing_behind_and_too_many_are_refused() -> None:
    api = fixture(limits=Limits(watches=1))
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        await events.until("SYNCED")
        refused = await api.client.get(f"{SERVICES}?watch=true")
        assert (refused.status, refused.json["code"]) == (503, "TooManyWatches")
    assert api.feed.watchers == 0
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        await events.until("SYNCED")


async def test_changes_of_other_kinds_wake_nobody_and_move_the_place_when_it_is_quiet() -> None:
    feed = Feed("e1")
    config = MemoryConfig(feed)
    shared = SharedRenderings(objects=Objects(config), world=MemoryWorld(), feed=feed)
    watch = Watch(renderings=shared, feed=feed, kind="Service", namespace=None, labels=(), keepalive=0.01)
    async with aclosing(watch.pieces()) as pieces:
        assert await anext(pieces) == b"id: e1-0\nevent: SYNCED\ndata: {}\n\n"
        assert await anext(pieces) == b": still here\n\n"
        feed.publish([ObjectKey("HTTPRoute", "default", "reviews")])
        while (piece := await anext(pieces)) == b": still here\n\n":
            pass
        assert piece == b"id: e1-1\nevent: SYNCED\ndata: {}\n\n"
        assert await anext(pieces) == b": still here\n\n"


async def test_an_object_that_comes_goes_and_comes_again_is_told_as_that(api: Fixture) -> None:
    await put(api, "reviews")
    async with api.client.stream(f"{SERVICES}?watch=true") as events:
        await events.until("SYNCED")
        for _ in range(2):
            await api.client.delete(f"{SERVICES}/reviews")
            assert told([await events.change()]) == [("DELETED", "reviews")]
            await put(api, "reviews")
            assert told([await events.change()]) == [("ADDED", "reviews")]
        await put(api, "reviews", labels={"a": "b"})
        assert told([await events.change()]) == [("MODIFIED", "reviews")]


async def test_two_watches_of_one_kind_hold_what_each_selects(api: Fixture) -> None:
    await put(api, "reviews", labels={"app": "web"})
    async with (
        api.client.stream(f"{SERVICES}?watch=true") as all_of_them,
        api.client.stream(f"{SERVICES}?watch=true&labelSelector=app%3Dweb") as web,
    ):
        await all_of_them.until("SYNCED")
        await web.until("SYNCED")
        await put(api, "reviews", labels={"app": "db"})
        assert told([await all_of_them.change()]) == [("MODIFIED", "reviews")]
        assert told([await web.change()]) == [("DELETED", "reviews")]
        await put(api, "reviews", labels={"app": "web"})
        assert told([await all_of_them.change()]) == [("MODIFIED", "reviews")]
        assert told([await web.change()]) == [("ADDED", "reviews")]
