"""The store as a source of objects, and as what the REST API writes (`api.ports.Config`).

A write that was answered is handed to the model at once, not when the store's watch comes round to it: that saves a
read of what we just had in hand. The watch stays, for what others write; a revision that is known already is nothing
new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from api import ports
from discovery.stores import store as stores
from mesh.kinds.meta import Object
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.objects import source_rank
from mesh.problems import Problem
from mesh.tables import Change, Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "store"
# Turns of the loop that a write leaves to others before it is answered: one in which the builder derives what follows,
# one in which the streams send it. Making the answer first would keep Envoy waiting 0.6 ms longer, of 6.
_TURNS_FOR_OTHERS = 2


class StoreSource:
    """Reads the store into the model, and writes it for the API.

    `other_sources` names those that may declare the same objects. Only single rows of the engine are read, never its
    indexes, so that the API works while a large build runs.
    """

    def __init__(
        self,
        store: stores.Store,
        engine: Engine,
        submit: Callable[[Iterable[Change]], None],
        *,
        other_sources: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._engine = engine
        self._submit = submit
        self._other_sources = other_sources
        self._revisions: dict[ObjectKey, int] = {}
        self._latest: dict[ObjectKey, Declared | None] = {}  # rows handed over, until they are seen to have arrived
        self._unreadable: dict[ObjectKey, str] = {}
        self._seen = 0

    async def load(self) -> None:
        """Hand everything in the store to the model."""
        snapshot = await self._store.list()
        self._seen = snapshot.revision
        self._unreadable = {row.key: row.error for row in snapshot.unreadable}
        self._revisions = {_key(stored.object): stored.revision for stored in snapshot.objects}
        self._submit([_change(_key(stored.object), stored.object, stored.revision) for stored in snapshot.objects])

    async def follow(self) -> None:
        """Hand over what changes after `load`, without end."""
        async for events in self._store.watch(self._seen):
            for event in events:
                self._seen = max(self._seen, event.revision)
                if event.error:
                    self._unreadable[event.key] = event.error
                else:
                    self._unreadable.pop(event.key, None)
                    self._take(event.key, event.object, event.revision)

    def _take(self, key: ObjectKey, found: Object | None, revision: int) -> None:
        if revision <= self._revisions.get(key, 0):
            return
        change = _change(key, found, revision)
        self._revisions[key] = revision
        self._latest[key] = change.row
        self._submit([change])

    def on_its_way(self, key: ObjectKey) -> bool:
        """Whether a change of an object was written and is not yet part of the model."""
        if key not in self._latest:
            return False
        if self._engine.get(DECLARED, DeclaredKey(*key, SOURCE)) == self._latest[key]:
            del self._latest[key]
            return False
        return True

    def problems(self) -> list[ports.SourceProblem]:
        """Rows that this version of Fairlead cannot read."""
        fix = "Put it again, or delete it."
        return [
            ports.SourceProblem(SOURCE, Problem("unreadable", "error", "", f"{key}: {error}", fix))
            for key, error in sorted(self._unreadable.items())
        ]

    # -- api.ports.Config ---------------------------------------------------------------------------------------

    async def get(self, key: ObjectKey) -> ports.Item | None:
        """See `api.ports.Config.get`."""
        with _translated_errors():
            stored = await self._store.get(key)
        return _item(stored) if stored is not None else None

    async def list(self, kind: str, namespace: str | None) -> Sequence[ports.Item]:
        """See `api.ports.Config.list`."""
        with _translated_errors():
            return [_item(stored) for stored in await self._store.list_of(kind, namespace)]

    async def put(self, object: Object, *, expected: int | None, by: str) -> ports.Item:  # noqa: A002
        """See `api.ports.Config.put`."""
        with _translated_errors():
            stored = await self._store.put(object, expected=expected, by=by)
        self._take(_key(stored.object), stored.object, stored.revision)
        for _ in range(_TURNS_FOR_OTHERS):
            await asyncio.sleep(0)
        return _item(stored)

    async def delete(self, key: ObjectKey, *, expected: int | None, by: str) -> int:
        """See `api.ports.Config.delete`."""
        with _translated_errors():
            revision = await self._store.delete(key, expected=expected, by=by)
        self._take(key, None, revision)
        return revision

    async def history(self, key: ObjectKey, *, limit: int) -> Sequence[ports.Past]:
        """See `api.ports.Config.history`."""
        with _translated_errors():
            return [_past(past) for past in await self._store.history(key, limit=limit)]

    async def past(self, key: ObjectKey, revision: int) -> ports.Past | None:
        """See `api.ports.Config.past`."""
        with _translated_errors():
            past = await self._store.past(key, revision)
        return _past(past) if past is not None else None

    def others(self, key: ObjectKey) -> Sequence[ports.Item]:
        """See `api.ports.Config.others`."""
        return self._items(DeclaredKey(*key, source) for source in self._other_sources)

    def others_of_kind(self, kind: str, namespace: str | None) -> Sequence[ports.Item]:
        """See `api.ports.Config.others_of_kind`."""
        keys = [key for key in list(self._engine.rows(DECLARED)) if key.kind == kind and key.source != SOURCE]
        return self._items(key for key in keys if namespace is None or key.namespace == namespace)

    def _items(self, keys: Iterable[DeclaredKey]) -> Sequence[ports.Item]:
        rows = [(key, self._engine.get(DECLARED, key)) for key in keys]
        rows.sort(key=lambda item: (item[0][:3], source_rank(item[0].source)))
        return [
            ports.Item(row.object, key.source, location=row.location, stale=row.stale)
            for key, row in rows
            if row is not None
        ]


def _key(found: Object) -> ObjectKey:
    return ObjectKey(found.kind, found.metadata.namespace, found.metadata.name)


def _change(key: ObjectKey, found: Object | None, revision: int) -> Change:
    row = Declared(found, location=f"{SOURCE}@{revision}") if found is not None else None
    return Change(DECLARED, DeclaredKey(*key, SOURCE), row)


def _item(stored: stores.Stored) -> ports.Item:
    location = f"{SOURCE}@{stored.revision}"
    return ports.Item(stored.object, SOURCE, stored.revision, location, created=stored.created)


def _past(past: stores.Past) -> ports.Past:
    return ports.Past(past.revision, past.object, past.by, past.at, past.error)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """The store's errors as the API knows them."""
    try:
        yield
    except stores.Conflict as error:
        raise ports.Conflict(str(error), actual=error.actual) from error
    except stores.NotFound as error:
        raise ports.NotFound(str(error)) from error
    except stores.StoreUnavailable as error:
        raise ports.Unavailable(error.problem, fix=error.fix) from error
