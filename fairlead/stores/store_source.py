"""The store as a source of objects, and as what the REST API writes (`api.ports.Config`).

A write that was answered is handed to the model at once, not when the store's watch comes round to it: that saves a
read of what we just had in hand. The watch stays, for what others write; a revision that is known already is nothing
new.

A store that is another program may be away. Then what was known of it stands: the rows in the model, after a start
those that were kept locally, marked stale; reads are answered from them, and writes are refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from api import ports
from discovery.copies import CATALOG, Copies, object_name
from discovery.stores import store as stores
from mesh.kinds import KINDS
from mesh.kinds.meta import Object
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.objects import source_rank
from mesh.problems import Problem
from mesh.tables import Change, Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

SOURCE = "store"
# Turns of the loop that a write leaves to others before it is answered: one in which the builder derives what follows,
# one in which the streams send it. Making the answer first would keep Envoy waiting 0.6 ms longer, of 6.
_TURNS_FOR_OTHERS = 2
_RETRY_SECONDS = 1.0


class StoreSource:
    """Reads the store into the model, and writes it for the API.

    `other_sources` names those that may declare the same objects. `copies` keep what a shared store held. Only single
    rows of the engine are read, never its
    indexes, so that the API works while a large build runs.
    """

    def __init__(
        self,
        store: stores.Store,
        engine: Engine,
        submit: Callable[[Iterable[Change]], None],
        *,
        other_sources: Sequence[str] = (),
        copies: Copies | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._hand_over = submit
        self._other_sources = other_sources
        self._copies = copies
        self._away: stores.StoreAway | None = None  # since the start, so that copies stand in
        self._revisions: dict[ObjectKey, int] = {}
        self._latest: dict[ObjectKey, Declared | None] = {}  # rows handed over, until they are seen to have arrived
        self._unreadable: dict[ObjectKey, str] = {}
        self._seen = 0

    async def load(self) -> None:
        """Hand everything in the store to the model; of one that is away what was kept of it, else wait for it.

        Raises:
            StoreUnavailable: it is there, and cannot be used.
        """
        if self._copies is not None:
            await self._copies.load()
        while True:
            try:
                await self._load()
            except stores.StoreAway as error:
                if self._copies is None:
                    raise
                self._away = error
                if not self._copies.has(CATALOG):
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                self._stand_in(self._copies)
            return

    async def _load(self) -> None:
        snapshot = await self._store.list()
        self._away = None
        self._seen = snapshot.revision
        self._unreadable = {row.key: row.error for row in snapshot.unreadable}
        found = {_key(stored.object): stored for stored in snapshot.objects}
        vanished = self._revisions.keys() - found.keys() - self._unreadable.keys()
        self._revisions = {key: stored.revision for key, stored in found.items()}
        changes = [_change(key, stored.object, stored.revision) for key, stored in found.items()]
        self._submit([*changes, *(_change(key, None, 0) for key in sorted(vanished))])
        if self._copies is not None:
            for kind in KINDS:
                kept = (key for key in [*found, *self._unreadable] if key.kind == kind)
                self._copies.whole(kind, map(object_name, kept))
            self._copies.whole(CATALOG, ())
            self._copies.forget()

    def _stand_in(self, copies: Copies) -> None:
        """Hand over what an earlier run knew."""
        changes: list[Change] = []
        for kind in KINDS:
            for found in copies.objects(kind):
                revision = _revision(found)
                self._revisions[_key(found)] = revision
                changes.append(_change(_key(found), found, revision, stale=True))
        self._submit(changes)

    async def follow(self) -> None:
        """Hand over what changes after `load`, without end."""
        while self._away is not None:
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                await self._load()
            except stores.StoreUnavailable as error:
                _log.debug("the store is not back: %s", error)
        async for events in self._store.watch(self._seen):
            for event in events:
                self._seen = max(self._seen, event.revision)
                if event.error:
                    self._unreadable[event.key] = event.error
                else:
                    self._unreadable.pop(event.key, None)
                    self._take(event.key, event.object, event.revision, again=event.restored)

    def _submit(self, changes: list[Change]) -> None:
        if self._copies is not None:
            self._copies.note(changes)
        self._hand_over(changes)

    def _take(self, key: ObjectKey, found: Object | None, revision: int, *, again: bool = False) -> None:
        if revision <= self._revisions.get(key, 0) and not again:
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
        """What is wrong with the store, and rows that this version of Fairlead cannot read."""
        fix = "Put it again, or delete it."
        found = list(self._store.problems)
        if self._away is not None:
            found.append(Problem(type(self._away).__name__, "error", "", self._away.problem, self._away.fix))
        return [ports.SourceProblem(SOURCE, problem) for problem in found] + [
            ports.SourceProblem(SOURCE, Problem("unreadable", "error", "", f"{key}: {error}", fix))
            for key, error in sorted(self._unreadable.items())
        ]

    # -- api.ports.Config ---------------------------------------------------------------------------------------

    async def get(self, key: ObjectKey) -> ports.Item | None:
        """See `api.ports.Config.get`."""
        try:
            with _translated_errors():
                stored = await self._store.get(key)
        except _Away:
            row = self._engine.get(DECLARED, DeclaredKey(*key, SOURCE))
            return _known(row) if row is not None else None
        return _item(stored) if stored is not None else None

    async def list(self, kind: str, namespace: str | None) -> Sequence[ports.Item]:
        """See `api.ports.Config.list`."""
        try:
            with _translated_errors():
                return [_item(stored) for stored in await self._store.list_of(kind, namespace)]
        except _Away:
            rows = sorted((key, row) for key, row in list(self._engine.rows(DECLARED).items()) if key.source == SOURCE)
            return [_known(row) for key, row in rows if key.kind == kind and namespace in (None, key.namespace)]

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


def _revision(found: Object) -> int:
    return int(found.metadata.resource_version or 0)


def _known(row: Declared) -> ports.Item:
    """What is known of an object while the store is away."""
    return ports.Item(row.object, SOURCE, _revision(row.object), row.location, stale=True)


class _Away(ports.Unavailable):
    """The store is away."""


def _change(key: ObjectKey, found: Object | None, revision: int, *, stale: bool = False) -> Change:
    row = Declared(found, location=f"{SOURCE}@{revision}", stale=stale) if found is not None else None
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
    except stores.TooLarge as error:
        raise ports.TooLarge(error.problem, fix=error.fix) from error
    except stores.StoreAway as error:
        raise _Away(error.problem, fix=error.fix) from error
    except stores.StoreUnavailable as error:
        raise ports.Unavailable(error.problem, fix=error.fix) from error
