"""Policies: which one counts for a target, field by field, and what their authors are told."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.backends import Backend
from mesh.conditions import Condition
from mesh.kinds.trafficpolicy import TrafficSettings
from mesh.model import MESH, MeshSettings, ObjectKey, ServiceKey
from mesh.policies import TRAFFIC, BackendKey, Layer, Ports, merge
from mesh.statuses import STATUSES
from mesh.tables import Change, Present
from mesh.tries import of_backends
from tests.support.model import Model
from tests.support.routing import document

REVIEWS = BackendKey(ServiceKey("default", "reviews"))
LISTENER = {"name": "http", "port": 80, "protocol": "HTTP"}
V2 = BackendKey(ServiceKey("default", "reviews"), "v2")
WORLD = (
    document("Service", "reviews", {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]})
    + document("ServiceSubset", "v2", {"service": "reviews", "labels": {"version": "v2"}})
    + document("Service", "other", {"ports": [{"name": "http", "port": 80}]}, namespace="elsewhere")
)


def policy(
    name: str, to: str | dict[str, str] = "reviews", *, namespace: str = "default", created: str = "", **spec: Any
) -> str:
    target = {"kind": "Service", "name": to} if isinstance(to, str) else to
    text = document("TrafficPolicy", name, {"targetRefs": [target], **spec}, namespace=namespace)
    return text.replace('"metadata": {', f'"metadata": {{"creationTimestamp": "{created}", ') if created else text


def whole_namespace(name: str) -> dict[str, str]:
    return {"kind": "Namespace", "name": name}


def model(*policies: str) -> Model:
    made = Model()
    made.apply(text_of(WORLD, *policies))
    return made


def text_of(*documents: str) -> str:
    return "".join(documents).rstrip().removesuffix("---")


def traffic(made: Model, key: BackendKey = REVIEWS) -> Ports | None:
    return made.engine.get(TRAFFIC, key)


def settings(made: Model, key: BackendKey = REVIEWS, port: int = 80) -> dict[str, Any]:
    """Field by path → value, for the fields that policies set."""
    row = traffic(made, key)
    effective = row.of_port(port) if row is not None else None
    found = {}
    for origin in effective.origins if effective is not None else ():
        value = effective.settings if effective is not None else None
        for part in origin.path.split("."):
            value = getattr(value, "".join(f"_{c.lower()}" if c.isupper() else c for c in part))
        found[origin.path] = value
    return found


def conditions(made: Model, name: str) -> dict[str, Condition]:
    status = made.engine.get(STATUSES, ObjectKey("TrafficPolicy", "default", name))
    assert status is not None
    return {condition.type: condition for condition in status.conditions}


def test_without_a_policy_nothing_is_said() -> None:
    assert traffic(model()) is None


def test_the_narrower_target_wins_field_by_field() -> None:
    made = model(
        policy("all", whole_namespace("default"), timeouts={"connect": "1s", "idle": "1s", "request": "1s"}),
        policy("service", timeouts={"idle": "2s", "request": "2s"}),
        policy("port", {"kind": "Service", "name": "reviews", "sectionName": "http"}, timeouts={"request": "3s"}),
    )
    assert settings(made) == {"timeouts.connect": "1s", "timeouts.request": "3s", "timeouts.idle": "2s"}
    assert settings(made, port=81)["timeouts.request"] == "2s"


def test_a_subset_inherits_from_its_service() -> None:
    subset = {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "v2"}
    made = model(
        policy("service", timeouts={"idle": "2s", "request": "2s"}), policy("v2", subset, timeouts={"idle": "9s"})
    )
    assert settings(made, V2) == {"timeouts.request": "2s", "timeouts.idle": "9s"}
    assert settings(made) == {"timeouts.request": "2s", "timeouts.idle": "2s"}


def test_overrides_of_the_wider_target_win_over_everything() -> None:
    over = {"circuitBreaker": {"maxRequests": 1}}
    made = model(
        policy("all", whole_namespace("default"), overrides=over),
        policy(
            "service",
            circuitBreaker={"maxRequests": 2, "maxConnections": 2},
            overrides={"circuitBreaker": {"maxRequests": 3}},
        ),
    )
    assert settings(made) == {"circuitBreaker.maxConnections": 2, "circuitBreaker.maxRequests": 1}


def test_the_root_namespaces_policy_for_itself_is_for_the_whole_mesh() -> None:
    made = model(policy("mesh", whole_namespace("root"), namespace="root", timeouts={"connect": "1s"}))
    other = BackendKey(ServiceKey("elsewhere", "other"))
    assert traffic(made, other) is None
    made.engine.commit([Change(MESH, "", MeshSettings(root_namespace="root"))])
    assert settings(made, other) == settings(made) == {"timeouts.connect": "1s"}


def test_of_two_policies_for_one_target_the_older_wins_and_the_younger_is_told_which_fields_it_lost() -> None:
    made = model(
        policy("young", created="2026-02-01T00:00:00Z", timeouts={"request": "9s", "idle": "9s"}),
        policy("old", created="2026-01-01T00:00:00Z", timeouts={"request": "1s"}),
    )
    assert settings(made) == {"timeouts.request": "1s", "timeouts.idle": "9s"}
    told = conditions(made, "young")
    assert told["Accepted"].status
    assert (told["Conflicted"].status, told["Conflicted"].message) == (
        True,
        "Older policies for the same target set these fields: timeouts.request (TrafficPolicy default/old).",
    )
    assert "Conflicted" not in conditions(made, "old")


def test_a_policy_that_loses_all_its_fields_is_not_accepted() -> None:
    made = model(
        policy("young", created="2026-02-01T00:00:00Z", timeouts={"request": "9s"}),
        policy("old", created="2026-01-01T00:00:00Z", timeouts={"request": "1s"}),
    )
    assert conditions(made, "young")["Accepted"].reason == "Conflicted"


def test_what_is_one_decision_is_taken_whole() -> None:
    made = model(
        policy("all", whole_namespace("default"), loadBalancer={"slowStart": {"window": "10s", "aggression": 3.0}}),
        policy("service", loadBalancer={"slowStart": {"window": "20s"}}),
    )
    slow = settings(made)["loadBalancer.slowStart"]
    assert (slow.window, slow.aggression) == ("20s", 1.0)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"kind": "Service", "name": "gone"}, "Service default/gone does not exist."),
        (
            {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "gone"},
            "ServiceSubset default/gone does not exist.",
        ),
        (
            {"kind": "Service", "name": "reviews", "sectionName": "https"},
            "Service default/reviews has no port https; it has: http, admin.",
        ),
    ],
)
def test_a_target_that_does_not_exist_is_told(target: dict[str, str], words: str) -> None:
    told = conditions(model(policy("lost", target, timeouts={"idle": "1s"})), "lost")
    for kind in ("Accepted", "ResolvedRefs"):
        assert (told[kind].status, told[kind].reason, told[kind].message) == (
            False,
            "TargetNotFound",
            f"spec.targetRefs[0]: {words}",
        )


def test_a_grpc_health_check_of_a_port_without_http2_is_told_to_have_no_effect() -> None:
    told = conditions(
        model(
            policy(
                "checked", {"kind": "Service", "name": "reviews", "sectionName": "admin"}, healthChecks=[{"grpc": {}}]
            )
        ),
        "checked",
    )
    assert told["Accepted"].status
    assert told["Accepted"].message == (
        "gRPC health checks have no effect on port 81 of Service default/reviews, which speaks HTTP."
    )


def test_tries_for_which_the_time_of_another_policy_does_not_suffice_are_told() -> None:
    wide = policy("wide", whole_namespace("default"), timeouts={"perTry": "2s"}, retry={"attempts": 1})
    made = model(wide, policy("narrow", timeouts={"request": "3s"}), policy("other", "nosuch", timeouts={"idle": "1s"}))
    told = conditions(made, "narrow")["Accepted"]
    assert told.status
    assert told.message == (
        "Tries may not end in time: 2 of 2s in 3s for Service default/reviews (timeouts.request TrafficPolicy "
        "default/narrow, timeouts.perTry TrafficPolicy default/wide, retry.attempts TrafficPolicy default/wide)."
    )
    made.apply(text_of(policy("narrow", timeouts={"request": "4s"})))
    assert conditions(made, "narrow")["Accepted"].message == ""


@pytest.mark.parametrize(
    ("target", "told_of"),
    [
        ({"kind": "Service", "name": "reviews", "sectionName": "admin"}, "Service default/reviews:admin"),
        ({"group": "fairlead.dev", "kind": "ServiceSubset", "name": "v2"}, "ServiceSubset default/v2"),
        ({"group": "fairlead.dev", "kind": "Backend", "name": "outside"}, "Backend default/outside"),
        (whole_namespace("default"), "Namespace default/default"),
    ],
)
def test_tries_without_time_are_told_to_policies_for_all_kinds_of_targets(target: dict[str, str], told_of: str) -> None:
    outside = document("Backend", "outside", {"endpoints": [{"ip": {"address": "192.0.2.1", "port": 80}}]})
    root = policy("mesh", whole_namespace("fairlead-system"), namespace="fairlead-system", timeouts={"perTry": "2s"})
    made = model(outside, root, policy("narrow", target, timeouts={"request": "5s"}, retry={"codes": [503]}))
    told = conditions(made, "narrow")["Accepted"]
    assert told.status
    assert told.message == (
        f"Tries may not end in time: 3 of 2s in 5s for {told_of} (timeouts.request TrafficPolicy default/narrow, "
        "timeouts.perTry TrafficPolicy fairlead-system/mesh)."
    )
    made.apply(text_of(policy("narrow", target, timeouts={"request": "6s"}, retry={"codes": [503]})))
    assert conditions(made, "narrow")["Accepted"].message == ""


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("timeouts: {request: 3s}", "2 of 2s in 3s (timeouts.request, timeouts.perTry TrafficPolicy default/wide, BY)"),
        ("timeouts: {backendRequest: 4s}", "2 of 4s in 6s (timeouts.request TrafficPolicy default/wide, OWN, BY)"),
        ("retry: {}", "3 of 2s in 5s (timeouts.request TrafficPolicy default/wide, BOTH, retry)"),
        ("timeouts: {request: 3s, backendRequest: 2s}", "2 of 2s in 3s (timeouts.request, OWN, BY)"),
        ("timeouts: {request: 4s}", ""),
        ("timeouts: {request: 0s, backendRequest: 9s}", ""),
        ("timeouts: {backendRequest: 0s}", ""),
    ],
)
def test_a_route_is_told_of_tries_for_which_there_is_no_time(rule: str, said: str) -> None:
    said = said.replace("BY", "retry.attempts TrafficPolicy default/wide").replace("OWN", "timeouts.backendRequest")
    said = said.replace("BOTH", "timeouts.perTry TrafficPolicy default/wide")
    timeouts = {"perTry": "2s", "request": "6s" if "backendRequest: 4s" in rule else "5s"}
    wide = policy("wide", whole_namespace("default"), timeouts=timeouts, retry={"attempts": 1})
    made = model(
        wide,
        document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": [LISTENER]}),
        f"kind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: [{{name: edge}}]\n  rules:\n"
        f"  - {{backendRefs: [{{name: reviews, port: 80}}], {rule}}}\n---\n",
    )
    status = made.engine.get(STATUSES, ObjectKey("HTTPRoute", "default", "r"))
    assert status is not None
    told = next(one for one in status.parents[0].conditions if one.type == "Accepted")
    assert told.status
    assert told.message == (f"spec.rules[0]: tries may not end in time: {said}." if said else "")


def test_a_retry_that_says_nothing_is_the_default_one() -> None:
    made = model(policy("empty", timeouts={"perTry": "1s"}, retry={}))
    limits = of_backends(Present(made.engine), [Backend(ServiceKey("default", "reviews"), 80)])
    assert (limits.repeated, limits.each, limits.said) == (2, 1000, "retry")


def test_a_policy_touches_its_own_backend_alone() -> None:
    more = "".join(document("Service", f"s{number}", {"ports": [{"port": 80}]}) for number in range(50))
    made = model(more, policy("service", timeouts={"connect": "1s"}))
    changed = made.apply(text_of(policy("service", timeouts={"connect": "2s"})))
    assert set(changed.of(TRAFFIC)) == {REVIEWS, V2}


def test_merging_says_of_each_field_whose_it_is() -> None:
    first, second = (ObjectKey("TrafficPolicy", "default", name) for name in "ab")
    made = merge(
        [
            Layer(TrafficSettings(proxy_protocol="V1"), first),
            Layer(TrafficSettings(proxy_protocol="V2", health_checks=()), second),
        ],
        TrafficSettings,
    )
    assert made is not None
    assert dict(made.origins) == {"proxyProtocol": first, "healthChecks": second}
    assert made.settings == TrafficSettings(proxy_protocol="V1", health_checks=())
