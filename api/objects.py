"""Reading and writing config objects, whatever HTTP says: which source wins, what a write may replace, retries.

Owns the rules of DESIGN §3 for the store against the other sources: an object that Kubernetes owns is not written
here, one from a file is shadowed and the writer is told so. It judges no object (`mesh.validation` does) and keeps
none (the store does).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from api.changes import changed
from api.conditions import Condition
from api.ports import Config, Conflict, Item, NotFound, Unavailable
from api.problems import Refusal, invalid
from api.redaction import marks
from mesh.kinds import KINDS, to_json
from mesh.kinds.meta import Object, ObjectMeta
from mesh.model import ObjectKey
from mesh.problems import Problem, shown
from mesh.validation import ADDED_ON_READS, validate

ATTEMPTS = 10  # of a write that depends on what is there and finds that somebody else was faster
PAUSE_SECONDS = 0.002  # before the second attempt; twice as long before each further one, up to
LONGEST_PAUSE_SECONDS = 0.1
STORE = "store"

T = TypeVar("T")

_STAMPS = frozenset({"creationTimestamp", "resourceVersion", "generation", "uid"})


class Removed(msgspec.Struct, frozen=True):
    """What a deletion did: its revision (0 in a dry run), and what the writer should know."""

    revision: int
    warnings: tuple[Problem, ...] = ()


class Written(msgspec.Struct, frozen=True):
    """What a write did, or would do: `created` in the store, and what the writer should know.

    `changes`: in a dry run the paths in which the object that counts would change; None where there is none that can be
    read, and for a write that was done.
    """

    item: Item
    created: bool
    warnings: tuple[Problem, ...] = ()
    changes: tuple[str, ...] | None = None


def owned_by_kubernetes(item: Item) -> bool:
    """Whether a cluster declares it; the cluster then wins over the store."""
    return item.source.startswith("kubernetes")


def winner(stored: Item | None, others: Sequence[Item]) -> Item | None:
    """Of one object from several sources the one that counts: Kubernetes before the store before files."""
    first = others[0] if others else None
    return first if first is not None and (stored is None or owned_by_kubernetes(first)) else stored


class Objects:
    """The objects of all sources, and the store's to write."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._turns: WeakValueDictionary[ObjectKey, asyncio.Lock] = WeakValueDictionary()

    async def read(self, key: ObjectKey) -> Item:
        """The object that counts. Raises NotFound."""
        item = await self.find(key)
        if item is None:
            raise NotFound(f"{_named(key)} does not exist.")
        return item

    async def find(self, key: ObjectKey) -> Item | None:
        """The object that counts, or None."""
        return winner(await self._config.get(key), self._config.others(key))

    async def list(self, kind: str, namespace: str | None) -> tuple[Item, ...]:
        """The objects that count, sorted by namespace and name."""
        stored = {key_of(item): item for item in await self._config.list(kind, namespace)}
        others: dict[ObjectKey, list[Item]] = {}
        for item in self._config.others_of_kind(kind, namespace):
            others.setdefault(key_of(item), []).append(item)
        found = ((key, winner(stored.get(key), others.get(key, ()))) for key in sorted(stored.keys() | others.keys()))
        return tuple(item for _, item in found if item is not None)

    async def write(self, key: ObjectKey, raw: Any, *, condition: Condition, by: str, dry_run: bool) -> Written:
        """Create or replace. Raises Refusal or Conflict where the condition does not hold."""
        made, warnings = _judged(_addressed(key, raw))
        return await self._write(key, made, condition=condition, by=by, dry_run=dry_run, warnings=warnings)

    async def _write(
        self,
        key: ObjectKey,
        made: Object,
        *,
        condition: Condition,
        by: str,
        dry_run: bool,
        warnings: tuple[Problem, ...],
    ) -> Written:
        if not condition.asks:
            return await self._put(key, made, expected=None, by=by, dry_run=dry_run, warnings=warnings)

        async def once() -> Written:
            stored, _ = await self._present(key)
            condition.check(key, self._at(key, stored))
            return await self._put(key, made, expected=stored or 0, by=by, dry_run=dry_run, warnings=warnings)

        return await _settled(once)

    async def change(
        self, key: ObjectKey, change: Callable[[Object], Any], *, condition: Condition, by: str, dry_run: bool
    ) -> Written:
        """Write what `change` makes of the object that counts: its new wire form.

        A race lost to another writer is run again on what that one wrote. Changes of one object take turns here, so
        that only writers elsewhere, and those who replace it, can win one.
        """

        async def once() -> Written:
            base = await self.read(key)
            at = base.revision if base.source == STORE else 0
            condition.check(key, at)
            made, warnings = _judged(_addressed(key, change(base.object)))
            return await self._put(key, made, expected=at, by=by, dry_run=dry_run, warnings=warnings)

        async with self._turns.setdefault(key, asyncio.Lock()):
            return await _settled(once)

    async def remove(self, key: ObjectKey, *, condition: Condition, by: str, dry_run: bool) -> Removed:
        """Delete from the store; what other sources declare stays, and is told of."""

        async def once() -> Removed:
            others = self._config.others(key)
            stored, _ = await self._present(key)
            if stored is None and others:
                raise _not_ours(key, others[0], "deleted")
            if stored is None:
                raise NotFound(f"{_named(key)} does not exist.")
            condition.check(key, stored)
            expected = stored if condition.asks else None
            revision = 0 if dry_run else await self._config.delete(key, expected=expected, by=by)
            return Removed(revision, tuple(_uncovered(key, item) for item in others[:1]))

        return await _settled(once)

    def _at(self, key: ObjectKey, stored: int | None) -> int | None:
        """The revision of the object that counts, 0 for one of another source, None where there is none."""
        return stored if stored is not None or not self._config.others(key) else 0

    async def _present(self, key: ObjectKey) -> tuple[int | None, Object | None]:
        """The revision in the store, None where there is no such object, and the object where it can be read."""
        try:
            item = await self._config.get(key)
        except Unavailable:
            # what cannot be read can still be replaced and deleted; a store that is away says so at the write
            newest = await self._config.history(key, limit=1)
            return (newest[0].revision if newest else None), None
        return (None, None) if item is None else (item.revision, item.object)

    async def roll_back(
        self, key: ObjectKey, revision: int, *, condition: Condition, by: str, dry_run: bool
    ) -> Written:
        """Write an older revision again, as a new one; it is judged by today's rules."""
        past = await self._config.past(key, revision)
        if past is None:
            raise NotFound(f"{_named(key)} has no revision {revision} in its history.")
        if past.object is None:
            what = f"cannot be read ({past.error})" if past.error else "is its deletion"
            raise Refusal(
                422, "NotAnObject", f"Revision {revision} of {_named(key)} {what}.", fix="Choose another revision"
            )
        made, warnings = _judged(as_written(past.object))
        return await self._write(key, made, condition=condition, by=by, dry_run=dry_run, warnings=warnings)

    async def _put(
        self,
        key: ObjectKey,
        made: Object,
        *,
        expected: int | None,
        by: str,
        dry_run: bool,
        warnings: tuple[Problem, ...],
    ) -> Written:
        others = self._config.others(key)
        if others and owned_by_kubernetes(others[0]):
            raise _not_ours(key, others[0], "changed")
        warnings += tuple(_shadowing(key, item) for item in others[:1])
        if not dry_run:
            item = await self._config.put(made, expected=expected, by=by)
            return Written(item, created=item.created, warnings=warnings)
        stored, present = await self._present(key)
        counts = present if stored is not None else others[0].object if others else None
        changes = None if counts is None else tuple(changed(as_written(counts), as_written(made)))
        tried = Item(_tried(made, present), STORE, stored or 0)
        return Written(tried, created=stored is None, warnings=warnings, changes=changes)


async def _settled(once: Callable[[], Awaitable[T]]) -> T:
    """The result of a write that reads first, run again where the store has changed in between."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return await once()
        except Conflict:
            pause = min(PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that they do not meet again
    return await once()


def _tried(made: Object, present: Object | None) -> Object:
    """What a write would leave, as far as that is known before: the stamps that are there, a new generation."""
    stamps = ObjectMeta(name=made.metadata.name) if present is None else present.metadata
    generation = stamps.generation
    if present is None or replace(made, metadata=present.metadata) != present:
        generation += 1
    metadata = replace(
        made.metadata,
        creation_timestamp=stamps.creation_timestamp,
        generation=generation,
        resource_version=stamps.resource_version,
        uid=stamps.uid,
    )
    return replace(made, metadata=metadata)


def key_of(item: Item) -> ObjectKey:
    """The key of the object in an item."""
    return ObjectKey(item.object.kind, item.object.metadata.namespace, item.object.metadata.name)


def _named(key: ObjectKey) -> str:
    return shown(str(key), 300)


def as_written(made: Object) -> Any:
    """The wire form without the store's stamps, so that a stale number does not look like a condition of a write."""
    wire = to_json(made)
    wire["metadata"] = {field: value for field, value in wire["metadata"].items() if field not in _STAMPS}
    return wire


def _addressed(key: ObjectKey, raw: Any) -> Any:
    """The body with the name that the path gives, which it may leave out but not contradict."""
    if not isinstance(raw, dict):
        return raw
    raw = {name: value for name, value in raw.items() if name not in ADDED_ON_READS}
    raw.setdefault("kind", key.kind)
    raw.setdefault("apiVersion", KINDS[key.kind].api_version)
    metadata = raw.setdefault("metadata", {})
    problems = list(marks(raw))
    if raw["kind"] != key.kind:
        problems.append(_contradiction("kind", raw["kind"], key.kind))
    if isinstance(metadata, dict):
        metadata = dict(metadata)
        for field, value in (("name", key.name), ("namespace", key.namespace)):
            if value and metadata.setdefault(field, value) != value:
                problems.append(_contradiction(f"metadata.{field}", metadata[field], value))
        raw["metadata"] = metadata
    if problems:
        raise invalid(problems)
    return raw


def _contradiction(path: str, said: Any, there: str) -> Problem:
    return Problem(
        "Contradiction",
        "error",
        path,
        f"the body says {shown(str(said))!r} and the path {shown(there)!r}",
        "make them the same, or leave it out of the body",
    )


def _judged(raw: Any) -> tuple[Object, tuple[Problem, ...]]:
    checked = validate(raw)
    if checked.object is None:
        raise invalid(checked.problems)
    return checked.object, checked.problems


def _not_ours(key: ObjectKey, item: Item, what: str) -> Refusal:
    return Refusal(
        409,
        "OwnedElsewhere",
        f"{_named(key)} is declared by {item.source} ({item.location or 'place unknown'}) and cannot be {what} here.",
        fix="Change it there" + (", with kubectl for example" if owned_by_kubernetes(item) else ""),
    )


def _shadowing(key: ObjectKey, item: Item) -> Problem:
    return Problem(
        "Shadows",
        "warning",
        "",
        f"{_named(key)} is also declared by {item.source} ({item.location}), which does not count beside this one",
        "delete one of the two",
    )


def _uncovered(key: ObjectKey, item: Item) -> Problem:
    return Problem(
        "Uncovered",
        "warning",
        "",
        f"{_named(key)} is still declared by {item.source} ({item.location}), which counts from now on",
        "remove it there too if it should be gone",
    )
