"""The store that replicas share, from settings to work: Consul's KV, what is kept of it locally, and the leader.

Objects and their history are shared. What a replica has seen for itself stays in its own SQLite file: what its proxies
refused, which were connected, who registered with it, the last rows of each source, this store's among them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from discovery.board import Board
from discovery.stores.store import Store
from fairlead.consul.source import check_tls
from fairlead.errors import UsageError
from fairlead.settings import Settings
from fairlead.stores.documents import DocumentWriter
from fairlead.stores.store_place import consul_place, in_consul
from fairlead.tasks import Tasks

COLLECTION = "shared-store"
"""Of the local store's documents: the identity of each shared store that was known, by where it is."""


class SharedStore:
    """`store` is what replicas share. `open` first; `start` once the first build is there."""

    def __init__(self, settings: Settings, local: Store) -> None:
        """Raises UsageError for settings that cannot be, and where the client of Consul is not installed."""
        if find_spec("aiohttp") is None:
            raise UsageError("--store: the client of Consul is not installed. Fix: pip install 'fairlead[consul]'")
        target, prefix = consul_place(settings)
        check_tls(target, "--store-ca, --store-cert, --store-key")
        from discovery.consul.http import Consul
        from discovery.consul.leader import Leader
        from discovery.stores.consul import ConsulStore
        from discovery.stores.consul_sweep import Sweeper

        places = "&".join(filter(None, (target.datacenter, target.namespace, target.partition)))
        self.place = f"{prefix}?{places}" if places else prefix
        self._local = local
        self._known = DocumentWriter(local, COLLECTION)
        self.store = ConsulStore(Consul(target), prefix)
        self._sweeper = Sweeper(self.store)
        self._leader = Leader(
            self.store.kv.consul,
            self.store.layout.leader,
            identity=f"{socket.gethostname()}:{os.getpid()}",
            changed=self._sweeper.lead,
            denied=self.store.cannot_lead,
        )

    async def open(self, on_problems: Callable[[], None]) -> None:
        """Remember which store it was; Consul is not asked yet. Raises StoreUnavailable where the local store does."""
        known = await self._local.documents(COLLECTION)
        self.store.identity = known.get(self.place, b"").decode("ascii", "replace")
        self.store.on_identity = lambda identity: self._known.save({self.place: identity.encode()})
        self.store.on_problems = on_problems

    def board(self, collection: str) -> Board:
        """The documents of a collection as a board of all replicas."""
        from discovery.stores.consul_board import ConsulBoard

        return ConsulBoard(self.store, collection)

    @property
    def leading(self) -> bool:
        """Whether this replica leads, at this moment."""
        return self._leader.leading

    @property
    def holder(self) -> str:
        """Who leads, as far as known."""
        return self._leader.holder

    @property
    def term(self) -> int:
        """A number that is higher for who leads later."""
        return self._leader.term

    async def write_as_leader(self, collection: str, changes: Mapping[str, bytes | None]) -> None:
        """Write documents if this replica still leads when Consul takes them. Raises StoreNotLed, as the store does."""
        await self.store.write_documents_as_leader(collection, changes, lambda: self._leader.session)

    def numbers(self) -> Mapping[str, int]:
        """For the metrics page."""
        return {"leading": int(self._leader.leading)}

    def start(self, tasks: Tasks) -> None:
        """Begin what is done once the first build is there."""
        tasks.start("known store", self._known.run())
        tasks.start("leader", self._leader.run())
        tasks.start("old history", self._sweeper.run())

    async def close(self) -> None:
        """Let go of Consul."""
        await self._known.flush()
        await self.store.close()


def shared_store(settings: Settings, local: Store) -> SharedStore | None:
    """The store that replicas share; None where each has its own."""
    return SharedStore(settings, local) if in_consul(settings.store) else None
