"""What Rollouts make of routes, and what they are told: shares, cohorts, conflicts, targets that are not there."""

from __future__ import annotations

from typing import Any

import msgspec
import re2

from mesh.explain import explain
from mesh.gateways import GatewayKey
from mesh.kinds.httproute import HTTPRouteRule
from mesh.kinds.rollout import Rollout
from mesh.model import ROLLOUT_STATES, ObjectKey, Phase, RolloutState
from mesh.objects import find
from mesh.request_routes import find_request_route
from mesh.rollout_machine import moves
from mesh.status import Status
from mesh.tables import Change, Present
from tests.support.model import Model

ROUTE = ObjectKey("HTTPRoute", "default", "reviews")
WORLD = """
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.dev/gateway-controller}
---
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 80, protocol: HTTP}]}
"""
HTTP_ROUTE = """
kind: HTTPRoute
metadata: {name: reviews}
spec:
  parentRefs: [{name: edge}]
  rules:
  - name: main
    matches: [{path: {value: /}}]
    backendRefs:
    - {name: reviews, port: 80, weight: 3}
    - {name: reviews-v2, port: 80, weight: 0}
    - {name: other, port: 80, weight: 1}
  - matches: [{path: {value: /plain}}]
    backendRefs: [{name: reviews, port: 80}]
"""


def rollout(name: str = "reviews", *, section: str | None = "main", **spec: Any) -> str:
    made = {
        "kind": "Rollout",
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "reviews", **({"sectionName": section} if section else {})},
            "stable": {"name": "reviews"},
            "canary": {"name": "reviews-v2"},
            "steps": [{"weight": 25}],
            **spec,
        },
    }
    return msgspec.json.encode(made).decode()


def model(*documents: str) -> Model:
    made = Model()
    made.apply("\n---\n".join((WORLD, *documents)))
    for service in ("reviews", "reviews-v2", "other"):
        made.discover(service, "10.0.0.1")
    return made


def at(made: Model, weight: int, phase: Phase = "Progressing", *, name: str = "reviews", step: int = 1) -> None:
    key = ObjectKey("Rollout", "default", name)
    found = find(Present(made.engine), Rollout, key)
    digest = moves(found) if found is not None else ""
    state = RolloutState(digest, phase, step, weight, message="So it is.", reason="Step")
    made.engine.commit([Change(ROLLOUT_STATES, key, state)])


def rules(made: Model, key: ObjectKey = ROUTE) -> tuple[HTTPRouteRule, ...]:
    route = find_request_route(Present(made.engine), key)
    assert route is not None
    return route.rules


def weights(rule: HTTPRouteRule) -> dict[str, int]:
    return {ref.name: ref.weight for ref in rule.backend_refs}


def shares(rule: HTTPRouteRule) -> dict[str, float]:
    total = sum(ref.weight for ref in rule.backend_refs)
    return {ref.name: ref.weight / total for ref in rule.backend_refs}


def conditions(status: Status) -> dict[str, tuple[bool, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in status.conditions}


def accepted(made: Model, name: str = "reviews") -> tuple[bool, str, str]:
    return conditions(made.status("Rollout", name))["Accepted"]


def test_stable_and_canary_share_what_they_have_together_and_others_keep_their_part() -> None:
    made = model(HTTP_ROUTE, rollout())
    assert weights(rules(made)[0]) == {"reviews": 3, "reviews-v2": 0, "other": 1}
    for percent in (0, 1, 25, 100):
        at(made, percent)
        found = shares(rules(made)[0])
        assert found["reviews-v2"] == 0.75 * percent / 100
        assert found["other"] == 0.25
    assert weights(rules(made)[1]) == {"reviews": 1}


def test_without_a_state_or_after_its_end_the_route_counts_as_written() -> None:
    made = model(HTTP_ROUTE, rollout())
    at(made, 50)
    made.delete("Rollout", "reviews")
    assert weights(rules(made)[0]) == {"reviews": 3, "reviews-v2": 0, "other": 1}


def test_a_client_that_stays_is_never_moved_but_from_stable_to_the_canary() -> None:
    for sticky in ({"header": "x-user"}, {"cookie": {"name": "id", "ttl": "1h"}}):
        made = model(HTTP_ROUTE, rollout(sticky=sticky))
        before: list[str] = []
        for percent in (0, 1, 20, 60, 99, 100):
            at(made, percent)
            line = [ref.name for ref in rules(made)[0].backend_refs for _ in range(ref.weight)]
            assert line.index("other") == 300, "the canary stands next to stable"
            if before:
                assert len(line) == len(before) == 400
                moved = {(was, now) for was, now in zip(before, line, strict=True) if was != now}
                assert moved == {("reviews", "reviews-v2")}
            before = line


def test_clients_that_were_given_a_cookie_have_a_rule_of_their_own_behind_the_cohort_and_ahead_of_all_others() -> None:
    cohort = [{"header": {"name": "x-canary", "value": "yes"}}]
    made = model(HTTP_ROUTE, rollout(sticky={"cookie": {"name": "v", "ttl": "1h"}}, cohort=cohort))
    at(made, 20)
    route = find_request_route(Present(made.engine), ROUTE)
    assert route is not None
    assert [route.label(number) for number in range(len(route.rules))] == ["main", "1", "main~canary", "main~known"]
    assert [route.declared(number) for number in range(4)] == [0, 1, 0, 0]
    assert [route.stays(number) is not None for number in range(4)] == [True, False, False, True]
    assert route.stays(0, grpc=True) is None
    given, known = route.stays(0), route.stays(3)
    assert given is not None
    assert known is not None
    assert (given.given, known.given) == (True, False)
    assert weights(route.rules[3]) == weights(route.rules[0])
    (first,), (canary,), (last,) = route.orders[0], route.orders[2], route.orders[3]
    assert canary < last < first
    (match,) = route.rules[3].matches
    (header,) = match.headers
    for value, is_known in {
        "v=3f2b5a52-1c2f": True,
        "a=b; v=3f2b5a52-1c2f; c=d": True,
        "v=-": False,
        "vv=3f2b5a52-1c2f": False,
        "a=v=": False,
        "v=": False,
    }.items():
        assert (re2.fullmatch(header.value, value) is not None) == is_known, value
    at(made, 0, "RolledBack")
    assert len(rules(made)) == 2


def test_a_canary_is_counted_apart_where_it_is_asked_for_in_all_copies_of_its_rule() -> None:
    more = {"cohort": [{"header": {"name": "x", "value": "y"}}], "sticky": {"cookie": {"name": "v", "ttl": "1h"}}}
    for canary in ({"name": "reviews-v2"}, {"name": "other-v2", "port": 80}):
        made = model(HTTP_ROUTE, rollout(**more, canary=canary, analysis={"successRate": 99, "scope": "Rule"}))
        at(made, 20)
        route = find_request_route(Present(made.engine), ROUTE)
        assert route is not None
        found = {(number, route.rules[number].backend_refs[place].name) for number, place in route.apart}
        assert found == {(number, canary["name"]) for number in (0, 2, 3)}
        assert set(route.apart.values()) == {ObjectKey("Rollout", "default", "reviews")}
    made = model(HTTP_ROUTE, rollout(**more, analysis={"successRate": 99}))
    at(made, 20)
    route = find_request_route(Present(made.engine), ROUTE)
    assert route is not None
    assert route.apart == {}
    found = {(number, route.rules[number].backend_refs[place].name) for number, place in route.canaries}
    assert found == {(number, "reviews-v2") for number in (0, 2, 3)}
    for phase, percent in (("RolledBack", 0), ("Promoted", 100)):
        at(made, percent, phase)
        route = find_request_route(Present(made.engine), ROUTE)
        assert route is not None
        assert route.canaries == frozenset()


def test_a_rule_that_matches_cookies_itself_cannot_give_one() -> None:
    matching = HTTP_ROUTE.replace("{path: {value: /}}", "{headers: [{name: Cookie, value: a=b}]}")
    made = model(matching, rollout(sticky={"cookie": {"name": "v", "ttl": "1h"}}))
    assert accepted(made)[:2] == (False, "Invalid")
    made = model(matching, rollout(sticky={"cookie": {"name": "v"}}))
    assert accepted(made)[0]


def test_a_canary_that_the_rule_does_not_name_joins_its_backends() -> None:
    route = HTTP_ROUTE.replace("    - {name: reviews-v2, port: 80, weight: 0}\n", "")
    made = model(route, rollout(canary={"name": "reviews-v2", "port": 80}))
    at(made, 20)
    assert shares(rules(made)[0]) == {"reviews": 0.6, "other": 0.25, "reviews-v2": 0.15}


def test_only_the_routes_of_a_rollout_are_derived_again_as_it_moves_and_its_counts_move_none() -> None:
    made = model(HTTP_ROUTE, rollout())
    at(made, 10)
    key = ObjectKey("Rollout", "default", "reviews")
    state = made.engine.get(ROLLOUT_STATES, key)
    assert state is not None
    counted = msgspec.structs.replace(state, passed=7, revision=9)
    commit = made.engine.commit([Change(ROLLOUT_STATES, key, counted)])
    assert {table.name for table in commit.changes} == {"rollout_states", "statuses"}


def test_a_cohort_goes_to_the_canary_whatever_the_step_ahead_of_its_own_rule_alone() -> None:
    cohort = [{"header": {"name": "x-canary", "value": "yes"}}, {"cookie": {"name": "beta", "value": "1.0"}}]
    made = model(HTTP_ROUTE, rollout(cohort=cohort))
    at(made, 0)

    def goes(path: str, **headers: str) -> list[tuple[str, float]]:
        answer = explain(
            made.engine,
            GatewayKey("default", "edge"),
            method="GET",
            url=f"http://x.com{path}",
            headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
        )
        assert answer.rule in (0, 1)
        return [(share.ref.partition("/")[2], share.share) for share in answer.backends if share.share]

    plain = [("reviews:80", 0.75), ("other:80", 0.25)]
    canary = [("reviews-v2:80", 1.0)]
    assert goes("/") == goes("/", x_canary="no") == goes("/", cookie="beta=1x0") == plain
    assert goes("/", cookie="alphabeta=1.0") == goes("/", cookie="beta=1.01") == plain
    assert goes("/", x_canary="yes") == goes("/", cookie="beta=1.0") == canary
    assert goes("/", cookie="a=b; beta=1.0; c=d") == goes("/", cookie="beta=1.0; c=d") == canary
    assert goes("/plain", x_canary="yes") == [("reviews:80", 1.0)]
    for phase in ("Promoted", "RolledBack"):
        at(made, 0, phase)
        assert goes("/", x_canary="yes") == plain


def test_a_cohort_keeps_the_place_of_its_rule_among_rules_with_as_many_headers() -> None:
    other = """
kind: HTTPRoute
metadata: {name: older, creationTimestamp: "2020-01-01T00:00:00Z"}
spec:
  parentRefs: [{name: edge}]
  rules: [{matches: [{headers: [{name: x-user, value: me}]}], backendRefs: [{name: other, port: 80}]}]
"""
    made = model(HTTP_ROUTE, other, rollout(cohort=[{"header": {"name": "x-canary", "value": "yes"}}]))
    at(made, 0)
    answer = explain(
        made.engine,
        GatewayKey("default", "edge"),
        method="GET",
        url="http://x.com/",
        headers=[("x-user", "me"), ("x-canary", "yes")],
    )
    assert answer.route == ObjectKey("HTTPRoute", "default", "older")


def test_a_cohort_that_the_rule_matches_by_already_is_refused() -> None:
    route = HTTP_ROUTE.replace("{path: {value: /}}", "{headers: [{name: X-Canary, value: a}]}")
    made = model(route, rollout(cohort=[{"header": {"name": "x-canary", "value": "yes"}}]))
    assert accepted(made)[:2] == (False, "Invalid")


def test_calls_of_a_grpc_route_move_alike() -> None:
    route = """
kind: GRPCRoute
metadata: {name: reviews}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: reviews, port: 80}, {name: reviews-v2, port: 80}]}]}
"""
    target = {"kind": "GRPCRoute", "name": "reviews"}
    cohort = [{"header": {"name": "x-canary", "value": "yes"}}]
    made = model(route, rollout(targetRef=target, cohort=cohort))
    at(made, 25)
    found = rules(made, ObjectKey("GRPCRoute", "default", "reviews"))
    assert shares(found[0]) == {"reviews": 0.75, "reviews-v2": 0.25}
    assert shares(found[1]) == {"reviews-v2": 1.0}


def test_a_rule_is_found_by_name_by_number_or_by_being_the_only_one() -> None:
    for section, number in (("main", 0), ("1", 1)):
        made = model(HTTP_ROUTE, rollout(section=section, canary={"name": "reviews-v2", "port": 80}))
        at(made, 100)
        assert shares(rules(made)[number])["reviews"] == 0
    for section, words in ((None, "several rules"), ("2", "no rule 2"), ("nosuch", "no rule nosuch")):
        holds, reason, message = accepted(model(HTTP_ROUTE, rollout(section=section)))
        assert (holds, reason) == (False, "TargetNotFound")
        assert words in message
        assert "it has: main, 1" in message


def test_of_two_rollouts_for_one_rule_the_older_moves_it_and_the_other_is_told() -> None:
    young = rollout("a-young", section="0", metadata={"creationTimestamp": "2026-01-02T00:00:00Z"})
    old = rollout("old", metadata={"creationTimestamp": "2026-01-01T00:00:00Z"})
    made = model(HTTP_ROUTE, young, old)
    at(made, 10, name="old")
    at(made, 90, name="a-young")
    assert shares(rules(made)[0])["reviews-v2"] == 0.075
    holds, reason, message = accepted(made, "a-young")
    assert (holds, reason) == (False, "Conflicted")
    assert "Rollout default/old is older" in message
    made.delete("Rollout", "old")
    assert accepted(made, "a-young")[0]
    assert shares(rules(made)[0])["reviews-v2"] == 0.675


def test_rollouts_for_two_rules_of_a_route_do_not_meet() -> None:
    other = rollout("plain", section="1", canary={"name": "reviews-v2", "port": 80})
    made = model(HTTP_ROUTE, rollout(), other)
    at(made, 10)
    at(made, 50, name="plain")
    assert [round(shares(rule)["reviews-v2"], 3) for rule in rules(made)] == [0.075, 0.5]


def test_a_route_that_loses_its_stable_backend_or_its_weights_counts_as_written() -> None:
    made = model(HTTP_ROUTE, rollout())
    at(made, 50)
    made.apply(HTTP_ROUTE.replace("name: reviews, port", "name: reviews-v3, port"))
    assert weights(rules(made)[0])["reviews-v2"] == 0
    assert "has no backend reviews; it has: Service reviews-v3" in accepted(made)[2]
    made.apply(HTTP_ROUTE.replace("weight: 3", "weight: 0"))
    assert accepted(made)[:2] == (False, "NoEffect")
    made.delete("HTTPRoute", "reviews")
    assert accepted(made) == (False, "TargetNotFound", "HTTPRoute default/reviews does not exist.")
    made.apply(HTTP_ROUTE)
    assert shares(rules(made)[0])["reviews-v2"] == 0.375


def test_a_route_that_is_edited_in_the_middle_keeps_the_canary_at_its_share() -> None:
    made = model(HTTP_ROUTE, rollout())
    at(made, 50)
    made.apply(HTTP_ROUTE.replace("weight: 3", "weight: 9"))
    assert shares(rules(made)[0]) == {"reviews": 0.45, "reviews-v2": 0.45, "other": 0.1}


def test_the_status_tells_how_far_it_is_and_which_backend_is_not_there() -> None:
    made = model(HTTP_ROUTE, rollout(canary={"name": "nosuch", "port": 80}))
    status = made.status("Rollout", "reviews")
    assert status.rollout is None
    assert conditions(status)["ResolvedRefs"][1:] == (
        "BackendNotFound",
        "spec.canary: Service default/nosuch does not exist.",
    )
    made.apply(rollout())
    at(made, 25)
    status = made.status("Rollout", "reviews")
    assert {name: told[:2] for name, told in conditions(status).items()} == {
        "Accepted": (True, "Accepted"),
        "ResolvedRefs": (True, "ResolvedRefs"),
        "Progressing": (True, "Step"),
    }
    told = status.to_json()["rollout"]
    assert (told["phase"], told["step"], told["weight"]) == ("Progressing", 1, 25)
    at(made, 0, "RolledBack")
    assert conditions(made.status("Rollout", "reviews"))["Progressing"][0] is False


def test_a_state_of_what_it_moved_before_is_not_told() -> None:
    made = model(HTTP_ROUTE, rollout())
    at(made, 25)
    made.apply(rollout(version="2"))
    assert made.status("Rollout", "reviews").rollout is None


def test_the_routes_own_status_is_about_what_its_object_says() -> None:
    cohort = [{"header": {"name": "x-canary", "value": "yes"}}]
    made = model(
        HTTP_ROUTE.replace("    - {name: reviews-v2, port: 80, weight: 0}\n", ""),
        rollout(cohort=cohort, canary={"name": "nosuch", "port": 80}),
    )
    at(made, 25)
    [parent] = made.status("HTTPRoute", "reviews").parents
    assert all(condition.status for condition in parent.conditions)
