"""The two backends of a Rollout as its route means them, and whether the canary can answer anything."""

from __future__ import annotations

from mesh.backends import Invalid, resolve
from mesh.explain import endpoint_count
from mesh.kinds.httproute import HTTPBackendRef, HTTPRouteRule
from mesh.kinds.rollout import Rollout
from mesh.request_routes import declared_request_route
from mesh.rollouts import Move, target
from mesh.tables import Reader


def moved_rule(look: Reader, rollout: Rollout, move: Move) -> HTTPRouteRule | None:
    """The rule that is moved, as its object has it."""
    route = declared_request_route(look, target(rollout))
    return route.rules[move.rule] if route is not None and move.rule < len(route.rules) else None


def backend_refs(rule: HTTPRouteRule, move: Move) -> tuple[HTTPBackendRef, HTTPBackendRef]:
    """Stable and canary."""
    canary = rule.backend_refs[move.canary] if move.canary is not None else move.ref
    return rule.backend_refs[move.stable], canary


def unavailable(look: Reader, rollout: Rollout, move: Move) -> str:
    """Why the canary can answer nothing; empty where it can."""
    rule = moved_rule(look, rollout, move)
    if rule is None:
        return ""
    canary = backend_refs(rule, move)[1]
    backend = resolve(look, route=target(rollout), ref=canary)
    if isinstance(backend, Invalid):
        return backend.message
    return "" if endpoint_count(look, backend, own=True) else f"{canary.kind} {canary.name} has no endpoints."
