from __future__ import annotations

import pytest

from discovery.kubernetes.status_pacing import FIRST_PAUSE, LAST_PAUSE, LONGEST, QUIET, Budget, Pacing, pause


def taken(pacing: Pacing[str], now: float) -> list[str]:
    found = []
    while (key := pacing.take(now)) is not None:
        found.append(key)
    return found


def test_what_is_urgent_is_due_at_once_and_the_rest_after_a_quiet_period() -> None:
    pacing: Pacing[str] = Pacing()
    pacing.add("count", 10.0, urgent=False)
    pacing.add("verdict", 10.0, urgent=True)
    assert pacing.next_due() == 10.0
    assert taken(pacing, 10.0) == ["verdict"]
    assert pacing.next_due() == 10.0 + QUIET
    assert taken(pacing, 10.0 + QUIET / 2) == []
    assert taken(pacing, 10.0 + QUIET) == ["count"]
    assert pacing.next_due() is None


def test_constant_change_is_written_once_in_the_longest_time() -> None:
    pacing: Pacing[str] = Pacing()
    writes = 0
    for tick in range(1000):  # ten seconds
        now = tick / 100
        pacing.add("edge", now, urgent=False)
        for key in taken(pacing, now):
            writes += 1
            pacing.done(key, now, wrote=True)
    assert 8 <= writes <= 10 / LONGEST


def test_slow_but_steady_change_is_written_about_once_in_the_longest_time_and_soon_after_its_end() -> None:
    pacing: Pacing[str] = Pacing()
    writes: list[float] = []
    for tick in range(2000):  # a change every 200 ms for 80 s, then calm, then one more
        now = tick / 20
        if (tick < 1600 and tick % 4 == 0) or tick == 1900:
            pacing.add("edge", now, urgent=False)
        for key in taken(pacing, now):
            writes.append(now)
            pacing.done(key, now, wrote=True)
    assert len(writes) <= 80 / LONGEST + 5
    last_of_many, alone = writes[-2:]
    assert last_of_many - 1596 / 20 <= LONGEST + QUIET
    assert alone - 1900 / 20 <= QUIET + 0.05


def test_verdicts_that_change_all_the_time_are_not_written_all_the_time() -> None:
    pacing: Pacing[str] = Pacing()
    writes = 0
    for tick in range(1000):
        now = tick / 100
        pacing.add("edge", now, urgent=True)
        for key in taken(pacing, now):
            writes += 1
            pacing.done(key, now, wrote=True)
    assert writes <= 10 / QUIET + 1


def test_an_urgent_change_is_not_delayed_by_a_later_one_that_can_wait() -> None:
    pacing: Pacing[str] = Pacing()
    pacing.add("edge", 0.0, urgent=True)
    pacing.add("edge", 0.0, urgent=False)
    assert taken(pacing, 0.0) == ["edge"]


def test_what_is_being_written_comes_again_only_after_it_is_done() -> None:
    pacing: Pacing[str] = Pacing()
    pacing.add("edge", 0.0, urgent=True)
    assert taken(pacing, 0.0) == ["edge"]
    pacing.add("edge", 0.0, urgent=True)
    assert (taken(pacing, 5.0), pacing.next_due()) == ([], None)
    pacing.done("edge", 5.0, wrote=True)
    assert pacing.next_due() == 5.0 + QUIET
    assert taken(pacing, 5.0 + QUIET) == ["edge"]


def test_of_those_that_are_due_the_lesser_rank_goes_first() -> None:
    pacing: Pacing[str] = Pacing(lambda key: 0 if key == "edge" else 1)
    for at in range(5):
        pacing.add(f"route{at}", 0.0, urgent=True)
    pacing.add("edge", 0.5, urgent=True)
    assert taken(pacing, 1.0) == ["edge", *(f"route{at}" for at in range(5))]


def test_what_fails_is_tried_again_less_and_less_often() -> None:
    pacing: Pacing[str] = Pacing()
    pacing.add("edge", 0.0, urgent=False)
    now, waits = QUIET, []
    for _ in range(10):
        assert taken(pacing, now) == ["edge"]
        pacing.failed("edge", now)
        due = pacing.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE])
    assert waits[-1] == pytest.approx(LAST_PAUSE)


def test_another_verdict_does_not_wait_out_an_earlier_failure() -> None:
    pacing: Pacing[str] = Pacing()
    pacing.add("edge", 0.0, urgent=True)
    pacing.take(0.0)
    pacing.failed("edge", 0.0, after=LAST_PAUSE)
    pacing.add("edge", 1.0, urgent=False)
    assert taken(pacing, 2.0) == []
    pacing.add("edge", 2.0, urgent=True)
    assert taken(pacing, 2.0) == ["edge"]


def test_a_quarrel_over_a_status_gets_slower() -> None:
    pacing: Pacing[str] = Pacing()
    writes, now = 0, 0.0
    while now < 60:
        pacing.add("edge", now, urgent=False)  # somebody wrote over it
        if pacing.take(now) is not None:
            pacing.done("edge", now, wrote=True, again=writes > 0)
            writes += 1
        now += 0.05
    assert writes < 10


def test_what_is_forgotten_is_not_written() -> None:
    pacing: Pacing[str] = Pacing()
    for key in ("a", "b", "c"):
        pacing.add(key, 0.0, urgent=True)
    pacing.forget("b")
    assert len(pacing) == 2
    assert pacing.take(0.0) == "a"
    pacing.forget("a")
    pacing.done("a", 0.0, wrote=True)
    pacing.failed("a", 0.0)
    assert taken(pacing, 9.0) == ["c"]
    pacing.add("d", 0.0, urgent=True)
    pacing.clear()
    assert (pacing.next_due(), pacing.take(9.0), len(pacing)) == (None, None, 0)


def test_a_pause_grows_to_a_limit() -> None:
    assert [pause(count) for count in (0, 1, 2, 3)] == [0.5, 0.5, 1.0, 2.0]
    assert pause(10_000) == LAST_PAUSE


def test_a_budget_lets_a_burst_through_and_then_the_rate() -> None:
    budget = Budget(rate=10.0, burst=3)
    for _ in range(3):
        assert budget.delay(100.0) == 0
        budget.spend()
    assert budget.delay(100.0) == pytest.approx(0.1)
    assert budget.delay(100.11) == 0
    budget.spend()
    assert budget.delay(100.11) > 0
    for _ in range(3):
        assert budget.delay(1000.0) == 0
        budget.spend()
    assert budget.delay(1000.0) > 0
