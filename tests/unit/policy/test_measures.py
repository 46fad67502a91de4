"""Totals of what proxies report, and percentiles from Envoy's buckets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model import Tally
from policy.measures import Measures, Times

BOUNDS = (1.0, 10.0, 100.0, math.inf)


def test_only_what_is_watched_is_counted_and_what_is_no_longer_is_forgotten() -> None:
    measures = Measures()
    measures.counted("a", 5, 1)
    assert measures.tally("a") == Tally()
    measures.watch(["a"], ["a"])
    measures.counted("a", 5, 1)
    measures.counted("a", 2, 0)
    measures.counted("b", 9, 9)
    measures.times("a", {1.0: 3, math.inf: 4})
    measures.times("b", {1.0: 3, math.inf: 4})
    measures.watch(["a", "b"], ["a", "b"])
    assert (measures.tally("a"), measures.tally("b")) == (Tally(7, 1), Tally())
    assert (measures.timing("a").count, measures.timing("b").count) == (4, 0)
    measures.watch(["b"], [])
    measures.watch(["a"], ["a"])
    assert (measures.tally("a"), measures.timing("a")) == (Tally(), Times())


@pytest.mark.parametrize(
    ("percent", "took"), [(10, 1.0), (5, 0.5), (50, 5.5), (90, 10.0), (95, 55.0), (99, 91.0), (99.5, 95.5)]
)
def test_a_percentile_lies_within_its_bucket_by_its_share(percent: float, took: float) -> None:
    times = Times().plus({1.0: 100, 10.0: 900, 100.0: 1_000, math.inf: 1_000})
    found = times.percentile(percent)
    assert found == pytest.approx(took)


def test_beyond_the_last_bound_nothing_is_known_but_that_it_was_longer() -> None:
    times = Times().plus({1.0: 98, math.inf: 100})
    assert times.percentile(98) == 1.0
    assert times.percentile(99) == math.inf
    assert Times().percentile(50) is None
    assert Times().plus({1.0: 0, math.inf: 0}).percentile(50) is None


def test_histograms_with_other_bounds_add_up_as_far_as_can_be_said() -> None:
    both = Times().plus({1.0: 5, 10.0: 10, math.inf: 10}).plus({2.0: 7, math.inf: 8})
    assert both.buckets == ((1.0, 5), (2.0, 12), (10.0, 17), (math.inf, 18))


values = st.lists(st.floats(0.001, 500), min_size=1, max_size=60)


def histogram(found: list[float]) -> dict[float, int]:
    return {bound: sum(value <= bound for value in found) for bound in BOUNDS}


@given(values, values, st.floats(1, 99.9))
def test_what_was_before_is_taken_out_again_and_a_percentile_is_in_the_bucket_of_the_true_one(
    before: list[float], after: list[float], percent: float
) -> None:
    start = Times().plus(histogram(before))
    window = start.plus(histogram(after)).plus(dict(start.buckets), sign=-1)
    assert window == Times().plus(histogram(after))
    true = sorted(after)[math.ceil(len(after) * percent / 100) - 1]
    bound = next(bound for bound in BOUNDS if true <= bound)
    below = max((bound for bound in BOUNDS if bound < true), default=0.0)
    found = window.percentile(percent)
    assert found is not None
    assert found == bound == math.inf or below <= found <= bound
