"""What users are told of a Rollout: whether it moves anything, whether its backends are there, and how far it is."""

from __future__ import annotations

from mesh.backends import Invalid, resolve
from mesh.conditions import Condition
from mesh.kinds.rollout import Rollout
from mesh.model import ROLLOUT_STATES, ObjectKey
from mesh.objects import find
from mesh.refused_words import with_rejections
from mesh.rollout_backends import backend_refs, moved_rule
from mesh.rollout_machine import ENDED, moves
from mesh.rollouts import ROLLOUT_PLANS, Move, NotMoved, target
from mesh.status import Status
from mesh.tables import Look


def rollout_status(look: Look, key: ObjectKey) -> Status | None:
    """The status of a Rollout."""
    rollout = find(look, Rollout, key)
    if rollout is None:
        return None
    route = target(rollout)
    plan = look(ROLLOUT_PLANS, route)
    made = plan.of(key) if plan is not None else None
    accepted = Condition("Accepted", True, "Accepted")
    if isinstance(made, NotMoved):
        accepted = Condition("Accepted", False, made.reason, made.message)
    resolved = _resolved(look, rollout, made)
    state = look(ROLLOUT_STATES, key)
    if state is None or state.moves != moves(rollout):
        return Status(conditions=with_rejections(look, key, (accepted, resolved)))
    progressing = Condition("Progressing", state.phase not in ENDED, state.reason or state.phase, state.message)
    return Status(conditions=with_rejections(look, key, (accepted, resolved, progressing)), rollout=state)


def _resolved(look: Look, rollout: Rollout, made: Move | NotMoved | None) -> Condition:
    """Whether both backends can be had, as the route's rule means them where it has them."""
    rule = moved_rule(look, rollout, made) if isinstance(made, Move) else None
    refs = backend_refs(rule, made) if rule is not None and isinstance(made, Move) else ()
    for name, ref in zip(("stable", "canary"), refs, strict=False):
        backend = resolve(look, route=target(rollout), ref=ref)
        if isinstance(backend, Invalid):
            return Condition("ResolvedRefs", False, backend.reason, f"spec.{name}: {backend.message}")
    return Condition("ResolvedRefs", True, "ResolvedRefs")
