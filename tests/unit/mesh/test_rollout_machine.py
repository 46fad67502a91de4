"""The state machine of Rollouts: what moves it on, holds it and takes it back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.kinds.rollout import Rollout
from mesh.model import RolloutState, Tally
from mesh.rollout_json import rollout_from_json, rollout_to_json
from mesh.rollout_machine import COMMANDS, ENDED, Answer, RefusedError, Sight, advance, order

STEPS = ({"weight": 10, "pause": "60s"}, {"weight": 50, "pause": "60s"})
ANALYSIS = {"interval": "10s", "minRequests": 20, "successRate": 95, "failures": 2, "deadline": "300s"}
GOOD = Sight(canary=Tally(100, 0), stable=Tally(900, 1))
BAD = Sight(canary=Tally(60, 40))
NOTHING = Sight()


def rollout(steps: tuple[dict[str, Any], ...] = STEPS, *, analysis: Any = ANALYSIS, **spec: Any) -> Rollout:
    made = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "reviews"},
            "stable": {"name": "reviews"},
            "canary": {"name": "reviews-v2"},
            "steps": list(steps),
            **({"analysis": analysis} if analysis is not None else {}),
            **spec,
        },
    }
    return msgspec.convert(made, Rollout)


class Run:
    """A Rollout over time, each second seen the same way."""

    def __init__(self, of: Rollout | None = None) -> None:
        self.of = of or rollout()
        self.now = 1_000.0
        self.state: RolloutState | None = None

    def pass_by(self, seconds: float, sight: Sight = GOOD) -> RolloutState:
        until = self.now + seconds
        while self.now < until:
            self.state = advance(self.of, self.state, sight, self.now)
            self.now += 1
        assert self.state is not None
        return self.state

    def order(self, command: Any) -> RolloutState:
        self.state = order(self.of, self.state, command, self.now)
        return self.state


def test_a_good_canary_passes_every_step_in_its_time_and_gets_all() -> None:
    run = Run()
    weights = [run.pass_by(1).weight for _ in range(125)]
    assert weights[0] == 10
    assert weights.count(10) == weights.count(50) == 60
    assert weights[-1] == 100
    assert run.state is not None
    assert run.state.phase == "Promoted"


def test_a_bad_canary_goes_back_after_as_many_failed_checks_in_a_row_as_are_allowed() -> None:
    run = Run()
    assert run.pass_by(15, BAD).failed == 1
    state = run.pass_by(10, BAD)
    assert (state.phase, state.weight, state.reason) == ("RolledBack", 0, "CheckFailed")
    assert "60 of 100 requests succeeded (60 %, at least 95 % must)" in state.message
    assert state.canary == Tally(120, 80)


def test_one_failed_check_is_forgiven_once_the_next_is_passed_and_holds_the_step_until_then() -> None:
    run = Run(rollout(({"weight": 10, "pause": "5s"},)))
    assert run.pass_by(12, BAD).failed == 1
    assert run.pass_by(5, NOTHING).phase == "Progressing"
    assert run.pass_by(10, GOOD).phase == "Promoted"


def test_silence_moves_nothing_and_goes_back_when_the_deadline_has_passed() -> None:
    run = Run()
    assert run.pass_by(359, NOTHING).weight == 10
    assert run.state is not None
    assert run.state.reason == "NotEnoughData"
    state = run.pass_by(3, NOTHING)
    assert (state.phase, state.reason) == ("RolledBack", "DeadlineExceeded")
    assert "Fewer than 20 requests" in state.message


def test_a_deadline_does_not_pass_while_nobody_looks() -> None:
    run = Run()
    run.pass_by(5, NOTHING)
    run.now += 100_000  # the program was away
    assert run.pass_by(290, Sight(since=run.now)).phase == "Progressing"
    assert run.pass_by(20, Sight(since=run.now - 290)).phase == "RolledBack"


def test_too_few_requests_are_no_verdict_however_bad() -> None:
    assert Run().pass_by(300, Sight(canary=Tally(0, 19))).phase == "Progressing"
    assert Run().pass_by(300, Sight(canary=Tally(0, 20))).phase == "RolledBack"


def test_a_canary_that_is_not_there_is_waited_for_and_once_it_has_requests_counts_as_failing() -> None:
    run = Run()
    gone = Sight(unavailable="Service reviews-v2 has no endpoints.")
    state = run.pass_by(500, gone)
    assert (state.phase, state.weight, state.reason) == ("Pending", 0, "CanaryNotReady")
    run.pass_by(2, GOOD)
    state = run.pass_by(25, gone)
    assert state.phase == "RolledBack"
    assert "has no endpoints" in state.message


def test_without_analysis_time_alone_moves_it_and_a_canary_that_is_not_there_holds_it() -> None:
    gone = Sight(unavailable="It has no endpoints.")
    run = Run(rollout(analysis=None))
    assert run.pass_by(62, NOTHING).step == 2
    assert run.pass_by(100, gone).step == 2
    assert run.pass_by(3, NOTHING).phase == "Promoted"
    quiet = Run(rollout(analysis=None))
    assert quiet.pass_by(50, NOTHING).revision == quiet.pass_by(5, NOTHING).revision


def latency(**sight: Any) -> RolloutState:
    asked = {**ANALYSIS, "latency": {"percentile": 90, "max": "250ms"}}
    return Run(rollout(analysis=asked)).pass_by(130, Sight(canary=Tally(100, 0), **sight))


def test_latency_is_asked_of_enough_answers_and_an_unknown_one_holds() -> None:
    assert latency(latency=250.0, timed=20).phase == "Promoted"
    assert latency(latency=250.1, timed=20).phase == "RolledBack"
    assert latency(latency=float("inf"), timed=20).phase == "RolledBack"
    assert latency(latency=9_000.0, timed=19).phase == "Progressing"
    assert latency().message == "Fewer than 20 answers of the canary have been timed in the present check."


@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        (Answer(0.5), "Promoted"),
        (Answer(0.51), "RolledBack"),
        (Answer(0.09), "RolledBack"),
        (Answer(problem="Prometheus cannot be reached"), "Progressing"),
        (None, "Progressing"),
    ],
)
def test_prometheus_is_believed_within_bounds_and_holds_while_it_is_away(answer: Answer | None, phase: str) -> None:
    run = Run(rollout(analysis={"interval": "10s", "queries": [{"query": "up", "min": 0.1, "max": 0.5}]}))
    assert run.pass_by(130, Sight(answers=(answer,) if answer else ())).phase == phase


def test_what_is_known_to_be_bad_is_bad_though_something_else_is_not_known() -> None:
    asked = {**ANALYSIS, "queries": [{"query": "up", "min": 1}]}
    run = Run(rollout(analysis=asked))
    away = (Answer(problem="away"),)
    assert run.pass_by(40, Sight(canary=Tally(60, 40), answers=away)).phase == "RolledBack"


def test_paused_it_neither_moves_on_nor_back_and_resumed_it_begins_its_step_again() -> None:
    run = Run()
    run.pass_by(50)
    assert run.order("pause").phase == "Paused"
    assert run.pass_by(1_000, BAD).weight == 10
    run.order("resume")
    assert run.pass_by(59).step == 1
    assert run.pass_by(2).step == 2


def test_paused_by_its_spec_it_is_held_too() -> None:
    run = Run()
    run.pass_by(50)
    run.of = rollout(paused=True)
    assert run.pass_by(1_000, BAD).reason == "PausedBySpec"
    run.of = rollout()
    assert run.pass_by(59).step == 1
    assert run.pass_by(2).step == 2


def test_a_target_that_goes_holds_it_and_its_step_begins_again_when_it_is_back() -> None:
    run = Run()
    run.pass_by(70)
    state = run.pass_by(1_000, Sight(problem="HTTPRoute default/reviews does not exist."))
    assert (state.step, state.reason) == (2, "TargetNotReady")
    assert run.pass_by(59).step == 2
    assert run.pass_by(2).phase == "Promoted"


def test_an_approval_is_waited_for_without_end_and_given_before_its_time_counts_then() -> None:
    steps = ({"weight": 10, "pause": "20s", "approval": True},)
    run = Run(rollout(steps))
    assert run.pass_by(1_000).reason == "AwaitingApproval"
    run.order("resume")
    assert run.pass_by(2).phase == "Promoted"
    early = Run(rollout(steps))
    early.pass_by(5)
    early.order("resume")
    assert early.pass_by(14).phase == "Progressing"
    assert early.pass_by(3).phase == "Promoted"


def test_an_approved_step_whose_checks_fail_goes_back_all_the_same() -> None:
    run = Run(rollout(({"weight": 10, "pause": "20s", "approval": True},)))
    run.pass_by(5)
    run.order("resume")
    assert run.pass_by(40, BAD).phase == "RolledBack"


def test_promoted_by_hand_it_is_over_and_abort_takes_even_that_back() -> None:
    run = Run()
    run.pass_by(5)
    assert run.order("promote").weight == 100
    assert run.pass_by(1_000, BAD).phase == "Promoted"
    assert run.order("abort").weight == 0
    assert run.pass_by(1_000).phase == "RolledBack"


def refusal(run: Run, command: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        run.order(command)
    return str(caught.value)


def test_what_cannot_be_ordered_is_refused_with_the_reason() -> None:
    fresh = Run()
    assert "has not begun" in refusal(fresh, "pause")
    fresh.pass_by(1, Sight(problem="It is away."))
    assert "It is away." in refusal(fresh, "promote")
    fresh.pass_by(1)
    assert "nothing to resume" in refusal(fresh, "resume")
    fresh.order("abort")
    for command in ("promote", "pause", "resume"):
        assert "spec.version" in refusal(fresh, command)


def test_another_version_begins_anew_and_another_pause_does_not() -> None:
    run = Run()
    run.pass_by(70)
    run.of = rollout(({"weight": 10, "pause": "60s"}, {"weight": 50, "pause": "10s"}))
    assert run.pass_by(1).step == 2
    run.of = rollout(version="2")
    state = run.pass_by(1)
    assert (state.step, state.weight, state.canary) == (1, 10, Tally())


def test_a_present_step_with_another_weight_begins_again_and_one_that_is_gone_becomes_the_last() -> None:
    run = Run()
    run.pass_by(70)
    run.of = rollout(({"weight": 10, "pause": "60s"}, {"weight": 40, "pause": "60s"}))
    assert run.pass_by(1).weight == 40
    assert run.pass_by(58).phase == "Progressing"
    run.of = rollout(({"weight": 20, "pause": "60s"},))
    assert (run.pass_by(1).step, run.pass_by(1).weight) == (1, 20)


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    run = Run()
    run.pass_by(30)
    run.now -= 1_000_000
    assert run.pass_by(62).step == 2


# -- laws -------------------------------------------------------------------------------------------------------------

tallies = st.builds(Tally, st.integers(0, 60), st.integers(0, 60))
sights = st.builds(
    Sight,
    problem=st.sampled_from(("", "", "", "gone")),
    unavailable=st.sampled_from(("", "", "", "empty")),
    canary=tallies,
    stable=tallies,
    latency=st.one_of(st.none(), st.floats(0, 1_000)),
    timed=st.integers(0, 60),
    answers=st.lists(st.builds(Answer, st.one_of(st.none(), st.floats(0, 2))), max_size=1).map(tuple),
)
steps = st.lists(st.integers(1, 100), min_size=1, max_size=4, unique=True).map(
    lambda weights: tuple({"weight": weight, "pause": "3s"} for weight in sorted(weights))
)
analyses = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"interval": st.just("1s"), "minRequests": st.just(20), "deadline": st.just("20s"), "successRate": st.just(90)},
        optional={
            "latency": st.just({"max": "200ms"}),
            "queries": st.just([{"query": "up", "min": 1}]),
            "failures": st.integers(1, 3),
        },
    ),
)
events = st.one_of(st.tuples(st.just("look"), sights), st.tuples(st.just("order"), st.sampled_from(COMMANDS)))
stories = st.tuples(steps, analyses, st.lists(events, max_size=60))


def follow(story: Any, *, kept: bool) -> list[RolloutState | None]:
    """The states of a story; `kept`: each went through its wire form, as after a restart."""
    weights, analysis, told = story
    of, now, state, found = rollout(weights, analysis=analysis), 1_000.0, None, []
    for kind, what in told:
        if kind == "look":
            state = advance(of, state, what, now)
        else:
            try:
                state = order(of, state, what, now)
            except RefusedError:
                continue
        if kept:
            state = rollout_from_json(msgspec.json.decode(msgspec.json.encode(rollout_to_json(state))))
        found.append(state)
        now += 1
    return found


@given(stories)
def test_a_restart_at_every_moment_changes_nothing(story: Any) -> None:
    assert follow(story, kept=True) == follow(story, kept=False)


@given(stories)
def test_the_canary_gets_what_its_step_says_and_nothing_before_or_after(story: Any) -> None:
    weights = [step["weight"] for step in story[0]]
    for state in follow(story, kept=False):
        assert state is not None
        expected = {"Promoted": 100, "RolledBack": 0, "Pending": 0}.get(state.phase)
        if expected is None:
            expected = weights[state.step - 1] if state.step else 0
        assert state.weight == expected


@given(stories)
def test_without_a_word_from_a_person_it_moves_one_step_at_a_time_and_an_end_is_an_end(story: Any) -> None:
    told = [event for event in story[2] if event[0] == "look"]
    before: RolloutState | None = None
    for state in follow((story[0], story[1], told), kept=False):
        assert state is not None
        if before is not None:
            assert state.revision == before.revision if state == before else state.revision == before.revision + 1
            if before.phase in ENDED:
                assert state == before
            assert state.step - before.step in (0, 1)
            assert state.weight >= before.weight or state.phase == "RolledBack"
        before = state


@given(steps, st.integers(0, 19))
def test_no_step_forward_without_a_passed_check(weights: Any, requests: int) -> None:
    analysis = {"interval": "1s", "minRequests": 20, "successRate": 90, "deadline": "1h"}
    run = Run(rollout(weights, analysis=analysis))
    assert run.pass_by(100, Sight(canary=Tally(requests, 0))).step == 1


@given(st.recursive(st.one_of(st.none(), st.integers(), st.text()), lambda inner: st.dictionaries(st.text(), inner)))
def test_garbage_in_a_status_is_no_state(wire: Any) -> None:
    assert rollout_from_json(wire) is None


def test_a_state_from_a_status_must_be_one_that_can_be() -> None:
    sound = rollout_to_json(RolloutState("x", "Progressing", 1, 10, 1.0, 1.0, revision=3))
    assert rollout_from_json(sound) is not None
    for wrong in (
        {"weight": 101},
        {"weight": -1},
        {"step": -1},
        {"phase": "Done"},
        {"since": "soon"},
        {"since": 1e300},
    ):
        assert rollout_from_json({**sound, **wrong}) is None
