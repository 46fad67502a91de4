from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from mesh.tables import Change, Derived, Engine, Input, Look, Present, derived, each


def put(engine: Engine, table: Input[Any, Any], **rows: Any) -> Any:
    return engine.commit([Change(table, key, row) for key, row in rows.items()])


class Words:
    """Words in, their lengths and the longest per first letter out; counts what is computed."""

    def __init__(self) -> None:
        self.computed: list[tuple[str, str]] = []
        self.words: Input[str, str] = Input("words")
        self.by_letter = self.words.index("letter", lambda _, word: word[:1])
        self.lengths: Derived[str, int] = derived("lengths", each(self.words))(self._length)
        self.longest: Derived[str, int] = derived("longest", each(self.words, lambda _, word: word[:1]))(self._longest)
        self.engine = Engine([self.words, self.lengths, self.longest])

    def _length(self, key: str, look: Look) -> int | None:
        self.computed.append(("lengths", key))
        word = look(self.words, key)
        if word == "boom":
            raise ValueError("boom")
        return len(word) if word is not None else None

    def _longest(self, key: str, look: Look) -> int:
        self.computed.append(("longest", key))
        return max((look(self.lengths, at) or 0 for at in look.keys(self.by_letter, key)), default=0)

    def put(self, **rows: str | None) -> Any:
        self.computed.clear()
        return put(self.engine, self.words, **rows)


def test_a_derived_row_follows_its_source() -> None:
    words = Words()
    words.put(one="apple", two="avocado")
    assert words.engine.rows(words.lengths) == {"one": 5, "two": 7}
    assert words.engine.get(words.longest, "a") == 7
    words.put(two="ant")
    assert words.engine.get(words.longest, "a") == 5
    words.put(one=None, two=None)
    assert words.engine.rows(words.lengths) == {}
    assert words.engine.rows(words.longest) == {}


def test_only_rows_whose_reads_changed_are_computed_again() -> None:
    words = Words()
    words.put(one="apple", two="banana", three="cherry")
    commit = words.put(two="bananas")
    assert sorted(words.computed) == [("lengths", "two"), ("longest", "b")]
    assert commit.computed == 2


def test_a_row_that_comes_out_equal_stops_the_wave() -> None:
    words = Words()
    words.put(one="apple", two="avocado")
    commit = words.put(one="ankle")
    assert words.computed == [("lengths", "one")]
    assert set(commit.changes) == {words.words}


def test_a_batch_computes_each_row_once() -> None:
    words = Words()
    words.put(one="apple", two="avocado", three="ant")
    assert sorted(words.computed).count(("longest", "a")) == 1


def test_a_commit_tells_old_and_new_rows_and_counts_up() -> None:
    words = Words()
    first = words.put(one="apple")
    second = words.put(one="fig")
    assert first.of(words.lengths) == {"one": (None, 5)}
    assert second.of(words.lengths) == {"one": (5, 3)}
    assert second.of(words.longest) == {"a": (5, None), "f": (None, 3)}
    assert (first.number, second.number) == (1, 2)


def test_of_two_changes_of_one_row_in_a_batch_the_later_holds_and_a_round_trip_is_no_change() -> None:
    words = Words()
    words.put(one="apple")
    changes = [Change(words.words, "one", "fig"), Change(words.words, "one", "apple")]
    assert words.engine.commit(changes).changes == {}
    assert words.engine.get(words.lengths, "one") == 5
    commit = words.engine.commit(reversed(changes))
    assert commit.of(words.lengths) == {"one": (5, 3)}


def test_removing_what_is_not_there_changes_nothing() -> None:
    words = Words()
    assert words.put(one=None).changes == {}


def test_a_derivation_that_raises_keeps_its_last_good_row_alone() -> None:
    words = Words()
    words.put(one="apple", two="avocado")
    commit = words.put(one="boom", two="ant")
    assert words.engine.rows(words.lengths) == {"one": 5, "two": 3}
    assert words.engine.get(words.longest, "a") == 3
    ((at, fault),) = words.engine.faults.items()
    assert at == ("lengths", "one")
    assert fault.error == "ValueError: boom"
    assert "one" not in commit.of(words.lengths)


def test_a_row_that_raised_is_tried_again_when_what_it_read_changes() -> None:
    words = Words()
    words.put(one="boom")
    assert words.engine.rows(words.lengths) == {}
    words.put(one="apple")
    assert words.engine.rows(words.lengths) == {"one": 5}
    assert words.engine.faults == {}


def test_a_fault_goes_with_its_row() -> None:
    words = Words()
    words.put(one="boom")
    words.put(one=None)
    assert words.engine.faults == {}


def test_an_index_that_raises_is_a_fault_of_the_row_that_it_was_given() -> None:
    numbers: Input[str, int] = Input("numbers")

    @derived("copies", each(numbers))
    def copies(key: str, look: Look) -> int | None:
        return look(numbers, key)

    groups = copies.index("inverse", lambda _, row: (100 // row,))
    engine = Engine([numbers, copies])
    put(engine, numbers, a=10, b=20)
    put(engine, numbers, a=0, b=50)
    assert engine.rows(copies) == {"a": 10, "b": 50}
    assert engine.faults["copies", "a"].error.startswith("ZeroDivisionError")
    assert engine.group(groups, 10) == ("a",)
    put(engine, numbers, a=2)
    assert engine.group(groups, 50) == ("a",)
    assert engine.group(groups, 10) == ()
    assert engine.faults == {}


def test_a_group_is_sorted_and_an_empty_group_is_read_as_well() -> None:
    words = Words()

    @derived("roll", each(words.words, lambda key, _: ("all",)))
    def roll(key: str, look: Look) -> tuple[str, ...]:
        return look.rows(words.by_letter, "z")

    engine = Engine([words.words, roll])
    put(engine, words.words, b="apple")
    assert engine.get(roll, "all") == ()
    put(engine, words.words, d="zebra", c="zoo")
    assert engine.get(roll, "all") == ("zoo", "zebra")
    assert engine.group(words.by_letter, "z") == ("c", "d")
    assert Present(engine).rows(words.by_letter, "z") == ("zoo", "zebra")
    assert Present(engine)(roll, "all") == ("zoo", "zebra")


def test_a_derived_key_named_by_several_rows_lives_until_the_last_of_them_goes() -> None:
    words = Words()
    words.put(one="apple", two="ant")
    words.put(one=None)
    assert words.engine.get(words.longest, "a") == 3
    words.put(two=None)
    assert words.engine.get(words.longest, "a") is None


def test_one_more_row_that_names_a_key_does_not_compute_it_again() -> None:
    computed: list[str] = []
    words: Input[str, str] = Input("words")

    def greet(key: str, _look: Look) -> str:
        computed.append(key)
        return f"hello {key}"

    greetings = derived("greetings", each(words, lambda _, word: word[:1]))(greet)
    engine = Engine([words, greetings])
    put(engine, words, one="apple")
    put(engine, words, two="ant")
    put(engine, words, one=None)
    assert computed == ["a"]
    put(engine, words, two=None)
    assert engine.rows(greetings) == {}


def test_origins_are_the_inputs_that_a_row_was_made_from() -> None:
    words = Words()
    words.put(one="apple", two="avocado", three="banana")
    assert words.engine.origins(words.longest, "a") == {words.words: ("one", "two")}
    assert words.engine.origins(words.lengths, "three") == {words.words: ("three",)}
    assert words.engine.origins(words.lengths, "nope") == {}


def test_derived_tables_cannot_be_written() -> None:
    words = Words()
    with pytest.raises(TypeError, match="derived"):
        words.engine.commit([Change(words.lengths, "one", 1)])  # type: ignore[arg-type]


def test_a_derivation_reads_only_tables_declared_before_its_own() -> None:
    source: Input[str, int] = Input("source")
    later: Input[str, int] = Input("later")
    group = later.index("all", lambda key, row: ("all",))

    @derived("early", each(source))
    def early(key: str, look: Look) -> int | None:
        return look(later, key)

    @derived("early_group", each(source))
    def early_group(key: str, look: Look) -> int | None:
        return len(look.keys(group, "all"))

    engine = Engine([source, early, early_group, later])
    put(engine, source, a=1)
    assert {fault.table for fault in engine.faults.values()} == {"early", "early_group"}
    with pytest.raises(LookupError, match="must be declared before"):
        Engine([early, source])


def test_two_engines_over_the_same_tables_do_not_meet() -> None:
    words = Words()
    other = Engine([words.words, words.lengths, words.longest])
    words.put(one="apple")
    assert other.rows(words.lengths) == {}


def footprint(engine: Engine) -> int:
    """How many entries the engine's books hold."""
    books: Iterable[Any] = (
        part
        for stored in engine._order
        for part in (stored.readers, stored.rows, *stored.groups, *stored.sorted_groups, *stored.unsorted)
    )
    kept = sum(len(book) for book in books)
    readers = (part for stored in engine._order for part in stored.index_readers)
    return kept + sum(len(book) for book in (*readers, *engine._reads, *engine._wanted))


def test_nothing_is_left_of_rows_that_went() -> None:
    words = Words()
    words.put(keep="apple")
    before = footprint(words.engine)
    for number in range(50):
        words.put(**{f"w{number}": f"{chr(97 + number % 26)}word{number}"})
        words.engine.group(words.by_letter, f"no such group {number}")
    words.put(**{f"w{number}": None for number in range(50)})
    assert footprint(words.engine) == before


def test_the_cost_of_a_change_does_not_grow_with_the_table() -> None:
    for size in (10, 1000):
        words = Words()
        words.put(**{f"w{number}": f"{number}word" for number in range(size)})
        assert words.put(w5="5").computed <= 2
