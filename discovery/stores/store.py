"""The interface that all stores of config objects share, and the errors they raise.

A store keeps what users wrote over REST: objects by key, each write numbered by one counter for the whole store (the
*revision*), with who and when. It owns durability and ordering, nothing else: whether an object is valid is `mesh`'s
business, who may write it is `api`'s. Equal content is not written again.

    StoreError
    ├── Conflict            the object is at another revision than expected; nothing was written
    ├── NotFound            there is no such object
    ├── TooLarge            it is larger than the store can keep
    └── StoreUnavailable    the store cannot do it now; nothing was lost; says what to do
        ├── StoreAway       it is another program, and does not answer, or not well
        ├── StoreNotLed     only the leader of those who share it may write this, and that is another by now
        ├── StoreFull       no room left
        ├── StoreLocked     another process holds it
        ├── StoreCorrupt    its content cannot be trusted
        └── StoreTooNew     written by a newer Fairlead
"""

# ruff: noqa: N818 - errors are named by what is true: `raise Conflict`

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import msgspec

from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import Problem


class StoreError(Exception):
    """Base of what stores raise; the text is for the user."""


class Conflict(StoreError):
    """`key` is at revision `actual` (0: it does not exist), not at `expected`."""

    def __init__(self, key: ObjectKey, *, expected: int, actual: int) -> None:
        self.key, self.expected, self.actual = key, expected, actual
        if actual == 0:
            what = f"{key} does not exist, but revision {expected} of it was expected"
        elif expected == 0:
            what = f"{key} exists already, at revision {actual}"
        else:
            what = f"{key} is at revision {actual}, not {expected}: somebody changed it meanwhile"
        super().__init__(f"{what}. Read it again and repeat the change on what you get.")


class NotFound(StoreError):
    """There is no such object."""

    def __init__(self, key: ObjectKey) -> None:
        self.key = key
        super().__init__(f"{key} does not exist in the store.")


class TooLarge(StoreError):
    """The store never takes it; `fix` says what to do."""

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem, self.fix = problem, fix
        super().__init__(f"{problem}. {fix}")


class StoreUnavailable(StoreError):
    """The store cannot do it now. What was answered before is safe; `fix` says what to do."""

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem, self.fix = problem, fix
        super().__init__(f"{problem}. {fix}")


class StoreAway(StoreUnavailable):
    """The store is another program, and it does not answer, or not as it should.

    `retry_after` is how many seconds it asks to be left alone, 0 where it says nothing.
    """

    def __init__(self, problem: str, *, fix: str, retry_after: float = 0.0) -> None:
        self.retry_after = retry_after
        super().__init__(problem, fix=fix)


class StoreNotLed(StoreUnavailable):
    """What only the leader of those who share the store may write, and this is not the leader."""


class StoreFull(StoreUnavailable):
    """There is no room left to write to."""


class StoreLocked(StoreUnavailable):
    """Another process holds the store."""


class StoreCorrupt(StoreUnavailable):
    """The store's content cannot be trusted."""


class StoreTooNew(StoreUnavailable):
    """The store was written by a newer Fairlead."""


class Stored(msgspec.Struct, frozen=True):
    """An object as the store holds it: `metadata` carries the store's own stamps (see `stamps.py`).

    `created`: the `put` that answers with it found nothing there.
    """

    object: Object
    revision: int
    created: bool = False


class Unreadable(msgspec.Struct, frozen=True):
    """A row that this Fairlead cannot decode. It is left alone and reported; the other rows live on."""

    key: ObjectKey
    revision: int
    error: str


class Snapshot(msgspec.Struct, frozen=True):
    """Everything in the store at one revision, sorted by key."""

    revision: int
    objects: tuple[Stored, ...]
    unreadable: tuple[Unreadable, ...] = ()


class Event(msgspec.Struct, frozen=True):
    """The latest state of one key: `object=None` says that it is gone (or, with `error`, that it cannot be read).

    `restored`: somebody put the store back to an older state. It counts even where a higher revision is known.
    """

    key: ObjectKey
    revision: int
    object: Object | None
    error: str = ""
    restored: bool = False


class Past(msgspec.Struct, frozen=True):
    """One revision in an object's history, at a time in RFC 3339, UTC.

    `object=None` is its deletion or, with `error`, a revision that this Fairlead cannot read.
    """

    key: ObjectKey
    revision: int
    object: Object | None
    by: str
    at: str
    error: str = ""


class Store(Protocol):
    """A place for config objects. All methods raise StoreUnavailable when the store cannot answer."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the store at present, beside rows that cannot be read."""
        ...

    async def list(self) -> Snapshot:
        """Everything, at one revision."""
        ...

    async def list_of(self, kind: str, namespace: str | None) -> tuple[Stored, ...]:
        """The readable objects of one kind, sorted by namespace and name; `namespace=None` means all."""
        ...

    async def get(self, key: ObjectKey) -> Stored | None:
        """One object; a `put` that was answered is seen. Raises StoreCorrupt for one that cannot be read."""
        ...

    def watch(self, after: int) -> AsyncIterator[tuple[Event, ...]]:
        """What changed after a revision, and then everything that changes, until the iteration is closed.

        Latest state, not a log: a slow reader gets each key once, as it is by then. To resume, start after the
        highest revision that was handled.
        """
        ...

    async def put(self, object: Object, *, expected: int | None = None, by: str = "") -> Stored:  # noqa: A002
        """Write an object durably and answer it with the store's stamps.

        `expected`: None writes whatever is there, 0 only where nothing is, another number only over that revision.
        Raises Conflict, TooLarge. Content equal to what is there is not written and keeps its revision.
        """
        ...

    async def delete(self, key: ObjectKey, *, expected: int | None = None, by: str = "") -> int:
        """Remove an object durably; the revision of the removal. Raises NotFound, Conflict."""
        ...

    async def history(self, key: ObjectKey, *, limit: int = 100) -> tuple[Past, ...]:
        """The newest `limit` revisions of an object, newest first; of deleted ones too."""
        ...

    async def past(self, key: ObjectKey, revision: int) -> Past | None:
        """One revision of an object, or None where the store does not have it (any more)."""
        ...

    async def documents(self, collection: str) -> Mapping[str, bytes]:
        """The small runtime documents of a collection (rejections, last copies of sources): name → content."""
        ...

    async def write_documents(self, collection: str, changes: Mapping[str, bytes | None]) -> None:
        """Write several documents of a collection durably, all or none; None removes one."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, and let go of the store. Watches end."""
        ...
