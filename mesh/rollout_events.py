"""Which changes of a Rollout's state are told to people as events, beside its status."""

from __future__ import annotations

import msgspec

from mesh.model import RolloutState

_WARNINGS = frozenset({"CheckFailed", "CanaryNotReady", "Conflicted", "DeadlineExceeded", "TargetNotReady"})
_WORTH_TELLING = _WARNINGS | {"AwaitingApproval", "PausedBySpec"}


class RolloutEvent(msgspec.Struct, frozen=True):
    """What happened: a word, a sentence, and whether somebody should look."""

    reason: str
    message: str
    warning: bool


def event_of(before: RolloutState | None, after: RolloutState) -> RolloutEvent | None:
    """What to tell of a step from one state to another; None for what only counts.

    Told are another phase, another step, each check that failed, and what holds it.
    """
    known = before if before is not None else RolloutState(after.moves)
    moved = (known.phase, known.step, known.weight, known.moves) != (after.phase, after.step, after.weight, after.moves)
    failed = after.failed > known.failed
    held = after.reason != known.reason and after.reason in _WORTH_TELLING
    if not (moved or failed or held):
        return None
    return RolloutEvent(after.reason, after.message, after.reason in _WARNINGS)
