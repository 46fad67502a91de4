"""What Rollouts make of the rules of routes: the shares of stable and canary are those of the present step.

No object is changed for it. How far a Rollout has come is an input row; whoever reads a route by
`mesh.request_routes.find_request_route` gets the rule as it is by now, whoever declared it. Of several Rollouts for one
rule the oldest moves it (Gateway API's precedence), and the others are told so. Where the target is not as the Rollout
says (the route, the rule or the stable backend is gone) the route counts as written.

A cohort is a copy of the rule's matches with one match more, ahead of the original and nothing else: it takes
requests from its own rule only. So is the rule for clients that have a cookie by which they stay with their version,
where the original gives them one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from mesh.cookie_matches import cookie_match
from mesh.kinds.grpcroute import GRPCBackendRef, GRPCRoute
from mesh.kinds.httproute import HTTPBackendRef, HTTPHeaderMatch, HTTPRoute, HTTPRouteMatch, HTTPRouteRule
from mesh.kinds.references import BackendObjectReference
from mesh.kinds.rollout import CohortMatch, Rollout, Stickiness, StickyCookie
from mesh.model import ROLLOUT_STATES, Declared, ObjectKey
from mesh.objects import OBJECTS, find
from mesh.precedence import RouteOrder, age
from mesh.tables import Look, Reader, derived, each

Orders = tuple[RouteOrder, ...]
_SHORTEST_ID: Final = 8  # of what we give to clients; who has less by that name has something else


class Share(msgspec.Struct, frozen=True):
    """The canary's part of the requests in percent; `under_way`: its cohort goes there too, and clients stay."""

    weight: int
    under_way: bool


class Move(msgspec.Struct, frozen=True):
    """What a Rollout moves: the rule by its number, and the place of `stable` among its backends.

    `canary` is the place of the canary there, None where the rule does not name it yet and `ref` joins them.
    `known` matches the clients that have the cookie that others are given. `apart`: the canary's requests by this rule
    are counted apart from all others that it gets.
    """

    rollout: ObjectKey
    rule: int
    stable: int
    canary: int | None
    ref: HTTPBackendRef
    cohort: tuple[HTTPHeaderMatch, ...] = ()
    sticky: Stickiness | None = None
    known: HTTPHeaderMatch | None = None
    apart: bool = False


class NotMoved(msgspec.Struct, frozen=True):
    """Why a Rollout moves nothing; `reason` is a word for conditions."""

    rollout: ObjectKey
    reason: str
    message: str


class Plan(msgspec.Struct, frozen=True):
    """What Rollouts do to a route."""

    moves: tuple[Move, ...] = ()
    others: tuple[NotMoved, ...] = ()

    def of(self, rollout: ObjectKey) -> Move | NotMoved | None:
        """What becomes of one of them."""
        found: tuple[Move | NotMoved, ...] = (*self.moves, *self.others)
        return next((one for one in found if one.rollout == rollout), None)


def target(rollout: Rollout) -> ObjectKey:
    """The route that a Rollout is about."""
    ref = rollout.spec.target_ref
    return ObjectKey(ref.kind, rollout.metadata.namespace, ref.name)


def _target(_key: ObjectKey, row: Declared) -> Iterable[ObjectKey]:
    return (target(row.object),) if isinstance(row.object, Rollout) else ()


ROLLOUTS_BY_ROUTE = OBJECTS.index("rollout target", _target)


@derived("rollout_shares", each(ROLLOUT_STATES))
def ROLLOUT_SHARES(key: ObjectKey, look: Look) -> Share | None:  # noqa: N802
    """What of a Rollout's state routes depend on, so that its counts move nothing."""
    state = look(ROLLOUT_STATES, key)
    if state is None:
        return None
    return Share(state.weight, under_way=state.step > 0 and state.phase in ("Progressing", "Paused"))


@derived("rollout_plans", each(OBJECTS, _target))
def ROLLOUT_PLANS(key: ObjectKey, look: Look) -> Plan | None:  # noqa: N802
    """Which Rollout moves which rule of a route."""
    found = [rollout for at in look.keys(ROLLOUTS_BY_ROUTE, key) if (rollout := find(look, Rollout, at)) is not None]
    moves: dict[int, Move] = {}
    others: list[NotMoved] = []
    for rollout in sorted(found, key=lambda one: age(one.metadata)):
        at = ObjectKey(rollout.kind, rollout.metadata.namespace, rollout.metadata.name)
        made = _move(look, key, at, rollout)
        if isinstance(made, Move) and (first := moves.get(made.rule)) is not None:
            said = f"{first.rollout} is older and moves rule {made.rule} of {key} already. Delete one of them."
            made = NotMoved(at, "Conflicted", said)
        if isinstance(made, Move):
            moves[made.rule] = made
        else:
            others.append(made)
    return Plan(tuple(moves[rule] for rule in sorted(moves)), tuple(others)) if found else None


def _move(look: Reader, route: ObjectKey, at: ObjectKey, rollout: Rollout) -> Move | NotMoved:
    found = find(look, HTTPRoute, route) or find(look, GRPCRoute, route)
    if found is None:
        return NotMoved(at, "TargetNotFound", f"{route} does not exist.")
    rules = found.spec.rules
    names = [rule.name for rule in rules]
    number = _rule(names, rollout.spec.target_ref.section_name)
    if number is None:
        there = ", ".join(name or str(place) for place, name in enumerate(names)) or "none"
        section = rollout.spec.target_ref.section_name
        what = f"has no rule {section}" if section is not None else "has several rules or none; name one by sectionName"
        return NotMoved(at, "TargetNotFound", f"{route} {what}; it has: {there}.")
    refs = rules[number].backend_refs
    stable, canary = (_place(route, refs, ref) for ref in (rollout.spec.stable, rollout.spec.canary))
    if stable is None:
        there = ", ".join(f"{ref.kind} {ref.name}" for ref in refs) or "none"
        said = f"Rule {number} of {route} has no backend {rollout.spec.stable.name}; it has: {there}."
        return NotMoved(at, "TargetNotFound", said)
    if refs[stable].weight + (refs[canary].weight if canary is not None else 0) == 0:
        return NotMoved(at, "NoEffect", f"Both backends have weight 0 in rule {number} of {route}: nothing can move.")
    cohort = tuple(_header(one) for one in rollout.spec.cohort)
    sticky = rollout.spec.sticky
    known = _known(sticky.cookie) if sticky is not None and sticky.cookie is not None else None
    taken = {match.name.lower() for one in rules[number].matches for match in one.headers}
    more = (*cohort, known) if known is not None else cohort
    if clash := sorted({one.name.lower() for one in more} & taken):
        said = f"Rule {number} of {route} matches header {clash[0]} itself, so that a cohort cannot be known by it."
        return NotMoved(at, "Invalid", said)
    apart = rollout.spec.analysis is not None and rollout.spec.analysis.scope == "Rule"
    return Move(at, number, stable, canary, _joining(rollout.spec.canary), cohort, sticky, known, apart)


def _rule(names: list[str | None], section: str | None) -> int | None:
    """The rule that is meant: by its name, else by its number, or the only one."""
    if section is None:
        return 0 if len(names) == 1 else None
    if section in names:
        return names.index(section)
    return int(section) if section.isdecimal() and len(section) < 3 and int(section) < len(names) else None


def _place(
    route: ObjectKey, refs: tuple[HTTPBackendRef, ...] | tuple[GRPCBackendRef, ...], wanted: BackendObjectReference
) -> int | None:
    for place, ref in enumerate(refs):
        alike = (ref.group, ref.kind, ref.name) == (wanted.group, wanted.kind, wanted.name)
        near = (ref.namespace or route.namespace) == (wanted.namespace or route.namespace)
        if alike and near and wanted.port in (None, ref.port):
            return place
    return None


def _joining(ref: BackendObjectReference) -> HTTPBackendRef:
    return HTTPBackendRef(
        group=ref.group, kind=ref.kind, name=ref.name, namespace=ref.namespace, port=ref.port, weight=0
    )


def _header(match: CohortMatch) -> HTTPHeaderMatch:
    if match.header is not None:
        return HTTPHeaderMatch(type=match.header.type, name=match.header.name, value=match.header.value)
    assert match.cookie is not None, "validation lets nothing else through"
    return cookie_match(match.cookie.name, re.escape(match.cookie.value))


def _known(cookie: StickyCookie) -> HTTPHeaderMatch | None:
    """The clients that were given a cookie; None where we give none."""
    if cookie.ttl is None:
        return None
    return cookie_match(cookie.name, rf"[^;\s]{{{_SHORTEST_ID},}}")


# -- what readers of routes get ---------------------------------------------------------------------------------------


class Copied(NamedTuple):
    """A rule that is a copy of the declared one of this number; `called` says what for."""

    origin: int
    called: Literal["canary", "known"]


class Sticking(msgspec.Struct, frozen=True):
    """By what the clients of a rule stay with a version: a header, or the value of a cookie.

    With `given` they have no cookie yet and get one.
    """

    by: Stickiness
    given: bool = False


class Moved(msgspec.Struct, frozen=True):
    """The rules of a route by now; `copies` tells of each rule after the declared ones.

    `sticking` has the rules, by their number, whose clients stay with a version. `apart` has canaries whose
    requests are counted apart, by the numbers of rule and backend, with their Rollout; `canaries` all those whose
    Rollout is under way.
    """

    rules: tuple[HTTPRouteRule, ...]
    orders: tuple[Orders, ...]
    copies: tuple[Copied, ...] = ()
    sticking: tuple[tuple[int, Sticking], ...] = ()
    apart: Mapping[tuple[int, int], ObjectKey] = {}
    canaries: frozenset[tuple[int, int]] = frozenset()


def moved(look: Reader, key: ObjectKey, rules: tuple[HTTPRouteRule, ...], orders: tuple[Orders, ...]) -> Moved:
    """The rules of a route with what Rollouts make of them."""
    plan = look(ROLLOUT_PLANS, key)
    if plan is None:
        return Moved(rules, orders)
    now, places = list(rules), list(orders)
    copies: list[tuple[Copied, HTTPRouteRule, Orders]] = []
    sticking: dict[int, Sticking] = {}
    apart: dict[tuple[int, int], ObjectKey] = {}
    judged: set[tuple[int, int]] = set()
    for move in plan.moves:
        share = look(ROLLOUT_SHARES, move.rollout)
        if share is None:
            continue
        rule = now[move.rule]
        refs = _shared(rule.backend_refs, move, share.weight)
        rule = now[move.rule] = replace(rule, backend_refs=refs)
        place = _canary(move, len(refs))
        if move.apart:
            apart[move.rule, place] = move.rollout
        if not share.under_way:
            continue
        judged.add((move.rule, place))
        known = (move.known,) if move.known is not None else ()
        places[move.rule], of_cohort, of_known = _room(places[move.rule], len(move.cohort), len(known))
        if move.sticky is not None:
            sticking[move.rule] = Sticking(move.sticky, given=bool(known))
        if move.cohort:
            judged.add((len(rules) + len(copies), 0))
            if move.apart:
                apart[len(rules) + len(copies), 0] = move.rollout
            alone = replace(rule.backend_refs[place], weight=1)
            canaries = replace(rule, matches=_with(rule.matches, move.cohort), backend_refs=(alone,))
            copies.append((Copied(move.rule, "canary"), canaries, of_cohort))
        if known and move.sticky is not None:
            number = len(rules) + len(copies)
            sticking[number] = Sticking(move.sticky)
            judged.add((number, place))
            if move.apart:
                apart[number, place] = move.rollout
            copies.append((Copied(move.rule, "known"), replace(rule, matches=_with(rule.matches, known)), of_known))
    return Moved(
        (*now, *(rule for _, rule, _ in copies)),
        (*places, *(ahead for _, _, ahead in copies)),
        tuple(copied for copied, _, _ in copies),
        tuple(sorted(sticking.items())),
        apart,
        frozenset(judged),
    )


def _shared(refs: tuple[HTTPBackendRef, ...], move: Move, weight: int) -> tuple[HTTPBackendRef, ...]:
    """The backends of a rule, stable and canary sharing what both have together; the others keep their part.

    A client that stays is one place on the line of all weights. So the sum of these never changes, and the canary
    stands behind stable: as it gets more it takes its neighbour's clients, and nobody else changes the version.
    """
    found = list(refs) if move.canary is not None else [*refs, move.ref]
    canary = move.canary if move.canary is not None else len(refs)
    both = found[move.stable].weight + found[canary].weight
    parts = {move.stable: both * (100 - weight), canary: both * weight}
    now = [replace(ref, weight=parts.get(at, ref.weight * 100)) for at, ref in enumerate(found)]
    if move.sticky is not None:
        moving = now.pop(canary)
        now.insert(_canary(move, len(found)), moving)
    return tuple(now)


def _canary(move: Move, backends: int) -> int:
    """The place of the canary among so many backends by now."""
    canary = move.canary if move.canary is not None else backends - 1
    return canary if move.sticky is None else move.stable + (canary > move.stable)


def _with(matches: Iterable[HTTPRouteMatch], headers: tuple[HTTPHeaderMatch, ...]) -> tuple[HTTPRouteMatch, ...]:
    """Matches that ask for one of some headers too."""
    return tuple(replace(match, headers=(header, *match.headers)) for match in matches for header in headers)


def _room(orders: Orders, first: int, second: int) -> tuple[Orders, Orders, Orders]:
    """The places of a rule's matches; just ahead of each of them those of so many more, and then of so many again."""
    more = first + second

    def places(numbers: range) -> Orders:
        return tuple(order._replace(match=order.match * (more + 1) + number) for order in orders for number in numbers)

    return places(range(more, more + 1)), places(range(first)), places(range(first, more))
