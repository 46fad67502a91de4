"""What replicas tell each other of requests: totals, from which whoever reads them takes what is new, once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model import Tally
from policy.measures import Counts, Times
from policy.shared_counts import FORGOTTEN_AFTER, Others, written

CLUSTER = "default/shop-v2:80"


def counts(succeeded: int, failed: int = 0) -> Counts:
    return Counts({CLUSTER: Tally(succeeded, failed)}, {})


def new(others: Others, now: float = 0.0, **rows: bytes) -> Tally:
    found = Tally()
    for more in others.take(rows, now):
        found = found.plus(more.tallies.get(CLUSTER, Tally()))
    return found


def test_one_that_is_seen_first_counts_from_there_on_and_each_request_once() -> None:
    others = Others()
    assert new(others, one=written(counts(100, 9), beat=1)) == Tally()
    assert new(others, one=written(counts(103, 10), beat=2)) == Tally(3, 1)
    assert new(others, one=written(counts(103, 10), beat=2)) == Tally()
    assert new(others, one=written(counts(110, 10), beat=9), two=written(counts(50), beat=1)) == Tally(7, 0)
    assert new(others, one=written(counts(111, 10), beat=10), two=written(counts(55), beat=2)) == Tally(6, 0)


def test_a_cluster_that_a_known_replica_tells_of_first_counts_whole() -> None:
    others = Others()
    new(others, one=written(Counts({}, {}), beat=1))
    assert new(others, one=written(counts(5, 1), beat=2)) == Tally(5, 1)


def test_a_total_that_goes_back_began_anew() -> None:
    others = Others()
    new(others, one=written(counts(100, 10), beat=1))
    assert new(others, one=written(counts(4, 1), beat=2)) == Tally(4, 1)
    assert new(others, one=written(counts(6, 1), beat=3)) == Tally(2, 0)


def test_one_that_left_and_comes_back_is_seen_for_the_first_time() -> None:
    others = Others()
    new(others, one=written(counts(1), beat=1))
    assert new(others) == Tally()
    assert new(others, one=written(counts(50), beat=2)) == Tally()


def test_times_are_taken_once_too() -> None:
    def row(*times: tuple[float, int]) -> bytes:
        return written(Counts({}, {"shop": Times(times)}), beat=1)

    others = Others()
    list(others.take({"one": row((1.0, 5), (math.inf, 6))}, 0.0))
    (more,) = others.take({"one": row((1.0, 7), (10.0, 9), (math.inf, 10))}, 0.0)
    found = more.times["shop"]
    assert (found.count, found.percentile(50)) == (4, 1.0)
    (again,) = others.take({"one": row((1.0, 2), (math.inf, 2))}, 0.0)
    assert again.times["shop"] == Times(((1.0, 2), (math.inf, 2)))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"beat": 1, "requests": {"a": [-1, 0]}}',
        b'{"beat": 1, "requests": {"a": [1e400, 0]}}',
        b'{"beat": 1, "requests": {"a": [99999999999999999999, 0]}}',
        b'{"beat": 1, "times": {"a": {"within": [[1, 5], [2, 3]], "count": 9}}}',
        b'{"beat": 1, "times": {"a": {"within": [[1, 5]], "count": 3}}}',
        b"[" * 100_000,
    ],
)
def test_what_no_replica_wrote_counts_nothing_and_keeps_no_other_from_counting(garbage: bytes) -> None:
    others = Others()
    assert new(others, bad=garbage, one=written(counts(1), beat=1)) == Tally()
    assert new(others, bad=garbage, one=written(counts(3), beat=2)) == Tally(2, 0)


def test_one_whose_row_rests_for_long_is_gone() -> None:
    others = Others()
    new(others, now=0.0, one=written(counts(1), beat=1), two=written(counts(1), beat=1))
    new(others, now=200.0, one=written(counts(1), beat=1), two=written(counts(1), beat=2))
    assert list(others.gone(FORGOTTEN_AFTER - 1)) == []
    assert list(others.gone(FORGOTTEN_AFTER)) == ["one"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=30))
def test_whatever_rows_are_missed_the_sum_of_what_was_new_is_what_was_counted(
    reports: list[tuple[int, int, bool]],
) -> None:
    others, total, heard = Others(), Tally(), Tally()
    new(others, one=written(Counts({CLUSTER: total}, {}), beat=0))
    for beat, (succeeded, failed, read) in enumerate(reports):
        total = total.plus(Tally(succeeded, failed))
        if read:
            heard = heard.plus(new(others, one=written(Counts({CLUSTER: total}, {}), beat=beat)))
    heard = heard.plus(new(others, one=written(Counts({CLUSTER: total}, {}), beat=99)))
    assert heard == total
