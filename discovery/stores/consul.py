"""The store that replicas share: a prefix of Consul's KV.

`consul_values.py` says how objects lie there; this reads, writes and watches them over one agent. A write is one
transaction: the new value over the very version that was read (check-and-set), the old one into the history, and only
while the prefix still holds the store that we know. Nothing is deleted but by `consul_sweep.py`.

A KV that comes back without the store, or with another, is not believed: an agent that forgot all (`-dev`), a prefix
that somebody removed. What was known stands, writes are refused, and `problems` says what to do.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from discovery.consul.http import Consul
from discovery.consul.watch_state import NO_INDEX_PAUSE, Pause, WatchState
from discovery.stores import consul_values as values
from discovery.stores.consul_feed import Feed
from discovery.stores.consul_journal import Writing
from discovery.stores.consul_kv import Kv
from discovery.stores.consul_looks import Looks
from discovery.stores.consul_values import Layout, Operation, Pair
from discovery.stores.stamps import same, stamped, timestamp
from discovery.stores.store import (
    Conflict,
    Event,
    NotFound,
    Past,
    Snapshot,
    StoreAway,
    StoreCorrupt,
    Stored,
    StoreNotLed,
    StoreTooNew,
    StoreUnavailable,
    Unreadable,
)
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import Problem

T = TypeVar("T")

HISTORY_LIMIT = 50
"""Revisions kept per object beside the present one: all of KV is in the memory of every Consul server."""
WAIT_SECONDS = 15.0
"""How long a look waits for news: a state that was restored between two looks is noticed after so long."""
_TRIES = 50  # of a write over whatever is there, while others write the same object
_NO_SESSION = "none"  # no session is called so, and an empty name would be no check
_DECODE_IN_THREAD = 128 * 1024  # bytes of values that are too many to decode between two requests


class ConsulStore:
    """A `Store`. `identity` is that of the store as an earlier run knew it, empty for none; `now` stamps writes.

    Nothing is asked before the first use, so that it can be made while Consul is away.
    """

    def __init__(
        self,
        consul: Consul,
        prefix: str,
        *,
        identity: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        history_limit: int = HISTORY_LIMIT,
    ) -> None:
        self.kv = Kv(consul)
        self.layout = Layout(prefix)
        self.identity = identity
        self.history_limit = history_limit
        self.on_problems: Callable[[], None] = lambda: None
        self.on_identity: Callable[[str], None] = lambda _: None
        self.where = f"{self.kv.url}/{prefix}"
        self.now = now
        self._journal = Writing(self.layout, str(uuid.uuid4()))
        self._marker: int | None = None  # at which index it was seen; None: not yet, or not any more
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()
        self._closed = asyncio.Event()
        self._problems: tuple[Problem, ...] = ()
        self._leading: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """See `Store.problems`."""
        return self._problems + self._leading

    def cannot_lead(self, why: str) -> None:
        """Consul does not let this replica try to lead; an empty `why`: it does."""
        helps = "give the token `session` write and `key_prefix` write; old history stays and Rollouts stand meanwhile"
        message = f"Consul at {self.kv.url} does not let this server lead ({why})"
        self._leading = (Problem("CannotLead", "error", "", message, helps),) if why else ()
        self.on_problems()

    # -- reading ------------------------------------------------------------------------------------------------

    async def get(self, key: ObjectKey) -> Stored | None:
        """See `Store.get`."""
        await self._known()
        pair = await self.kv.pair(self.layout.object(key))
        if pair is None:
            return None
        try:
            made = values.read(key, values.kept(pair), pair.modify_index)
        except values.UnreadableError as error:
            raise StoreCorrupt(
                f"{key} at revision {pair.modify_index} cannot be read by this Fairlead ({error})",
                fix="Write it anew, or roll it back to an older revision.",
            ) from None
        return Stored(made, pair.modify_index) if made is not None else None

    async def list(self) -> Snapshot:
        """See `Store.list`."""
        await self._known()
        events = await self._all(self.layout.objects)
        return Snapshot(
            max((event.revision for event in events), default=0),
            tuple(sorted((Stored(e.object, e.revision) for e in events if e.object is not None), key=_order)),
            tuple(sorted((Unreadable(e.key, e.revision, e.error) for e in events if e.error), key=lambda row: row.key)),
        )

    async def list_of(self, kind: str, namespace: str | None) -> tuple[Stored, ...]:
        """See `Store.list_of`."""
        await self._known()
        events = await self._all(self.layout.kind(kind, namespace))
        return tuple(sorted((Stored(e.object, e.revision) for e in events if e.object is not None), key=_order))

    async def _all(self, prefix: str) -> tuple[Event, ...]:
        found, feed = await self.kv.pairs(prefix), Feed(self.layout, after=-1)
        if sum(len(pair.value or b"") for pair in found) > _DECODE_IN_THREAD:
            return await asyncio.to_thread(feed.events, found)
        return feed.events(found)

    async def history(self, key: ObjectKey, *, limit: int = 100) -> tuple[Past, ...]:
        """See `Store.history`."""
        await self._known()
        now = await self.kv.pair(self.layout.object(key))
        older = await self.kv.pairs(self.layout.past(key))
        found = {revision: pair for pair in older if (revision := self.layout.revision_of(pair.key)) is not None}
        if now is not None:
            found[now.modify_index] = now
        return tuple(_past(key, revision, found[revision]) for revision in sorted(found, reverse=True)[:limit])

    async def past(self, key: ObjectKey, revision: int) -> Past | None:
        """See `Store.past`."""
        return next((past for past in await self.history(key, limit=1_000_000) if past.revision == revision), None)

    async def documents(self, collection: str) -> Mapping[str, bytes]:
        """See `Store.documents`."""
        await self._known()
        name = self.layout.name_of_document
        try:
            found = await self.kv.pairs(self.layout.documents(collection))
            return {name(collection, pair.key): values.unpacked(pair) for pair in found}
        except values.UnreadableError as error:
            raise StoreCorrupt(
                f"A document of {collection} in {self.where} cannot be read ({error})",
                fix=f"Look at it with `consul kv get -recurse {self.layout.documents(collection)}`.",
            ) from None

    async def watch(self, after: int) -> AsyncIterator[tuple[Event, ...]]:
        """See `Store.watch`. How it looks: `consul_looks.py`."""
        loop = asyncio.get_running_loop()
        state = WatchState()
        looks = Looks(self.kv, self.layout, after=after, known=self._known, believe=self._believe)
        while not self._closed.is_set():
            began = loop.time()
            step = state.next_step(began, wait=min(WAIT_SECONDS, looks.patience(began)))
            if isinstance(step, Pause):
                await self._or_closed(asyncio.sleep(step.seconds))
                continue
            try:
                events = await self._or_closed(looks.look(state, step.index, step.wait))
            except StoreUnavailable as error:
                pause = error.retry_after if isinstance(error, StoreAway) else 0.0
                state.failed(loop.time(), random.random(), retry_after=pause)  # noqa: S311
                state.index = 0  # the next answer comes at once, and says that it is over
                self._note(error)
                continue
            self._note(None)
            if events is None and step.index and loop.time() < began + step.wait / 2:
                # It woke and had nothing new: Consul leaves an old state for a restored one, whose index may be lower.
                state.index = 0
                await self._or_closed(asyncio.sleep(NO_INDEX_PAUSE))
            if events:
                yield events

    # -- writing ------------------------------------------------------------------------------------------------

    async def put(self, object: Object, *, expected: int | None = None, by: str = "") -> Stored:  # noqa: A002
        """See `Store.put`."""
        return await self._in_turn(self._put(object, expected, by))

    async def delete(self, key: ObjectKey, *, expected: int | None = None, by: str = "") -> int:
        """See `Store.delete`."""
        return await self._in_turn(self._delete(key, expected, by))

    async def write_documents(self, collection: str, changes: Mapping[str, bytes | None]) -> None:
        """See `Store.write_documents`. Raises TooLarge for more than Consul takes in one transaction."""
        await self._in_turn(self._write_documents(collection, changes, None))

    async def write_documents_as_leader(
        self, collection: str, changes: Mapping[str, bytes | None], session: Callable[[], str]
    ) -> None:
        """Write documents while a session holds the lock on `leader`: what comes too late is not written.

        Raises:
            StoreNotLed: it does not hold the lock, and nothing was written.
        """
        await self._in_turn(self._write_documents(collection, changes, session))

    async def _put(self, found: Object, expected: int | None, by: str) -> Stored:
        key = ObjectKey(found.kind, found.metadata.namespace, found.metadata.name)
        for _ in range(_TRIES):
            await self._known()
            pair = await self.kv.pair(self.layout.object(key))
            old, revision = _present(key, pair)
            _expect(key, expected, revision)
            if pair is not None and old is not None and same(found, old):
                return Stored(old, pair.modify_index)
            now = self.now()
            new = stamped(found, old, revision=0, now=now, uid=str(uuid.uuid4()))
            written = await self._replace(key, pair, new, by=by, now=now)
            if written is not None:
                metadata = msgspec.structs.replace(new.metadata, resource_version=str(written))
                return Stored(msgspec.structs.replace(new, metadata=metadata), written, created=revision == 0)
        raise _busy(key)

    async def _delete(self, key: ObjectKey, expected: int | None, by: str) -> int:
        for _ in range(_TRIES):
            await self._known()
            pair = await self.kv.pair(self.layout.object(key))
            _, revision = _present(key, pair)
            _expect(key, expected, revision)
            if revision == 0:
                raise NotFound(key)
            written = await self._replace(key, pair, None, by=by, now=self.now())
            if written is not None:
                return written
        raise _busy(key)

    async def _replace(
        self, key: ObjectKey, old: Pair | None, new: Object | None, *, by: str, now: datetime
    ) -> int | None:
        """Write over what was read; the revision, or None where somebody was quicker."""
        at = self.layout.object(key)
        value, flags = values.written(new, by=by, at=timestamp(now))
        operations = [
            self._journal.entered(at, timestamp(now)),
            Operation("cas", at, value, old.modify_index if old is not None else 0, flags),
        ]
        if old is not None:
            past = self.layout.past(key, old.modify_index)
            operations.insert(0, Operation("set", past, old.value or b"", flags=old.flags))
        body = await self._transact(operations, what=str(key))
        return None if body is None else _index(body, at)

    async def _write_documents(
        self, collection: str, changes: Mapping[str, bytes | None], session: Callable[[], str] | None
    ) -> None:
        await self._known()
        operations = []
        if changes and session is not None:
            operations.append(Operation("check-session", self.layout.leader, session=session() or _NO_SESSION))
        for name, body in sorted(changes.items()):
            at = self.layout.document(collection, name)
            value, flags = values.packed(body) if body is not None else (None, 0)
            operations.append(Operation("delete" if body is None else "set", at, value, flags=flags))
        if operations and await self._transact(operations, what=f"the documents of {collection}", whole=True) is None:
            raise _busy(collection) if session is None else _not_led(collection)

    async def _transact(self, operations: Sequence[Operation], *, what: str, whole: bool = False) -> bytes | None:
        """Do all of it while the store is the one we know; None where it was not as expected."""
        check = Operation("check-index", self.layout.marker, index=self._marker)
        answer: bytes | None = b""
        for body in values.transactions([check, *operations], what=what, whole=whole):
            answer = await self.kv.transact(body)
            if answer is None:
                self._marker = None  # perhaps it was this: it is looked at before the next try
                break
        return answer

    async def _in_turn(self, write: Coroutine[Any, Any, T]) -> T:
        """One after the other, in the order of their coming. A caller that goes away does not unwrite."""
        if self._closed.is_set():
            write.close()
            raise self._gone()

        async def run() -> T:
            async with self._writing:
                return await write

        task = asyncio.get_running_loop().create_task(run())
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # that nobody waits for it any more is no reason for asyncio to complain

    async def remove(self, operations: Sequence[Operation]) -> int:
        """Delete keys while the store is the one we know, in as many transactions as it takes; how many went.

        Raises StoreUnavailable.
        """
        at_once = values.MOST_OPERATIONS - 1
        removed = 0
        for start in range(0, len(operations), at_once):
            await self._known()
            part = operations[start : start + at_once]
            if await self._transact(part, what="what is removed", whole=True) is not None:
                removed += len(part)
        return removed

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed.is_set():
            return
        self._closed.set()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self.kv.consul.close()

    # -- which store it is --------------------------------------------------------------------------------------

    async def _known(self) -> int:
        """See that the prefix holds the store that we know, or make one where none was ever known.

        At which index its marker is.

        Raises:
            StoreUnavailable: it does not, or cannot be asked.
        """
        if self._closed.is_set():
            raise self._gone()
        if self._marker is not None:
            return self._marker
        pair = await self.kv.pair(self.layout.marker)
        if pair is None and not self.identity:
            value = msgspec.json.encode(values.Marker(values.FORMAT, str(uuid.uuid4())))
            await self.kv.create(self.layout.marker, value)
            pair = await self.kv.pair(self.layout.marker)
        return self._believe(pair)

    def _believe(self, pair: Pair | None) -> int:
        self._marker = None
        if pair is None:
            raise StoreAway(
                f"Consul's KV at {self.where} does not hold the store any more that this server knows"
                f" ({self.identity}), so what was known of it stands and nothing is written",
                fix="Restore the KV (`consul snapshot restore`, `consul kv import`); or, to begin with an empty store,"
                " stop all replicas and start them with an empty --store-local.",
            )
        try:
            found = values.marker(pair)
        except values.UnreadableError as error:
            raise StoreCorrupt(
                f"{self.layout.marker} in Consul's KV is not Fairlead's ({error})",
                fix="Choose another prefix with --store consul://HOST:PORT/PREFIX.",
            ) from None
        if found.format > values.FORMAT:
            raise StoreTooNew(
                f"The store at {self.where} was written by a newer Fairlead (format {found.format}, this one knows"
                f" {values.FORMAT})",
                fix="Run that version again.",
            )
        if self.identity and found.id != self.identity:
            raise StoreAway(
                f"Consul's KV at {self.where} holds another store ({found.id}) than this server knows"
                f" ({self.identity}), so what was known stands and nothing is written",
                fix="Restore the KV; or, if the new store is meant, start this replica with an empty --store-local.",
            )
        if not self.identity:
            self.identity = found.id
            self.on_identity(found.id)
        self._marker = pair.modify_index
        return pair.modify_index

    async def _or_closed(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result, or None as soon as the store is closed."""
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[Any]] = [loop.create_task(work), loop.create_task(self._closed.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _note(self, error: StoreUnavailable | None) -> None:
        """Tell of what keeps the watch from looking, and that it is over."""
        problems: tuple[Problem, ...] = ()
        if error is not None:
            problems = (Problem(type(error).__name__, "error", "", error.problem, error.fix),)
        if problems != self._problems:
            self._problems = problems
            self.on_problems()

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"The store {self.where} is closed", fix="Fairlead is stopping; try again when it is back."
        )


def _order(stored: Stored) -> ObjectKey:
    found = stored.object
    return ObjectKey(found.kind, found.metadata.namespace, found.metadata.name)


def _index(body: bytes, at: str) -> int:
    try:
        return values.index_of(body, at)
    except values.UnreadableError as error:
        raise StoreAway(
            f"Consul answered to a write with something else ({error}), and whether it was written is not known",
            fix="See that --store names the HTTP API of a Consul agent; then try again, which is safe.",
        ) from None


def _present(key: ObjectKey, pair: Pair | None) -> tuple[Object | None, int]:
    """The object in a key, None where it cannot be read and is written anew; and its revision, 0 where it is gone."""
    if pair is None:
        return None, 0
    try:
        found = values.read(key, values.kept(pair), pair.modify_index)
    except values.UnreadableError:
        return None, pair.modify_index
    return found, pair.modify_index if found is not None else 0


def _past(key: ObjectKey, revision: int, pair: Pair) -> Past:
    try:
        said = values.kept(pair)
    except values.UnreadableError as error:
        return Past(key, revision, None, "", "", str(error))
    try:
        return Past(key, revision, values.read(key, said, revision), said.by, said.at)
    except values.UnreadableError as error:
        return Past(key, revision, None, said.by, said.at, str(error))


def _expect(key: ObjectKey, expected: int | None, actual: int) -> None:
    if expected is not None and expected != actual:
        raise Conflict(key, expected=expected, actual=actual)


def _not_led(what: str) -> StoreNotLed:
    return StoreNotLed(
        f"This replica does not lead (any more), so {what} were not written",
        fix="See that it reaches Consul; the replica that leads goes on.",
    )


def _busy(what: object) -> StoreUnavailable:
    return StoreUnavailable(
        f"{what} was changed by others each time it was to be written, so nothing was written",
        fix="Try again; see who writes it all the time (`GET …/history`).",
    )
