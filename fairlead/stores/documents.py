"""Writes the small runtime documents of a collection to the store, in the background and in order.

What is waiting is kept by name, so that a store that is away for a while costs no memory, and is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from discovery.stores.store import Store, StoreUnavailable

_RETRY_SECONDS = 1.0
_log = logging.getLogger(__name__)


class DocumentWriter:
    """One collection's writer."""

    def __init__(self, store: Store, collection: str) -> None:
        self._store = store
        self.collection = collection
        self._waiting: dict[str, bytes | None] = {}
        self._bell = asyncio.Event()

    def save(self, changes: Mapping[str, bytes | None]) -> None:
        """Write soon; None removes a document."""
        self._waiting.update(changes)
        self._bell.set()

    async def run(self) -> None:
        """Write what comes, without end."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            if not await self.flush():
                await asyncio.sleep(_RETRY_SECONDS)
                self._bell.set()

    async def flush(self) -> bool:
        """Write what waits; False if the store is away, and it still waits."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return True
        try:
            await self._store.write_documents(self.collection, waiting)
        except StoreUnavailable as error:
            _log.warning("cannot save %s: %s", self.collection, error)
            self._waiting = waiting | self._waiting
            return False
        except asyncio.CancelledError:
            # Nobody knows whether it was written: the last flush writes it again.
            self._waiting = waiting | self._waiting
            raise
        return True
