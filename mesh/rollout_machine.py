"""What a Rollout does next: a pure state machine. It is handed the time, and what is seen of the canary.

    Pending ──▶ Progressing (step 1 … n) ──▶ Promoted
                     │   ▲                       │
       pause, resume ▼   │ failed checks, the    │ abort
                   Paused│ deadline, abort       ▼
                         └──────────────────▶ RolledBack

A step is made of checks. A check lasts `interval` at least and goes on until there is enough to judge: too little is no
verdict, so that silence moves nothing. A step ends when its `pause` is over, a check has been passed, and none has
failed since. Where nothing can be judged for `deadline` beyond the pause, the canary goes back: nobody knows that it is
well. A Rollout that is held (by a person, or since its target is not there) neither moves on nor goes back, and begins
its step again afterwards.

A restart costs the check under way and nothing else. `Sight.since` says since when somebody looks, for a deadline must
not pass while nobody did.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec.structs import replace

from mesh.kinds.duration import milliseconds
from mesh.kinds.rollout import Rollout, RolloutAnalysis, RolloutSpec
from mesh.model import RolloutState, Tally

Command = Literal["pause", "resume", "promote", "abort"]
COMMANDS: tuple[Command, ...] = ("pause", "resume", "promote", "abort")
ENDED = frozenset({"Promoted", "RolledBack"})
_HELD = frozenset({"Paused", "PausedBySpec", "TargetNotReady", "Conflicted"})


class Answer(msgspec.Struct, frozen=True):
    """What Prometheus says to a query: a value, or why there is none."""

    value: float | None = None
    problem: str = ""


class Sight(msgspec.Struct, frozen=True):
    """What is seen of a Rollout, its counts since `RolloutState.checked`.

    `problem` says why its target cannot be moved (`conflict`: since another Rollout moves it), `unavailable` why the
    canary can answer nothing. `latency` is the asked percentile in milliseconds, of so many `timed` answers. `answers`
    has one for each query, in their order. `since` is when this program began to look.
    """

    since: float = 0.0
    problem: str = ""
    conflict: bool = False
    unavailable: str = ""
    canary: Tally = Tally()
    stable: Tally = Tally()
    latency: float | None = None
    timed: int = 0
    answers: tuple[Answer, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """`passed` is None where there is not enough to judge; `words` say why."""

    passed: bool | None
    words: str


class RefusedError(Exception):
    """A command that cannot be followed as things are; says why."""


def moves(rollout: Rollout) -> str:
    """What a Rollout moves, as a short text; it differs for another thing, and for a later Rollout of that name."""
    spec = rollout.spec
    what = (rollout.metadata.uid, spec.target_ref, spec.stable, spec.canary, spec.version)
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()[:16]


def begin(rollout: Rollout) -> RolloutState:
    """A Rollout that nobody has looked at yet."""
    return RolloutState(moves(rollout), reason="Pending", message="It has not begun.", revision=1)


def advance(rollout: Rollout, state: RolloutState | None, sight: Sight, now: float) -> RolloutState:
    """The next state; an equal one where nothing changes. `now` is in seconds since 1970."""
    if state is None:
        state = begin(rollout)
    elif state.moves != moves(rollout):
        state = replace(begin(rollout), revision=state.revision + 1)
    after = _next(rollout.spec, state, sight, now)
    return after if after == state else replace(after, revision=state.revision + 1)


def _next(spec: RolloutSpec, state: RolloutState, sight: Sight, now: float) -> RolloutState:
    if state.phase in ENDED:
        return state
    held = _held(spec, state, sight)
    if held is not None:
        return held
    if state.phase == "Pending":
        if sight.unavailable:
            return replace(state, reason="CanaryNotReady", message=sight.unavailable)
        return _enter(spec, state, 1, now)
    step = min(state.step, len(spec.steps))
    if step != state.step or spec.steps[step - 1].weight != state.weight or state.reason in _HELD:
        return _enter(spec, state, step, now)
    # A clock that was set back must not hold everything for as long.
    state = replace(state, since=min(state.since, now), checked=min(state.checked, now))
    state = _checked(spec.analysis, state, sight, now)
    return state if state.phase in ENDED else _moved_on(spec, state, sight, now)


def _held(spec: RolloutSpec, state: RolloutState, sight: Sight) -> RolloutState | None:
    """The state as it is, and why it stays so; None where nothing holds it."""
    if sight.problem:
        return replace(state, reason="Conflicted" if sight.conflict else "TargetNotReady", message=sight.problem)
    if state.phase == "Paused":
        return replace(state, reason="Paused", message="It was paused; `resume` begins the step again.")
    if spec.paused:
        return replace(
            state, reason="PausedBySpec", message="spec.paused holds it; without that the step begins again."
        )
    return None


def _enter(spec: RolloutSpec, state: RolloutState, step: int, now: float) -> RolloutState:
    weight = spec.steps[step - 1].weight
    return replace(
        state,
        phase="Progressing",
        step=step,
        weight=weight,
        since=now,
        checked=now,
        passed=0,
        failed=0,
        approved=False,
        reason="Step",
        message=f"Step {step} of {len(spec.steps)}: the canary has {weight} %.",
    )


def _checked(analysis: RolloutAnalysis | None, state: RolloutState, sight: Sight, now: float) -> RolloutState:
    """The state after the present check, if that is over."""
    if analysis is None:
        return _there(state, sight)
    if (now - state.checked) * 1_000 < milliseconds(analysis.interval):
        return state
    verdict = judge(analysis, sight)
    if verdict.passed is None:
        return replace(state, reason="NotEnoughData", message=verdict.words)
    state = replace(state, checked=now, canary=state.canary.plus(sight.canary), stable=state.stable.plus(sight.stable))
    if verdict.passed:
        return replace(state, passed=state.passed + 1, failed=0, reason="CheckPassed", message=verdict.words)
    state = replace(state, failed=state.failed + 1, reason="CheckFailed", message=verdict.words)
    if state.failed < analysis.failures:
        return state
    return _rolled_back(state, "CheckFailed", f"Failed {state.failed} checks in a row, the last: {verdict.words}")


def _there(state: RolloutState, sight: Sight) -> RolloutState:
    """Where nothing is asked of the canary but time, it is only asked to be there."""
    if sight.unavailable:
        return replace(state, failed=1, reason="CanaryNotReady", message=sight.unavailable)
    if state.reason == "CanaryNotReady":
        state = replace(state, reason="Step", message="The canary is there again.")
    return replace(state, passed=1, failed=0)


def judge(analysis: RolloutAnalysis, sight: Sight) -> Verdict:
    """What a check comes to. What is known to be bad is bad, whatever else is not known."""
    if sight.unavailable:
        return Verdict(False, sight.unavailable)
    found = [*_of_requests(analysis, sight), *_of_queries(analysis, sight)]
    for wanted in (False, None):
        words = [verdict.words for verdict in found if verdict.passed is wanted]
        if words:
            return Verdict(wanted, " ".join(words))
    return Verdict(True, " ".join(verdict.words for verdict in found))


def _of_requests(analysis: RolloutAnalysis, sight: Sight) -> list[Verdict]:
    found = []
    if analysis.success_rate is not None:
        total = sight.canary.total
        if total < analysis.min_requests:
            found.append(Verdict(None, _too_few(analysis, "requests to the canary have been reported")))
        else:
            rate = 100 * sight.canary.succeeded / total
            said = f"{sight.canary.succeeded} of {total} requests succeeded ({rate:.4g} %"
            found.append(Verdict(rate >= analysis.success_rate, f"{said}, at least {analysis.success_rate:g} % must)."))
    if analysis.latency is not None:
        limit, percentile = milliseconds(analysis.latency.max), analysis.latency.percentile
        if sight.timed < analysis.min_requests or sight.latency is None:
            found.append(Verdict(None, _too_few(analysis, "answers of the canary have been timed")))
        else:
            said = f"{percentile:g} % of {sight.timed} answers took at most {sight.latency:.4g} ms (limit {limit} ms)."
            found.append(Verdict(sight.latency <= limit, said))
    return found


def _too_few(analysis: RolloutAnalysis, what: str) -> str:
    return f"Fewer than {analysis.min_requests} {what} in the present check."


def _of_queries(analysis: RolloutAnalysis, sight: Sight) -> list[Verdict]:
    found = []
    for number, query in enumerate(analysis.queries):
        answer = sight.answers[number] if number < len(sight.answers) else Answer(problem="not asked yet")
        path = f"queries[{number}]"
        if answer.value is None:
            found.append(Verdict(None, f"{path} has no value: {answer.problem}."))
            continue
        low = query.min is None or answer.value >= query.min
        high = query.max is None or answer.value <= query.max
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", query.min), ("at most", query.max))
            if bound is not None
        ]
        said = f"{path} is {answer.value:.6g} ({' and '.join(bounds)} is asked)."
        found.append(Verdict(low and high, said))
    return found


def _moved_on(spec: RolloutSpec, state: RolloutState, sight: Sight, now: float) -> RolloutState:
    step, analysis = spec.steps[state.step - 1], spec.analysis
    over = state.since + milliseconds(step.pause) / 1_000
    if now < over:
        return state
    if not state.passed or state.failed:
        deadline = milliseconds((analysis or RolloutAnalysis()).deadline) / 1_000
        if now >= max(over, sight.since) + deadline:
            return _rolled_back(state, "DeadlineExceeded", f"The step could not be judged in time. {state.message}")
        return state
    if step.approval and not state.approved:
        return replace(state, reason="AwaitingApproval", message="Its checks are passed; `resume` moves it on.")
    if state.step < len(spec.steps):
        return _enter(spec, state, state.step + 1, now)
    return _promoted(state, "Completed", "All steps are done: the canary has all.")


def _promoted(state: RolloutState, reason: str, message: str) -> RolloutState:
    return replace(state, phase="Promoted", weight=100, reason=reason, message=message)


def _rolled_back(state: RolloutState, reason: str, message: str) -> RolloutState:
    return replace(state, phase="RolledBack", weight=0, reason=reason, message=message)


def order(rollout: Rollout, state: RolloutState | None, command: Command, now: float) -> RolloutState:
    """The state after a person's command. Raises RefusedError."""
    if state is None or state.moves != moves(rollout):
        raise RefusedError("It has not begun. Ask again in a moment.")
    after = _ordered(rollout.spec, state, command, now)
    return after if after == state else replace(after, revision=state.revision + 1)


def _ordered(spec: RolloutSpec, state: RolloutState, command: Command, now: float) -> RolloutState:
    if command == "abort":
        return state if state.phase == "RolledBack" else _rolled_back(state, "Aborted", "Somebody took it back.")
    if state.phase == "RolledBack":
        raise RefusedError("It was rolled back. Another spec.version begins it again.")
    if command == "promote":
        if state.phase == "Pending":
            raise RefusedError(f"It has not begun. {state.message}")
        return state if state.phase == "Promoted" else _promoted(state, "PromotedByHand", "Somebody promoted it.")
    if state.phase == "Promoted":
        raise RefusedError("It is over: the canary has all. `abort` takes it back.")
    if command == "pause":
        return replace(state, phase="Paused", reason="Paused", message="It was paused; `resume` begins the step again.")
    if state.phase == "Paused":
        if state.step == 0:
            return replace(state, phase="Pending", reason="Pending", message="It has not begun.")
        return _enter(spec, state, min(state.step, len(spec.steps)), now)
    if state.step and state.step <= len(spec.steps) and spec.steps[state.step - 1].approval:
        return replace(state, approved=True, message="Approved: it moves on once its checks are passed.")
    raise RefusedError("There is nothing to resume: it is not paused, and its step waits for nobody.")
