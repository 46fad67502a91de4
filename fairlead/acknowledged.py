"""What the proxies of each Gateway have acknowledged of its listeners, as rows that its status is derived from.

A row is written when every connected proxy that has taken listeners at all has taken the present ones; it names the
generations of the objects that these were made from. Until the next such moment it stands: while a change is on its
way the status says of which generation it holds. A change that leaves the generations as they are (a certificate, an
endpoint, a TLSRoute's filter chain) is no news. Rows go with the last proxy, when its audience has lingered.

Rows are kept in the store, so that a restart does not make every Gateway pending until its proxies are back. Each
replica watches its own proxies; the one that leads tells of those that are connected to it (`mesh.gateway_statuses`
says what counts where there are none).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from discovery.stores.store import Store
from fairlead.stores.documents import DocumentWriter
from fairlead.tasks import Tasks
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds.gateway import Gateway
from mesh.kinds.listenerset import ListenerSet
from mesh.model import ACKNOWLEDGED, AUDIENCES, WATCHED, Acknowledged, AcknowledgedKey, Audience, ObjectKey
from mesh.objects import OBJECTS
from mesh.tables import Change, Commit, Engine
from xds.schema.type_urls import TYPE_LISTENER
from xds.server.states import Progress

COLLECTION = "acknowledged"  # of the store's documents


class Proxies(Protocol):
    """What is asked of the connected proxies (`xds.server.hub.Hub`)."""

    on_heard: Callable[[Audience, str], None]

    def audiences(self) -> list[Audience]:
        """The audiences that are connected."""

    def progress(self, audience: Audience, type_url: str) -> Progress:
        """How far the proxies of an audience have come with a type."""


class _Kept(msgspec.Struct, frozen=True):
    key: AcknowledgedKey
    row: Acknowledged


class Acknowledgements:
    """Keeps the rows of `ACKNOWLEDGED`. While `building` the engine is not to be read, and `committed` follows."""

    def __init__(
        self,
        engine: Engine,
        proxies: Proxies,
        store: Store,
        *,
        submit: Callable[[Iterable[Change]], None],
        building: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._proxies = proxies
        self._store = store
        self._submit = submit
        self._building = building
        self._documents = DocumentWriter(store, COLLECTION)
        self._rows: dict[GatewayKey, Acknowledged] = {}
        self._news: set[GatewayKey] = set()
        self._looking = False
        proxies.on_heard = self._heard

    async def load(self) -> None:
        """Say that proxies are watched, and take back what an earlier run knew of them."""
        self._submit([Change(ACKNOWLEDGED, WATCHED, Acknowledged())])
        for name, content in sorted((await self._store.documents(COLLECTION)).items()):
            try:
                kept = msgspec.json.decode(content, type=_Kept)
            except msgspec.DecodeError:
                self._documents.save({name: None})
                continue
            self._put(GatewayKey(*kept.key), kept.row)

    def start(self, tasks: Tasks) -> None:
        """Begin to write to the store."""
        tasks.start("acknowledged", self._documents.run())

    async def flush(self) -> None:
        """Write what waits."""
        await self._documents.flush()

    def committed(self, commit: Commit) -> None:
        """Look again at the Gateways that a commit concerns."""
        self._news.update(commit.of(GATEWAYS))
        self._news.update(_named(audience) for audience in commit.of(AUDIENCES) if audience.kind == "gateway")
        for key in commit.of(OBJECTS):
            if key.kind == Gateway.__name__:
                self._news.add(GatewayKey(key.namespace, key.name))
            elif key.kind == ListenerSet.__name__:
                self._news.update(self._having(key))
        self._look()

    def _having(self, key: ObjectKey) -> list[GatewayKey]:
        rows = self._engine.rows(GATEWAYS).items()
        return [at for at, row in rows if any(listener.owner == key for listener in row.listeners)]

    def _heard(self, audience: Audience, type_url: str) -> None:
        if audience.kind == "gateway" and type_url in (TYPE_LISTENER, ""):
            self._news.add(_named(audience))
            if not self._looking:
                self._looking = True
                asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if not self._news or self._building():
            return
        news, self._news = self._news, set()
        audiences: dict[GatewayKey, list[Audience]] = {}
        for audience in self._proxies.audiences():
            if audience.kind == "gateway":
                audiences.setdefault(_named(audience), []).append(audience)
        lingering = {_named(at) for at in self._engine.rows(AUDIENCES) if at.kind == "gateway"}
        for key in sorted(news):
            self._look_at(key, audiences.get(key, []), lingers=key in lingering)

    def _look_at(self, key: GatewayKey, audiences: list[Audience], *, lingers: bool) -> None:
        wanted = self._wanted(key)
        if wanted is None or (not audiences and not lingers):
            self._put(key, None)
            return
        if self._rows.get(key) == wanted:
            return
        progress = [self._proxies.progress(audience, TYPE_LISTENER) for audience in audiences]
        if any(one.current for one in progress) and not any(one.behind for one in progress):
            self._put(key, wanted)

    def _wanted(self, key: GatewayKey) -> Acknowledged | None:
        """What the row says once all is acknowledged; None for a Gateway that is none of ours."""
        row = self._engine.get(GATEWAYS, key)
        if row is None:
            return None
        owners = {listener.owner for listener in row.listeners if listener.owner is not None}
        objects = [ObjectKey(Gateway.__name__, *key), *owners]
        found = ((at, self._engine.get(OBJECTS, at)) for at in sorted(objects))
        return Acknowledged(
            tuple((at, each.object.metadata.generation) for at, each in found if each is not None),
            tuple(sorted(listener.name for listener in row.listeners if listener.programmed)),
        )

    def _put(self, key: GatewayKey, row: Acknowledged | None) -> None:
        if self._rows.get(key) == row:
            return
        if row is None:
            del self._rows[key]
        else:
            self._rows[key] = row
        at = AcknowledgedKey(*key)
        self._submit([Change(ACKNOWLEDGED, at, row)])
        content = msgspec.json.encode(_Kept(at, row)) if row is not None else None
        self._documents.save({f"{key.namespace}/{key.name}": content})


def _named(audience: Audience) -> GatewayKey:
    return GatewayKey(audience.namespace, audience.name)
