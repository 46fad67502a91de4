"""The law of the engine: after any sequence of batches the rows are those of a fresh engine with the same inputs."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.all_tables import TABLES
from mesh.attachments import ATTACHED, ATTACHMENTS
from mesh.explain import explain
from mesh.gateways import GATEWAYS
from mesh.tables import Change, Derived, Engine, Input, Look, Table, derived, each
from tests.support.configs import batches
from xds.translate.tables import TABLES as EVERYTHING


def fresh(engine: Engine, tables: tuple[Table[Any, Any], ...]) -> Engine:
    """A new engine that gets the inputs of another in one batch."""
    made = Engine(tables)
    made.commit(
        [
            Change(table, key, row)
            for table in tables
            if isinstance(table, Input)
            for key, row in engine.rows(table).items()
        ]
    )
    return made


def contents(engine: Engine, tables: tuple[Table[Any, Any], ...]) -> dict[str, Any]:
    """All rows and all groups, as values."""
    rows: dict[str, Any] = {table.name: dict(engine.rows(table)) for table in tables}
    for table in tables:
        for number, index in enumerate(table.indexes):
            groups: dict[Hashable, set[Any]] = engine._stored[table].groups[number]
            rows[repr(index)] = {group: engine.group(index, group) for group in groups}
            assert all(list(rows[repr(index)][group]) == sorted(members) for group, members in groups.items())
    return rows


# -- a chain of tables with groups, rows that vanish, keys from several sources, and derivations that raise

NUMBERS: Input[str, int] = Input("numbers")
EXTRA: Input[str, int] = Input("extra")
BY_REST = NUMBERS.index("rest", lambda _, number: (number % 3,))


@derived("halves", each(NUMBERS), each(EXTRA))
def HALVES(key: str, look: Look) -> int | None:  # noqa: N802
    number = (look(NUMBERS, key) or 0) + (look(EXTRA, key) or 0)
    if number % 7 == 6:
        raise ValueError(f"{number} is not liked")
    return number // 2 if number % 5 else None


BY_SIZE = HALVES.index("size", lambda _, half: (half // 4, -1) if half > 2 else ())


@derived("sums", each(NUMBERS, lambda _, number: (number % 3,)), each(HALVES, lambda _, half: (half // 4,)))
def SUMS(key: int, look: Look) -> int:  # noqa: N802
    return sum(look.rows(BY_SIZE, key)) + sum(look.rows(BY_REST, key))


@derived("winners", each(SUMS, lambda key, row: ("even" if row % 2 == 0 else "odd",)))
def WINNERS(key: str, look: Look) -> tuple[str, ...]:  # noqa: N802
    best = [name for name in look.keys(BY_SIZE, -1) if (look(HALVES, name) or 0) % 2 == (key == "odd")]
    if len(best) > 3:
        raise LookupError("too many")
    return tuple(best)


CHAIN: tuple[Table[Any, Any], ...] = (NUMBERS, EXTRA, HALVES, SUMS, WINNERS)
keys = st.sampled_from("abcdef")
numbers = st.none() | st.integers(0, 20)
chain_changes = st.builds(Change, st.sampled_from((NUMBERS, EXTRA)), keys, numbers)
chain_batches = st.lists(st.lists(chain_changes, max_size=5), max_size=12)


def liked(engine: Engine) -> list[Change]:
    """The changes after which no derivation of the chain raises."""
    return [
        *(Change(EXTRA, key, None) for key in engine.rows(EXTRA)),
        *(Change(NUMBERS, key, 3) for key in engine.rows(NUMBERS)),
    ]


@settings(max_examples=200, deadline=None)
@given(chain_batches)
def test_incremental_equals_from_scratch_on_a_chain_of_tables(steps: list[list[Change]]) -> None:
    engine = Engine(CHAIN)
    for step in steps:
        before = contents(engine, CHAIN)
        commit = engine.commit(step)
        after = contents(engine, CHAIN)
        for table in CHAIN:
            told = commit.of(table)
            changed = {
                key
                for key in {*before[table.name], *after[table.name]}
                if before[table.name].get(key) != after[table.name].get(key)
            }
            assert set(told) == changed, "a commit tells exactly what changed"
        again = fresh(engine, CHAIN)
        first_faults = {at for at in engine.faults if at[0] == "halves"}
        assert first_faults == {at for at in again.faults if at[0] == "halves"}
        if not engine.faults:
            assert after == contents(again, CHAIN)


@settings(max_examples=100, deadline=None)
@given(chain_batches)
def test_no_fault_outlives_its_cause(steps: list[list[Change]]) -> None:
    engine = Engine(CHAIN)
    for step in steps:
        engine.commit(step)
    engine.commit(liked(engine))
    assert engine.faults == {}
    assert contents(engine, CHAIN) == contents(fresh(engine, CHAIN), CHAIN)


@settings(max_examples=50, deadline=None)
@given(chain_batches)
def test_nothing_is_left_in_the_books_when_all_inputs_are_gone(steps: list[list[Change]]) -> None:
    engine = Engine(CHAIN)
    for step in steps:
        engine.commit(step)
    engine.commit([Change(table, key, None) for table in (NUMBERS, EXTRA) for key in engine.rows(table)])
    empty = Engine(CHAIN)
    for stored, clean in zip(engine._order, empty._order, strict=True):
        assert (stored.rows, stored.readers, stored.groups) == (clean.rows, clean.readers, clean.groups)
        assert (stored.sorted_groups, stored.unsorted) == (clean.sorted_groups, clean.unsorted)
        assert stored.index_readers == clean.index_readers
    assert (engine._reads, engine._wanted, engine._dirty) == (empty._reads, empty._wanted, empty._dirty)


# -- the tables of the model


@settings(max_examples=100, deadline=None)
@given(batches)
def test_incremental_equals_from_scratch_down_to_the_bytes_for_envoy(steps: list[list[Change]]) -> None:
    engine = Engine(EVERYTHING)
    for step in steps:
        engine.commit(step)
        assert engine.faults == {}
    assert contents(engine, EVERYTHING) == contents(fresh(engine, EVERYTHING), EVERYTHING)


@settings(max_examples=150, deadline=None)
@given(batches)
def test_incremental_equals_from_scratch_on_the_model(steps: list[list[Change]]) -> None:
    engine = Engine(TABLES)
    for step in steps:
        engine.commit(step)
        assert engine.faults == {}
    assert contents(engine, TABLES) == contents(fresh(engine, TABLES), TABLES)


@settings(max_examples=100, deadline=None)
@given(batches)
def test_attached_routes_are_counted_as_a_plain_count_would(steps: list[list[Change]]) -> None:
    engine = Engine(TABLES)
    for step in steps:
        engine.commit(step)
    counts: dict[Any, set[Any]] = {}
    for key, row in engine.rows(ATTACHMENTS).items():
        for parent in row.parents:
            for at in parent.listeners:
                assert parent.accepted
                assert at.hostnames
                counts.setdefault((at.gateway, at.listener), set()).add(key)
    assert {key: len(routes) for key, routes in counts.items()} == dict(engine.rows(ATTACHED))


@settings(max_examples=100, deadline=None)
@given(
    batches,
    st.sampled_from(("http", "https")),
    st.sampled_from(("a.com", "b.a.com", "c.b.a.com", "org", "net")),
    st.sampled_from((80, 81, 443)),
    st.sampled_from(("/", "/p", "/p/q/r", "/x")),
)
def test_every_request_to_every_gateway_has_an_explanation(
    steps: list[list[Change]], scheme: str, host: str, port: int, path: str
) -> None:
    engine = Engine(TABLES)
    for step in steps:
        engine.commit(step)
    for key, gateway in engine.rows(GATEWAYS).items():
        answer = explain(engine, key, method="GET", url=f"{scheme}://{host}:{port}{path}?q=1", headers=[("h", "1")])
        assert answer.why
        if answer.route is not None:
            listener = gateway.listener(answer.listener)
            assert listener is not None
            assert listener.programmed
            assert (listener.port, listener.protocol) == (port, scheme.upper())
            assert answer.route in engine.rows(ATTACHMENTS)


def test_every_table_of_the_model_is_declared_once_and_after_what_it_takes_keys_from() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
    for position, table in enumerate(TABLES):
        if isinstance(table, Derived):
            assert all(TABLES.index(source.table) < position for source in table.keys)
