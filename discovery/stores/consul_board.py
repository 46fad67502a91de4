"""Documents of one collection of the store in Consul's KV, watched: what one replica writes, the others hear at once.

A blocking query waits for a name or a version to change, with a short answer; then all documents are read. So a
collection that rests costs a question in `WAIT_SECONDS`, however many replicas watch it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from discovery.board import BoardAwayError
from discovery.consul.watch_state import NO_INDEX_PAUSE
from discovery.stores.consul import WAIT_SECONDS, ConsulStore
from discovery.stores.store import StoreUnavailable, TooLarge


class ConsulBoard:
    """A `Board`: the documents of a collection."""

    def __init__(self, store: ConsulStore, collection: str) -> None:
        self._store = store
        self._collection = collection

    async def write(self, changes: Mapping[str, bytes | None]) -> None:
        """See `Board.write`."""
        try:
            await self._store.write_documents(self._collection, changes)
        except (StoreUnavailable, TooLarge) as error:
            raise BoardAwayError(str(error)) from error

    async def watch(self) -> AsyncIterator[Mapping[str, bytes]]:
        """See `Board.watch`."""
        prefix, index = self._store.layout.documents(self._collection), 0
        told: Mapping[str, bytes] | None = None
        while True:
            try:
                found = await self._store.kv.stirred(prefix, index=index, wait=WAIT_SECONDS)
                rows = await self._store.documents(self._collection)
            except StoreUnavailable as error:
                raise BoardAwayError(str(error)) from error
            if rows != told:
                told = rows
                yield rows
            if found <= 0 or found < index:
                # Nothing is there, and Consul does not wait for the first (or an older state was restored).
                index = 0
                await asyncio.sleep(NO_INDEX_PAUSE)
            else:
                index = found
