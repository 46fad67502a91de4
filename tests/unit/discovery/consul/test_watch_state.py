from __future__ import annotations

import pytest

from discovery.consul.watch_state import (
    LONGEST_PAUSE,
    NO_NEWS_PAUSE,
    WAIT_SECONDS,
    Ask,
    Heard,
    Pause,
    WatchState,
)


def test_index_that_changes_goes_on_and_one_that_does_not_is_no_news() -> None:
    state = WatchState()
    assert isinstance(step := state.next_step(0.0), Ask)
    assert step.index == 0
    assert state.answered(7, 0.0) == Heard(news=True)
    assert state.answered(7, 1.0) == Heard(news=False)
    assert isinstance(step := state.next_step(1.0), Ask)
    assert step.index == 7


def test_index_that_goes_back_begins_anew() -> None:
    state = WatchState()
    state.answered(100, 0.0)
    assert state.answered(3, 0.0) == Heard(news=True, went_back=True)
    assert isinstance(step := state.next_step(0.0), Ask)
    assert step.index == 0


def test_no_index_is_not_asked_for_in_a_circle() -> None:
    state = WatchState()
    assert state.answered(0, 10.0).news
    assert isinstance(state.next_step(10.0), Pause)
    assert isinstance(state.next_step(11.0), Ask)


def test_pauses_grow_to_a_bound_and_end_with_an_answer() -> None:
    state = WatchState()
    state.answered(5, 0.0)
    pauses = []
    for _ in range(40):
        state.failed(0.0, 1.0)
        step = state.next_step(0.0)
        assert isinstance(step, Pause)
        pauses.append(step.seconds)
    assert pauses == sorted(pauses)
    assert pauses[0] < 1.0
    assert pauses[-1] == LONGEST_PAUSE
    assert state.next_step(LONGEST_PAUSE) == Ask(0, 60.0), "one that waits would not tell that all is well again"
    assert state.failing_since == 0.0
    assert state.answered(5, 20.0) == Heard(news=True), "what changed meanwhile is read, whatever the index says"
    assert state.failing_since is None
    assert state.next_step(20.0) == Ask(5, 60.0)


def test_index_that_went_back_during_a_failure_is_noticed() -> None:
    state = WatchState()
    state.answered(100, 0.0)
    state.failed(0.0, 0.0)
    assert state.answered(3, 1.0).went_back


def test_retry_after_is_obeyed() -> None:
    state = WatchState()
    state.failed(0.0, 0.0, retry_after=42.0)
    assert state.next_step(0.0) == Pause(42.0)


def test_answer_without_news_long_before_its_time_is_given_a_pause() -> None:
    state = WatchState()
    state.next_step(0.0, wait=10.0)
    state.answered(7, 0.0)
    for at in (1.0, 3.0, 5.0):
        assert state.next_step(at, wait=10.0) == Ask(7, 10.0)
        assert not state.answered(7, at + 0.001).news
        assert state.next_step(at + 0.001) == Pause(pytest.approx(NO_NEWS_PAUSE))
    assert state.next_step(8.0, wait=10.0) == Ask(7, 10.0)
    assert not state.answered(7, 18.0).news
    assert state.next_step(18.0) == Ask(7, WAIT_SECONDS), "this one waited"
    assert state.answered(8, 18.1).news
    assert state.next_step(18.1) == Ask(8, WAIT_SECONDS), "this one has news"


def test_large_answers_are_taken_in_at_a_bounded_rate() -> None:
    state = WatchState()
    state.answered(1, 0.0, size=5_000_000)
    assert state.next_step(0.0) == Pause(0.5)
    state.answered(1, 1.0, size=5_000_000)
    assert isinstance(state.next_step(1.0), Ask), "one that says nothing new costs nothing"
