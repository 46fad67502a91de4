"""What the leader removes from the store in Consul's KV, which its servers hold in memory: old history.

Of each object the newest revisions stay. Of one that is deleted, that it was (watchers that were away hear of it so)
and its history stay for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from discovery.stores import consul_values as values
from discovery.stores.consul import ConsulStore
from discovery.stores.consul_journal import forgotten
from discovery.stores.consul_values import Layout, Operation, Pair
from discovery.stores.stamps import timestamp
from discovery.stores.store import StoreUnavailable

SWEEP_SECONDS = 300.0
KEEP_DELETED = timedelta(days=30)
KEEP_WRITERS = timedelta(days=1)

_log = logging.getLogger(__name__)


def too_old(layout: Layout, names: Iterable[str], limit: int) -> tuple[Operation, ...]:
    """What to remove so that of each object the newest `limit` past revisions are left. `names`: keys of history."""
    of_object: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name.startswith(layout.history):
            of_object[name.rpartition("/")[0]].append(name)
    return tuple(
        Operation("delete", name) for found in of_object.values() for name in sorted(found, reverse=True)[limit:]
    )


def long_gone(layout: Layout, pairs: Iterable[Pair], names: Sequence[str], now: datetime) -> tuple[Operation, ...]:
    """What to remove of objects that were deleted long ago. `pairs`: those of objects, `names`: keys of history."""
    before = timestamp(now - KEEP_DELETED)
    found: list[Operation] = []
    for pair in pairs:
        key = layout.key_of(pair.key)
        try:
            said = values.kept(pair)
        except values.UnreadableError:
            continue
        if key is not None and said.gone and said.at < before:
            begin = layout.past(key)
            found += [Operation("delete", name) for name in names if name.startswith(begin)]
            found.append(Operation("delete-cas", pair.key, index=pair.modify_index))
    return tuple(found)


async def sweep(store: ConsulStore, now: datetime) -> int:
    """Remove what is too old; how many keys that were. Raises StoreUnavailable."""
    names = await store.kv.names(store.layout.history)
    found = long_gone(store.layout, await store.kv.pairs(store.layout.objects), names, now)
    gone = {operation.key for operation in found}
    old = too_old(store.layout, [name for name in names if name not in gone], store.history_limit)
    writers = forgotten(await store.kv.pairs(store.layout.journal), timestamp(now - KEEP_WRITERS))
    return await store.remove([*found, *old, *writers])


class Sweeper:
    """Sweeps from time to time while `lead(True)` was said last."""

    def __init__(self, store: ConsulStore) -> None:
        self._store = store
        self._leads = asyncio.Event()

    def lead(self, leading: bool) -> None:
        """Whether this replica leads."""
        if leading:
            self._leads.set()
        else:
            self._leads.clear()

    async def run(self) -> None:
        """Sweep, without end."""
        while True:
            await self._leads.wait()
            try:
                if count := await sweep(self._store, self._store.now()):
                    _log.info("removed %d old revisions from %s", count, self._store.where)
            except StoreUnavailable as error:
                _log.warning("cannot remove old revisions: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)
