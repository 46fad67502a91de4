"""What all watchers share: each change of an object is read and rendered once, and sent to all as the same bytes.

Owns the memory for it, which is bounded: what is not kept is rendered again when somebody asks. To be used on the event
loop only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from api.feed import Feed
from api.objects import Objects, key_of
from api.ports import Item, World
from api.rendering import encoded, shown_object
from mesh.model import ObjectKey

MOST_BYTES = 16 * 1024 * 1024
OVERHEAD_BYTES = 500  # of a rendering beside its body
MOST_LISTINGS = 16
CHANGES_BEHIND = 1000  # a listing that misses more than this is made anew
AT_ONCE = 100  # objects rendered before other work on the loop gets its turn


class Rendering(msgspec.Struct, frozen=True):
    """An object as JSON, no bytes where it is gone; at `place` of the feed it was so, or newer."""

    place: int
    body: bytes
    labels: Mapping[str, str] = {}


class Listing(msgspec.Struct, frozen=True):
    """The keys of a kind, sorted, as they were at a place of the feed; values mean nothing."""

    place: int
    keys: Mapping[ObjectKey, None]


class SharedRenderings:
    """The latest rendering of objects that somebody watches, and the latest listings."""

    def __init__(self, *, objects: Objects, world: World, feed: Feed, most_bytes: int = MOST_BYTES) -> None:
        self._objects, self._world, self._feed = objects, world, feed
        self._most_bytes = most_bytes
        self._kept: OrderedDict[ObjectKey, Rendering] = OrderedDict()
        self._listings: OrderedDict[tuple[str, str | None], Listing] = OrderedDict()
        # one reads at a time: the store has one reader anyway, and whoever waited finds it kept
        self._reading = asyncio.Lock()
        self.bytes = 0

    async def of(self, key: ObjectKey) -> Rendering:
        """An object as it is now. Raises what `Config.get` raises."""
        found = self._fresh(key)
        if found is None:
            async with self._reading:
                found = self._fresh(key)
                if found is None:
                    place = self._feed.place
                    item = await self._objects.find(key)
                    found = self._keep(key, Rendering(place, b"") if item is None else self._rendered(item, place))
        return found

    async def listing(self, kind: str, namespace: str | None) -> Listing:
        """What there is of a kind, as it was lately: what changed since is to be asked of the feed."""
        async with self._reading:
            found = self._listings.get((kind, namespace))
            behind = None if found is None else self._feed.since(found.place, kind)
            if found is None or behind is None or len(behind) > CHANGES_BEHIND:
                place = self._feed.place
                keys: dict[ObjectKey, None] = {}
                for number, item in enumerate(await self._objects.list(kind, namespace), 1):
                    key = key_of(item)
                    keys[key] = None
                    if self._fresh(key) is None:
                        self._keep(key, self._rendered(item, place))
                    if number % AT_ONCE == 0:
                        await asyncio.sleep(0)
                found = self._listings[kind, namespace] = Listing(place, keys)
                while len(self._listings) > MOST_LISTINGS:
                    self._listings.popitem(last=False)
            self._listings.move_to_end((kind, namespace))
            return found

    def _rendered(self, item: Item, place: int) -> Rendering:
        body = encoded(shown_object(item, self._world.status(key_of(item))))
        return Rendering(place, body, item.object.metadata.labels)

    def _fresh(self, key: ObjectKey) -> Rendering | None:
        found = self._kept.get(key)
        if found is None or not self._feed.unchanged(key, since=found.place):
            return None
        self._kept.move_to_end(key)
        return found

    def _keep(self, key: ObjectKey, made: Rendering) -> Rendering:
        before = self._kept.pop(key, None)
        self._kept[key] = made
        self.bytes += _cost(made) - (_cost(before) if before is not None else 0)
        while self.bytes > self._most_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.bytes -= _cost(dropped)
        return made


def _cost(rendering: Rendering) -> int:
    return len(rendering.body) + OVERHEAD_BYTES
