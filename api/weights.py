"""Shifting weights between the backends of one rule of an HTTPRoute. Pure."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from api.problems import invalid
from mesh.kinds.httproute import HTTPBackendRef, HTTPRoute, HTTPRouteRule
from mesh.problems import Problem, child, shown

MAX_WEIGHT = 1_000_000  # Gateway API's limit


def shifted(route: HTTPRoute, rule: Any, weights: Any) -> HTTPRoute:
    """The route with new weights; `rule` is a name, an index, or None where there is only one rule.

    `weights` maps backends to weights: by name, or `name:port`, or `Kind/name[:port]` where names are not unique.
    Backends that it does not name keep theirs. Raises Refusal, with the fix.
    """
    index = _index(route, rule)
    at = route.spec.rules[index]
    refs = list(at.backend_refs)
    problems: list[Problem] = []
    if not isinstance(weights, dict) or not weights:
        raise invalid(
            [
                Problem(
                    "WrongType",
                    "error",
                    "weights",
                    "must map backends to weights",
                    'write for example {"weights": {"reviews": 90, "reviews-v2": 10}}',
                )
            ],
            what="The split",
        )
    for name, weight in weights.items():
        found = _position(refs, name, problems)
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= MAX_WEIGHT:
            problems.append(
                Problem(
                    "OutOfRange",
                    "error",
                    child("weights", name),
                    f"{shown(str(weight))} is not a weight",
                    f"give a whole number from 0 to {MAX_WEIGHT}",
                )
            )
        elif found is not None:
            refs[found] = replace(refs[found], weight=weight)
    if not problems and not any(ref.weight for ref in refs):
        problems.append(
            Problem(
                "NoBackendLeft",
                "error",
                "weights",
                "every backend of the rule would have weight 0, and every request get a 500",
                "give at least one backend a weight above 0",
            )
        )
    if problems:
        raise invalid(problems, what="The split")
    rules = (*route.spec.rules[:index], replace(at, backend_refs=tuple(refs)), *route.spec.rules[index + 1 :])
    return replace(route, spec=replace(route.spec, rules=rules))


def _index(route: HTTPRoute, rule: Any) -> int:
    rules = route.spec.rules
    if rule is None and len(rules) == 1:
        return 0
    if isinstance(rule, int) and not isinstance(rule, bool) and 0 <= rule < len(rules):
        return rule
    named = [index for index, one in enumerate(rules) if rule is not None and one.name == rule]
    if named:
        return named[0]
    there = ", ".join(_called(index, one) for index, one in enumerate(rules))
    what = "the route has several rules" if rule is None else f"there is no rule {shown(str(rule))!r}"
    raise invalid([Problem("NoSuchRule", "error", "rule", what, f"name one of: {there}")], what="The split")


def _called(index: int, rule: HTTPRouteRule) -> str:
    return f'{index} ("{rule.name}")' if rule.name else str(index)


def _position(refs: list[HTTPBackendRef], name: str, problems: list[Problem]) -> int | None:
    found = [index for index, ref in enumerate(refs) if name in _names(ref)]
    if len(found) == 1:
        return found[0]
    path = child("weights", name)
    if found:
        exact = ", ".join(sorted(_names(refs[index])[-1] for index in found))
        problems.append(
            Problem("AmbiguousBackend", "error", path, "names more than one backend", f"name one of: {exact}")
        )
    else:
        there = ", ".join(sorted({ref.name for ref in refs})) or "none: the rule has no backends"
        problems.append(Problem("NoSuchBackend", "error", path, "is no backend of this rule", f"name one of: {there}"))
    return None


def _names(ref: HTTPBackendRef) -> tuple[str, ...]:
    """What a backend may be called, from short to exact."""
    plain = (ref.name, f"{ref.kind}/{ref.name}")
    return (*plain, f"{ref.name}:{ref.port}", f"{ref.kind}/{ref.name}:{ref.port}") if ref.port else plain
