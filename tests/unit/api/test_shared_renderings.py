"""What watchers share: that it is made once, is never old, and stays small."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import json

from api.feed import Feed
from api.objects import Objects
from api.ports import Unavailable
from api.shared_renderings import OVERHEAD_BYTES, SharedRenderings
from mesh.model import ObjectKey
from tests.unit.api.fakes import MemoryConfig, MemoryWorld, made, service

KEY = ObjectKey("Service", "default", "reviews")


class Scene:
    def __init__(self, *, most_bytes: int = 1_000_000, ring: int = 100) -> None:
        self.feed = Feed("e1", ring=ring)
        self.config, self.world = MemoryConfig(self.feed), MemoryWorld()
        self.shared = SharedRenderings(
            objects=Objects(self.config), world=self.world, feed=self.feed, most_bytes=most_bytes
        )

    async def put(self, name: str = "reviews", port: int = 80) -> None:
        await self.config.put(made(service(name, port)), expected=None, by="")

    async def port(self) -> int:
        found: int = json.decode((await self.shared.of(KEY)).body)["spec"]["ports"][0]["port"]
        return found


async def test_a_change_is_read_and_rendered_once_however_many_ask() -> None:
    scene = Scene()
    await scene.put()
    found = await asyncio.gather(*(scene.shared.of(KEY) for _ in range(100)))
    assert scene.config.reads == 1
    assert all(one.body is found[0].body for one in found)
    await scene.put(port=81)
    assert {await scene.port() for _ in range(3)} == {81}
    assert scene.config.reads == 2


async def test_a_new_status_is_rendered_anew() -> None:
    scene = Scene()
    await scene.put()
    await scene.shared.of(KEY)
    scene.world.statuses[KEY] = {"conditions": []}
    scene.feed.publish([KEY])
    assert json.decode((await scene.shared.of(KEY)).body)["status"] == {"conditions": []}


async def test_a_change_while_it_is_read_is_not_missed_by_the_next_who_asks() -> None:
    scene = Scene()
    await scene.put()
    reading = asyncio.get_running_loop().create_task(scene.shared.of(KEY))
    while not scene.config.reads:  # noqa: ASYNC110 - the store's answer is under way
        await asyncio.sleep(0)
    await scene.put(port=81)
    await reading
    assert await scene.port() == 81


async def test_what_the_feed_forgot_is_not_taken_for_unchanged() -> None:
    scene = Scene(ring=2)
    await scene.put()
    assert await scene.port() == 80
    await scene.put(port=81)
    for name in ("a", "b", "c"):
        await scene.put(name)
    assert await scene.port() == 81


async def test_what_is_gone_has_no_bytes() -> None:
    scene = Scene()
    await scene.put()
    await scene.shared.of(KEY)
    await scene.config.delete(KEY, expected=None, by="")
    assert (await scene.shared.of(KEY)).body == b""


async def test_what_is_kept_is_bounded_and_the_rest_is_made_again() -> None:
    scene = Scene(most_bytes=10_000)
    for number in range(100):
        await scene.put(f"s{number}")
    listing = await scene.shared.listing("Service", None)
    for key in listing.keys:
        assert (await scene.shared.of(key)).body
    for number in range(100):
        await scene.shared.of(ObjectKey("Service", "default", f"nobody{number}"))
    assert OVERHEAD_BYTES < scene.shared.bytes <= 10_000


async def test_a_listing_is_shared_until_it_is_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.shared_renderings.CHANGES_BEHIND", 2)
    scene = Scene()
    await scene.put("a")
    first, again = await asyncio.gather(*(scene.shared.listing("Service", None) for _ in range(2)))
    assert first is again
    await scene.put("b")
    assert await scene.shared.listing("Service", None) is first, "the feed tells the rest"
    for name in ("c", "d"):
        await scene.put(name)
    newest = await scene.shared.listing("Service", None)
    assert [key.name for key in newest.keys] == ["a", "b", "c", "d"]
    assert newest.place == scene.feed.place


async def test_a_store_that_is_away_is_nobody_elses_answer_later() -> None:
    scene = Scene()
    await scene.put()
    scene.config.failure = Unavailable("The store is locked")
    with pytest.raises(Unavailable):
        await scene.shared.of(KEY)
    scene.config.failure = None
    assert await scene.port() == 80
