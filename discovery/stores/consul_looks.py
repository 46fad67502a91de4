"""How one watcher of the store looks at Consul's KV: what a change costs depends on the change, not on all there is.

It waits for the objects' prefix to stir, a question with a short answer, and reads what the writers' pages
(`consul_journal.py`) name. All objects are read at the start, after every failure, where the pages do not account for
what stirred, and once more some time after a change: a person's write may have been hidden behind one of ours. Consul
tells no more of a prefix than its newest index, so reading all is the only way to see that; how soon it is done is in
proportion to how much that is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from discovery.consul.watch_state import WatchState
from discovery.stores.consul_feed import Feed
from discovery.stores.consul_journal import Reading
from discovery.stores.consul_kv import Kv
from discovery.stores.consul_values import Layout, Pair
from discovery.stores.store import Event

VERIFY_SECONDS = 15.0
"""So long after a change all is read at the latest."""
VERIFY_BYTES_PER_SECOND = 250_000
"""How much may be read for that while changes do not end: 100 kB are read every half second, 4 MB every 15."""
_VERIFY_SOONEST = 0.5
MOST_READ = 250
"""Objects read one by one; more are not worth it."""
_DECODE_IN_THREAD = 128 * 1024  # bytes of values that are too many to decode between two requests


class Looks:
    """One watcher's looks.

    `known` sees that the store is the one we know, and says at which index its marker is; `believe` is shown the
    marker whenever all was read. Both raise StoreUnavailable.
    """

    def __init__(
        self,
        kv: Kv,
        layout: Layout,
        *,
        after: int,
        known: Callable[[], Awaitable[int]],
        believe: Callable[[Pair | None], object],
    ) -> None:
        self._kv = kv
        self._layout = layout
        self._known = known
        self._believe = believe
        self._feed = Feed(layout, after=after)
        self._journal = Reading()
        self._verify_at = math.inf
        self._verify_after = VERIFY_SECONDS

    def patience(self, now: float) -> float:
        """How long a look may wait for news."""
        return max(0.0, self._verify_at - now)

    async def look(self, state: WatchState, index: int, wait: float) -> tuple[Event, ...] | None:
        """What is new, waiting for it when given an index; None where nothing stirred. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        marker = await self._known()
        if index and self._verify_at > loop.time():
            stirred = await self._kv.stirred(self._layout.objects, index=index, wait=wait)
            if stirred == index:
                state.answered(stirred, loop.time())
                return None
            if stirred > index:
                found = await self._named(marker, stirred)
                if found is not None:
                    state.answered(stirred, loop.time())
                    self._verify_at = min(self._verify_at, loop.time() + self._verify_after)
                    return await self._events(found, whole=False)
        return await self._whole(state)

    async def _named(self, marker: int, stirred: int) -> tuple[Pair, ...] | None:
        """The objects that the pages name; None where these do not account for what stirred."""
        pages = await self._kv.pairs(self._layout.journal)
        names = self._journal.missed(pages)
        if names is None or len(names) > MOST_READ or max(page.modify_index for page in pages) < stirred:
            return None
        return await self._kv.read(names, marker=self._layout.marker, index=marker)

    async def _whole(self, state: WatchState) -> tuple[Event, ...]:
        pages = await self._kv.pairs(self._layout.journal)
        index, found = await self._kv.whole(self._layout.objects)
        self._believe(next((pair for pair in found if pair.key == self._layout.marker), None))
        self._journal.whole(pages)
        size = sum(len(pair.key) + len(pair.value or b"") for pair in found)
        self._verify_at = math.inf
        self._verify_after = min(VERIFY_SECONDS, max(_VERIFY_SOONEST, size / VERIFY_BYTES_PER_SECOND))
        state.answered(index, asyncio.get_running_loop().time())
        return await self._events(found, whole=True)

    async def _events(self, found: tuple[Pair, ...], *, whole: bool) -> tuple[Event, ...]:
        if sum(len(pair.value or b"") for pair in found) > _DECODE_IN_THREAD:
            return await asyncio.to_thread(self._feed.events, found, whole=whole)
        return self._feed.events(found, whole=whole)
