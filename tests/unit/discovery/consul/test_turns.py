"""Turns under a cap, with a clock of our own: fairness is counted, not timed."""

from __future__ import annotations

import heapq
from collections import Counter

import pytest

from discovery.consul.turns import IDLE_WAIT_SECONDS, RELAX_SECONDS, START_SECONDS, Turns


def turns(needed: int, others: int = 0, *, most: int) -> Turns[str]:
    made: Turns[str] = Turns(most)
    for number in range(needed):
        made.put(f"n{number}", needed=True)
    for number in range(others):
        made.put(f"o{number}", needed=False)
    return made


def asked(made: Turns[str], *, seconds: float) -> tuple[Counter[str], int]:
    """How often each is asked when every wait ends without news, and how many were open at most."""
    counts: Counter[str] = Counter()
    ends: list[tuple[float, str]] = []
    now, most = 0.0, 0
    while now < seconds:
        for key, step in made.begin(now):
            counts[key] += 1
            heapq.heappush(ends, (now + (step.wait if step.index else 0.001), key))
        most = max(most, made.open)
        now, key = heapq.heappop(ends)
        made.state(key).answered(1, now)
        made.end(key)
    return counts, most


def test_all_are_open_all_the_time_while_they_fit() -> None:
    made = turns(5, 3, most=8)
    begun = made.begin(0.0)
    assert len(begun) == 8
    for key, step in begun:
        assert step.wait < IDLE_WAIT_SECONDS, "it is not known yet whether the agent takes as many"
        made.end(key)
    assert {step.wait for _, step in made.begin(START_SECONDS)} == {IDLE_WAIT_SECONDS}
    assert not made.crowded
    assert made.cycle == 0.0


@pytest.mark.parametrize(("services", "seconds"), [(10, 20.0), (150, 30.0), (1_000, 60.0)])
def test_many_wait_longer_so_that_they_ask_no_more_often_than_few(services: int, seconds: float) -> None:
    made = turns(services, most=2_000)
    for key, _ in made.begin(0.0):
        made.end(key)
    assert {step.wait for _, step in made.begin(START_SECONDS)} == {seconds}


def test_above_the_cap_each_has_its_turn_as_often_as_any_other() -> None:
    counts, most = asked(turns(100, most=10), seconds=60)
    assert most == 10
    assert len(counts) == 100
    assert max(counts.values()) - min(counts.values()) <= 1
    assert min(counts.values()) >= 4


def test_needed_ones_are_open_all_the_time_and_the_others_share_what_is_left() -> None:
    counts, _ = asked(turns(5, 50, most=10), seconds=60)
    assert max(count for key, count in counts.items() if key[0] == "n") <= 8, "after the start at the pace of the idle"
    assert min(count for key, count in counts.items() if key[0] == "o") >= 4


def test_others_are_never_starved() -> None:
    counts, _ = asked(turns(500, 20, most=16), seconds=120)
    assert min(counts[f"o{number}"] for number in range(20)) >= 1


def test_newcomer_gets_the_place_of_one_that_was_opened_when_there_was_room() -> None:
    made = turns(4, most=4)
    made.begin(0.0)
    made.put("new", needed=True)
    assert made.begin(0.5) == []
    assert made.overdue(0.5) == [], "its turn is not over yet"
    (over,) = made.overdue(2.0)
    made.end(over)
    assert [key for key, _ in made.begin(2.0)] == ["new"]


def test_one_that_comes_to_be_needed_takes_the_place_of_one_that_is_not_at_once() -> None:
    made = turns(0, 2, most=2)
    made.begin(0.0)
    made.put("new", needed=True)
    assert made.begin(0.1) == []
    (over,) = made.overdue(0.1)
    made.end(over)
    assert [key for key, _ in made.begin(0.1)] == ["new"]


def test_agent_that_says_too_many_is_obeyed_and_tried_again_later() -> None:
    made = turns(20, most=10)
    begun = made.begin(0.0)
    made.too_many(0.0)
    assert made.limit == 7
    for key, _ in begun:
        made.state(key).failed(0.0, 1.0, retry_after=1.0)
        made.end(key)
    assert len(made.begin(2.0)) == 7
    made.begin(IDLE_WAIT_SECONDS - 1)
    assert made.limit == 7
    made.begin(IDLE_WAIT_SECONDS)
    assert made.limit == 8
    for more in (1, 2):
        made.begin(IDLE_WAIT_SECONDS + more * RELAX_SECONDS)
    assert made.limit == 10
    for _ in range(30):
        made.too_many(200.0)
    assert made.limit == 7, "the agent may still count what was let go of a moment ago"
    for second in range(30):
        made.too_many(201.0 + second)
    assert made.limit == 2


def test_removed_query_is_not_asked_and_its_place_is_free() -> None:
    made = turns(3, most=2)
    first = [key for key, _ in made.begin(0.0)]
    made.remove(first[0])
    assert len(made.begin(0.0)) == 1
    made.end(first[0])
    assert len(made) == 2
    assert first[0] not in made


def test_failing_query_waits_its_pause_and_costs_no_place() -> None:
    made = turns(2, most=1)
    ((key, _),) = made.begin(0.0)
    made.state(key).failed(0.0, 1.0, retry_after=30.0)
    made.end(key)
    ((other, _),) = made.begin(0.0)
    assert other != key
    made.anew([key])
    made.end(other)
    assert [each for each, _ in made.begin(0.0)] == [key]
