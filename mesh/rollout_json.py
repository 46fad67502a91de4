"""A Rollout's state as `status.rollout` shows it, and read back: for a platform that keeps nothing but objects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh.kinds.meta import JSON
from mesh.model import RolloutState

_TIMES = ("since", "checked")


def rollout_to_json(state: RolloutState) -> JSON:
    """The wire form, times in RFC 3339."""
    wire: JSON = msgspec.to_builtins(state)
    return wire | {name: datetime.fromtimestamp(wire[name], UTC).isoformat() for name in _TIMES}


def rollout_from_json(wire: Any) -> RolloutState | None:
    """The state that `rollout_to_json` wrote; None for anything else."""
    if not isinstance(wire, dict):
        return None
    try:
        times = {name: datetime.fromisoformat(wire[name]).timestamp() for name in _TIMES}
        state = msgspec.convert(wire | times, RolloutState)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    sound = (
        state.step >= 0
        and 0 <= state.weight <= 100
        and min(state.passed, state.failed, state.revision, state.term) >= 0
    )
    return state if sound else None
