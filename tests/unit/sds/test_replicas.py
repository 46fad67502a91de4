"""Replicas with one authority: a new root signs when the proxies of all of them have it, and whoever is killed."""

from __future__ import annotations

from sds.replicas import FORGOTTEN, GONE, Others, Sight, digest, seen
from sds.rotation import Gate

ROOTS = b"old and new"
OPEN = Gate()
SETTLE = 60.0


def sight(
    replica: str, beat: int = 1, *, waiting: tuple[str, ...] = (), roots: bytes = ROOTS, known: bool = True
) -> Sight:
    return seen(replica, beat, roots, Gate(waiting, known))


def others(*sights: Sight, at: float = 0.0) -> Others:
    made = Others("one", SETTLE)
    made.read(sights, at)
    return made


def test_it_is_open_when_the_proxies_of_all_replicas_have_the_bundle() -> None:
    found = others(sight("two", waiting=("b",)), sight("three"))
    assert found.gate(Gate(("a",)), ROOTS, 1.0).waiting == ("a", "b")
    found.read([sight("two", 2), sight("three")], 2.0)
    assert found.gate(OPEN, ROOTS, 3.0).open


def test_it_is_closed_as_long_as_nobody_knows_what_the_others_see() -> None:
    alone = Others("one", SETTLE)
    assert not alone.gate(OPEN, ROOTS, 0.0).open
    alone.read([], 0.0)
    assert alone.gate(OPEN, ROOTS, 1.0).open
    alone.lost()
    assert not alone.gate(OPEN, ROOTS, 2.0).open


def test_what_a_replica_said_of_itself_is_not_taken_for_anothers() -> None:
    assert others(sight("one", waiting=("a",), known=False)).gate(OPEN, ROOTS, 1.0).open


def test_one_that_has_not_published_the_bundle_or_does_not_know_its_proxies_yet_keeps_it_closed() -> None:
    assert not others(sight("two", roots=b"old")).gate(OPEN, ROOTS, 1.0).open
    assert not others(sight("two", known=False)).gate(OPEN, ROOTS, 1.0).open


def test_one_that_is_gone_is_waited_for_until_its_proxies_have_had_the_time_to_come_elsewhere() -> None:
    killed = sight("two", waiting=("b",))
    found = others(killed)
    for now in (GONE - 1, GONE + 1, GONE + SETTLE - 1):
        found.read([killed], now)
        assert not found.gate(OPEN, ROOTS, now).open
    assert found.gate(OPEN, ROOTS, GONE + SETTLE).open


def test_one_that_is_gone_and_lacked_nothing_is_not_waited_for() -> None:
    assert others(sight("two")).gate(OPEN, ROOTS, GONE + 1).open


def test_one_that_goes_on_speaking_is_not_gone() -> None:
    found = others(sight("two", waiting=("b",)))
    for turn in range(1, 40):
        found.read([sight("two", turn, waiting=("b",))], turn * 5.0)
    assert found.gate(OPEN, ROOTS, 39 * 5.0 + GONE - 1).waiting == ("b",)


def test_many_that_are_waited_for_are_counted_and_some_are_named() -> None:
    waiting = tuple(f"n{number:04}" for number in range(5_000))
    made = seen("two", 1, ROOTS, Gate(waiting))
    assert (len(made.waiting), made.more, made.roots) == (100, 4_900, digest(ROOTS))
    gate = others(made).gate(OPEN, ROOTS, 1.0)
    assert not gate.open
    assert "4900 more of two" in gate.waiting


def test_what_those_left_behind_that_are_long_gone_is_removed() -> None:
    found = others(sight("two"))
    assert found.forgotten(FORGOTTEN - 1) == []
    assert found.forgotten(FORGOTTEN) == ["two"]
    found.read([], FORGOTTEN)
    assert found.forgotten(FORGOTTEN) == []
