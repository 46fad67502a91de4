"""The incremental engine: tables of rows, and tables derived from them.

Everything Fairlead knows is a row: keyed, immutable, comparable. Sources write *input* tables in batches; every other
table is *derived* by a pure function from one key to one row, which may read only earlier tables and only through the
`Look` it is handed. What it read is recorded, so that a batch costs what it changes: only rows whose reads changed are
computed again, and a row that comes out equal stops the wave.

The law that keeps it honest is *incremental equals from-scratch*: after any sequence of batches the rows are those of
a fresh engine that got the same inputs in one batch (`tests/property/test_tables.py`). A derivation therefore reads no
clock, no random source and no global, and depends on no order but sorted order.

A derivation that raises is a defect of ours, not of the user: the row keeps its last good value, alone, and a `Fault`
tells what happened; it is tried again when anything it read changes.

This module must not know what the rows mean.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

_NOTHING: tuple[Any, ...] = ()
_FEW = 16


class Index(Generic[K, R]):
    """The rows of one table grouped by index keys: `of(key, row)` names the groups that a row belongs to."""

    __slots__ = ("name", "of", "table")

    def __init__(self, table: Table[K, R], name: str, of: Callable[[K, R], Iterable[Hashable]]) -> None:
        self.table = table
        self.name = name
        self.of = of

    def __repr__(self) -> str:
        return f"{self.table.name}.{self.name}"


class Table(Generic[K, R]):
    """The declaration of a table. It holds no rows: an `Engine` does, so that one declaration serves many engines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.indexes: list[Index[K, R]] = []

    def index(self, name: str, of: Callable[[K, R], Iterable[Hashable]]) -> Index[K, R]:
        """Declare an index; to be done where the table is declared, before any engine is made from it."""
        made = Index(self, name, of)
        self.indexes.append(made)
        return made

    def __repr__(self) -> str:
        return f"<table {self.name}>"


class Input(Table[K, R]):
    """A table that sources write."""


class Derived(Table[K, R]):
    """A table whose rows a pure function makes.

    `keys` says which rows there are: the union, over its sources, of the keys that each row of a source names.
    `derive(key, look)` makes the row, or None where there is none.
    """

    def __init__(self, name: str, *, keys: Iterable[Keys], derive: Callable[[K, Look], R | None]) -> None:
        super().__init__(name)
        self.keys = tuple(keys)
        self.derive = derive


class Keys(msgspec.Struct, frozen=True):
    """One source of a derived table's keys: every row of `table` names the derived keys `of(key, row)`."""

    table: Table[Any, Any]
    of: Callable[[Any, Any], Iterable[Hashable]]


def each(table: Table[Any, Any], of: Callable[[Any, Any], Iterable[Hashable]] | None = None) -> Keys:
    """Keys of a derived table: those that `of(key, row)` names, by default the source's own key."""
    return Keys(table, of if of is not None else _own_key)


def _own_key(key: Hashable, row: object) -> Iterable[Hashable]:  # noqa: ARG001 - the signature of `Keys.of`
    return (key,)


def derived(name: str, *keys: Keys) -> Callable[[Callable[[K, Look], R | None]], Derived[K, R]]:
    """Declare a derived table from the function below the decorator; the name then means the table."""

    def declare(derive: Callable[[K, Look], R | None]) -> Derived[K, R]:
        table = Derived(name, keys=keys, derive=derive)
        table.__doc__ = derive.__doc__
        return table

    return declare


class Change(msgspec.Struct, frozen=True):
    """One row of an input table as a source wants it; `row=None` removes it."""

    table: Input[Any, Any]
    key: Hashable
    row: Any


class Fault(msgspec.Struct, frozen=True):
    """A derivation that raised: which row, and the exception as a person should read it."""

    table: str
    key: Hashable
    error: str


class Commit(msgspec.Struct, frozen=True):
    """What a batch changed: per table and key the old and the new row, None where there is none."""

    number: int
    changes: Mapping[Table[Any, Any], Mapping[Any, tuple[Any, Any]]]
    computed: int

    def of(self, table: Table[K, R]) -> Mapping[K, tuple[R | None, R | None]]:
        """The changes of one table: key → (old row, new row)."""
        return self.changes.get(table, {})


class _Stored:
    """The rows of one table in one engine, with the groups of its indexes and who reads what."""

    __slots__ = (
        "groups",
        "index_readers",
        "position",
        "readers",
        "rows",
        "sorted_groups",
        "spawns",
        "table",
        "unsorted",
    )

    def __init__(self, table: Table[Any, Any], position: int) -> None:
        self.table = table
        self.position = position
        self.rows: dict[Any, Any] = {}
        self.readers: dict[Any, set[tuple[int, Any]]] = {}
        self.groups: list[dict[Any, set[Any]]] = [{} for _ in table.indexes]
        self.sorted_groups: list[dict[Any, tuple[Any, ...]]] = [{} for _ in table.indexes]
        self.unsorted: list[dict[Any, set[Any]]] = [{} for _ in table.indexes]
        self.index_readers: list[dict[Any, set[tuple[int, Any]]]] = [{} for _ in table.indexes]
        self.spawns: list[tuple[int, Callable[[Any, Any], Iterable[Hashable]]]] = []


class Reader(Protocol):
    """What reads rows: a derivation's `Look`, or `Present` for those who only ask."""

    def __call__(self, table: Table[K, R], key: K) -> R | None:
        """The row at a key, or None."""
        ...

    def keys(self, index: Index[K, R], group: Hashable) -> tuple[K, ...]:
        """The keys of the rows in a group, sorted."""
        ...

    def rows(self, index: Index[K, R], group: Hashable) -> tuple[R, ...]:
        """The rows of a group, in the order of their keys."""
        ...


class Look:
    """A derivation's only window: reads rows and groups of earlier tables, and remembers what was read."""

    __slots__ = ("_engine", "_position", "_reads")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._position = 0
        self._reads: dict[tuple[int, int, Any], None] = {}

    def __call__(self, table: Table[K, R], key: K) -> R | None:
        """The row at a key, or None."""
        stored = self._engine._stored[table]
        if stored.position >= self._position:
            raise LookupError(f"{table} is not declared before the table that reads it")
        self._reads[stored.position, -1, key] = None
        return cast("R | None", stored.rows.get(key))

    def keys(self, index: Index[K, R], group: Hashable) -> tuple[K, ...]:
        """The keys of the rows in a group, sorted."""
        stored = self._engine._stored[index.table]
        if stored.position >= self._position:
            raise LookupError(f"{index.table} is not declared before the table that reads it")
        number = index.table.indexes.index(index)
        self._reads[stored.position, number, group] = None
        return self._engine._group(stored, number, group)

    def rows(self, index: Index[K, R], group: Hashable) -> tuple[R, ...]:
        """The rows of a group, in the order of their keys."""
        return tuple(row for key in self.keys(index, group) if (row := self(index.table, key)) is not None)


class Engine:
    """Holds the rows of a fixed list of tables, in the order of their derivation.

    Not safe for threads: one caller at a time commits, and nobody reads while it does.
    """

    def __init__(self, tables: Iterable[Table[Any, Any]]) -> None:
        self._order = [_Stored(table, position) for position, table in enumerate(tables)]
        self._stored = {stored.table: stored for stored in self._order}
        self._reads: list[dict[Any, tuple[tuple[int, int, Any], ...]]] = [{} for _ in self._order]
        self._wanted: list[dict[Any, int]] = [{} for _ in self._order]
        self._dirty: list[set[Any]] = [set() for _ in self._order]
        self._look = Look(self)
        self.faults: dict[tuple[str, Hashable], Fault] = {}
        self.number = 0
        for stored in self._order:
            self._wire(stored)

    def _wire(self, stored: _Stored) -> None:
        if not isinstance(stored.table, Derived):
            return
        for keys in stored.table.keys:
            source = self._stored.get(keys.table)
            if source is None or source.position >= stored.position:
                raise LookupError(f"{keys.table} must be declared before {stored.table}, which takes keys from it")
            source.spawns.append((stored.position, keys.of))

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, table: Table[K, R], key: K) -> R | None:
        """The row at a key, or None."""
        return cast("R | None", self._stored[table].rows.get(key))

    def rows(self, table: Table[K, R]) -> Mapping[K, R]:
        """All rows of a table, unsorted; a live view that must not be kept across a commit."""
        return self._stored[table].rows

    def group(self, index: Index[K, R], group: Hashable) -> tuple[K, ...]:
        """The keys of the rows in a group of an index, sorted."""
        return self._group(self._stored[index.table], index.table.indexes.index(index), group)

    def origins(self, table: Table[K, R], key: K) -> dict[Input[Any, Any], tuple[Any, ...]]:
        """The input rows that a row was made from: the provenance that `explain` and statuses use.

        Follows recorded reads, not values: an input that was read and made no difference is an origin too.
        """
        found: dict[Input[Any, Any], set[Any]] = {}
        seen: set[tuple[int, Any]] = set()
        todo: list[tuple[int, Any]] = [(self._stored[table].position, key)]
        while todo:
            position, at = todo.pop()
            if (position, at) in seen:
                continue
            seen.add((position, at))
            stored = self._order[position]
            if isinstance(stored.table, Input):
                if at in stored.rows:
                    found.setdefault(stored.table, set()).add(at)
                continue
            todo.extend(self._read_rows(position, at))
        return {table: tuple(sorted(keys)) for table, keys in sorted(found.items(), key=lambda item: item[0].name)}

    def dependents(self, table: Table[K, R], key: K, *, among: frozenset[Table[Any, Any]]) -> list[Any]:
        """The keys of the rows of `among` that were made from a row, directly or through others; sorted.

        The other direction of `origins`. Cost follows the number of rows between.
        """
        found: set[Any] = set()
        start = (self._stored[table].position, key)
        seen: set[tuple[int, Any]] = {start}
        todo: list[tuple[int, Any]] = [start]
        while todo:
            position, at = todo.pop()
            stored = self._order[position]
            if stored.table in among:
                found.add(at)
                continue
            new = self._readers_of(stored, at) - seen
            seen |= new
            todo.extend(new)
        return sorted(found)

    def _readers_of(self, stored: _Stored, key: Any) -> set[tuple[int, Any]]:
        readers = set(stored.readers.get(key, _NOTHING))
        row = stored.rows.get(key)
        for number, index in enumerate(stored.table.indexes):
            for group in _named(index.of, key, row):
                readers |= stored.index_readers[number].get(group, set())
        return readers

    def _read_rows(self, position: int, key: Any) -> Iterator[tuple[int, Any]]:
        for of, number, at in self._reads[position].get(key, _NOTHING):
            if number < 0:
                yield of, at
            else:
                yield from ((of, member) for member in self._order[of].groups[number].get(at, _NOTHING))

    # -- writing ------------------------------------------------------------------------------------------------

    def commit(self, changes: Iterable[Change]) -> Commit:
        """Apply a batch and derive all that follows; of two changes of one row in a batch the later one holds.

        Cost follows what changed, not the size of the tables.
        """
        done: dict[Table[Any, Any], dict[Any, tuple[Any, Any]]] = {}
        for change in changes:
            stored = self._stored[change.table]
            if not isinstance(stored.table, Input):
                raise TypeError(f"{stored.table} is derived: write the inputs it is made from")
            self._put(stored, change.key, change.row, done)
        computed = 0
        for stored in self._order:
            dirty = self._dirty[stored.position]
            if dirty:
                self._dirty[stored.position] = set()
                computed += len(dirty)
                for key in dirty:
                    self._derive(stored, key, done)
        self.number += 1
        changed = {
            table: kept
            for table, rows in done.items()
            if (kept := {key: pair for key, pair in rows.items() if pair[0] != pair[1]})
        }
        return Commit(number=self.number, changes=changed, computed=computed)

    def _derive(self, stored: _Stored, key: Any, done: dict[Table[Any, Any], dict[Any, tuple[Any, Any]]]) -> None:
        table = cast("Derived[Any, Any]", stored.table)
        if key not in self._wanted[stored.position]:
            self._remember_reads(stored.position, key, _NOTHING)
            self.faults.pop((table.name, key), None)
            self._put(stored, key, None, done)
            return
        look = self._look
        look._position = stored.position
        look._reads = {}
        try:
            self._put(stored, key, table.derive(key, look), done)
        except Exception as error:  # noqa: BLE001 - any defect of a derivation is contained to its row
            self.faults[table.name, key] = Fault(table.name, key, f"{type(error).__name__}: {error}")
        else:
            self.faults.pop((table.name, key), None)
        self._remember_reads(stored.position, key, tuple(look._reads))

    def _put(
        self, stored: _Stored, key: Any, row: Any, done: dict[Table[Any, Any], dict[Any, tuple[Any, Any]]]
    ) -> None:
        old = stored.rows.get(key)
        if old is row or (old is not None and row is not None and old == row):
            return
        # What can raise comes first: a row is put whole, or not at all.
        groups = [(_named(index.of, key, old), _named(index.of, key, row)) for index in stored.table.indexes]
        spawned = [(position, _named(of, key, old), _named(of, key, row)) for position, of in stored.spawns]
        if row is None:
            del stored.rows[key]
        else:
            stored.rows[key] = row
        rows = done.setdefault(stored.table, {})
        rows[key] = (rows[key][0] if key in rows else old, row)
        self._mark(stored.readers.get(key))
        for number, (left, joined) in enumerate(groups):
            self._regroup(stored, number, key, left, joined)
        for position, left, joined in spawned:
            self._respawn(position, left, joined)

    def _regroup(self, stored: _Stored, number: int, key: Any, old: set[Any], new: set[Any]) -> None:
        groups = stored.groups[number]
        for group in old ^ new:
            if group in new:
                groups.setdefault(group, set()).add(key)
            else:
                groups[group].discard(key)
            if not groups[group]:
                del groups[group]
                stored.sorted_groups[number].pop(group, None)
                stored.unsorted[number].pop(group, None)
            elif group in stored.sorted_groups[number]:
                stored.unsorted[number].setdefault(group, set()).add(key)
            self._mark(stored.index_readers[number].get(group))

    def _respawn(self, position: int, old: set[Any], new: set[Any]) -> None:
        wanted = self._wanted[position]
        for key in old ^ new:
            before = wanted.get(key, 0)
            count = before + (1 if key in new else -1)
            if count:
                wanted[key] = count
            else:
                del wanted[key]
            if not before or not count:
                # One more source that names a key leaves its row as it is: that follows from what it reads.
                self._dirty[position].add(key)

    def _mark(self, readers: set[tuple[int, Any]] | None) -> None:
        if readers:
            for position, key in readers:
                self._dirty[position].add(key)

    def _group(self, stored: _Stored, number: int, group: Any) -> tuple[Any, ...]:
        known = stored.sorted_groups[number].get(group)
        changed = stored.unsorted[number].pop(group, _NOTHING)
        if known is not None and not changed:
            return known
        members = stored.groups[number].get(group)
        if members is None:
            return _NOTHING  # not remembered: anybody may ask for any group
        if known is not None and len(changed) <= _FEW:
            known = _mended(known, changed, members)
        else:
            known = tuple(sorted(members))
        stored.sorted_groups[number][group] = known
        return known

    def _remember_reads(self, position: int, key: Any, reads: tuple[tuple[int, int, Any], ...]) -> None:
        """Put what a row read in the place of what it read before, which is mostly the same."""
        before = self._reads[position].get(key, _NOTHING)
        if reads == before:
            return
        reader = (position, key)
        for read in before:
            readers = self._readers(read)
            left = readers[read[2]]
            left.discard(reader)
            if not left:
                del readers[read[2]]
        for read in reads:
            self._readers(read).setdefault(read[2], set()).add(reader)
        if reads:
            self._reads[position][key] = reads
        else:
            self._reads[position].pop(key, None)

    def _readers(self, read: tuple[int, int, Any]) -> dict[Any, set[tuple[int, Any]]]:
        of, number, _ = read
        stored = self._order[of]
        return stored.readers if number < 0 else stored.index_readers[number]


class Present:
    """Reads an engine's present rows with the functions that derivations use, and records nothing."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, table: Table[K, R], key: K) -> R | None:
        """The row at a key, or None."""
        return self._engine.get(table, key)

    def keys(self, index: Index[K, R], group: Hashable) -> tuple[K, ...]:
        """The keys of the rows in a group, sorted."""
        return self._engine.group(index, group)

    def rows(self, index: Index[K, R], group: Hashable) -> tuple[R, ...]:
        """The rows of a group, in the order of their keys."""
        return tuple(self._engine.rows(index.table)[key] for key in self.keys(index, group))


def _mended(known: tuple[Any, ...], changed: Iterable[Any], members: set[Any]) -> tuple[Any, ...]:
    """A sorted group after a few keys came or went: a search for each instead of sorting thousands anew."""
    keys = list(known)
    for key in changed:
        at = bisect_left(keys, key)
        there = at < len(keys) and keys[at] == key
        if key in members and not there:
            keys.insert(at, key)
        elif there and key not in members:
            del keys[at]
    return tuple(keys)


def _named(of: Callable[[Any, Any], Iterable[Hashable]], key: Any, row: Any) -> set[Any]:
    return set() if row is None else set(of(key, row))
