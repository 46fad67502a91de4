"""Which changes of a Rollout are told as events."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mesh.model import RolloutState, Tally
from mesh.rollout_events import RolloutEvent, event_of

AT = RolloutState("x", "Progressing", 1, 20, reason="Step", message="Step 1 of 2.")


@pytest.mark.parametrize(
    ("before", "changes", "told"),
    [
        (None, {"phase": "Pending", "step": 0, "weight": 0, "reason": "Pending"}, None),
        (None, {}, ("Step", False)),
        (AT, {"canary": Tally(5, 0), "passed": 1, "reason": "CheckPassed"}, None),
        (AT, {"reason": "NotEnoughData"}, None),
        (AT, {"step": 2, "weight": 60}, ("Step", False)),
        (AT, {"failed": 1, "reason": "CheckFailed"}, ("CheckFailed", True)),
        (replace(AT, failed=1, reason="CheckFailed"), {"failed": 2}, ("CheckFailed", True)),
        (AT, {"phase": "RolledBack", "weight": 0, "reason": "Aborted"}, ("Aborted", False)),
        (AT, {"phase": "RolledBack", "weight": 0, "reason": "DeadlineExceeded"}, ("DeadlineExceeded", True)),
        (AT, {"reason": "AwaitingApproval"}, ("AwaitingApproval", False)),
        (AT, {"reason": "TargetNotReady"}, ("TargetNotReady", True)),
        (replace(AT, reason="TargetNotReady"), {"message": "another word"}, None),
        (AT, {"phase": "Promoted", "weight": 100, "reason": "Completed"}, ("Completed", False)),
    ],
)
def test_told_are_phases_steps_failed_checks_and_what_holds_it(
    before: RolloutState | None, changes: dict[str, object], told: tuple[str, bool] | None
) -> None:
    after = replace(before or AT, **changes)
    wanted = RolloutEvent(told[0], after.message, told[1]) if told is not None else None
    assert event_of(before, after) == wanted
