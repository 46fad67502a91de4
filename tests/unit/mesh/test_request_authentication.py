"""What RequestAuthentications come to, and what their owners are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.gateways import GatewayKey
from mesh.jwks import NOBODYS_KEYS
from mesh.model import KEY_SETS, Audience, KeySetRow
from mesh.request_authentication import (
    REQUIREMENTS,
    WANTED_KEY_SETS,
    Guarded,
    RequirementKey,
    keys_of,
    told,
)
from mesh.tables import Change
from tests.support.issuers import Issuer
from tests.support.model import Model

EDGE = GatewayKey("default", "edge")
A, B = "https://a.org/keys", "https://b.org/keys"
BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  gatewayClassName: fairlead
  listeners:
  - {name: one, port: 80, protocol: HTTP}
  - {name: raw, port: 9000, protocol: TCP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: default}
spec:
  parentRefs: [{name: edge}]
  rules: [{name: api, backendRefs: [{name: web, port: 80}]}, {backendRefs: [{name: web, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: inner, namespace: default}
spec:
  parentRefs: [{kind: Service, group: "", name: web}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {name: web, namespace: default}
spec: {ports: [{name: http, port: 80, protocol: HTTP}, {name: raw, port: 81, protocol: TCP}]}
"""


def policy(name: str, target: dict[str, str], **spec: Any) -> str:
    group = "gateway.networking.k8s.io" if target["kind"] in ("Gateway", "HTTPRoute") else ""
    document = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "RequestAuthentication",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"targetRefs": [{"group": group, **target}], **spec},
    }
    return json.dumps(document)


def rules(*uris: str) -> list[dict[str, str]]:
    return [{"issuer": uri, "jwksUri": uri} for uri in uris]


def model(*policies: str) -> Model:
    made = Model()
    made.apply("\n---\n".join((BASE, *policies)))
    assert made.engine.faults == {}
    return made


def conditions(made: Model, name: str = "p") -> dict[str, tuple[bool, str, str]]:
    found = made.status("RequestAuthentication", name).conditions
    return {one.type: (one.status, one.reason, one.message) for one in found}


def requirements(made: Model) -> dict[str, tuple[list[str], bool]]:
    return {
        f"{key.section}:{'/'.join(part for part in key.guarded if part)}": (
            [rule.issuer for rule in row.rules],
            row.required,
        )
        for key, row in made.engine.rows(REQUIREMENTS).items()
    }


ROUTE = {"kind": "HTTPRoute", "name": "shop"}


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ((), {}),
        ((policy("p", {"kind": "Gateway", "name": "edge"}, jwtRules=rules(A)),), {":": ([A], False)}),
        (
            (policy("p", {"kind": "Gateway", "name": "edge", "sectionName": "one"}, required=True),),
            {"one:": ([], True)},
        ),
        ((policy("p", ROUTE, jwtRules=rules(A)),), {":default/HTTPRoute/shop": ([A], False)}),
        (
            (
                policy("p", {"kind": "Namespace", "name": "default"}, jwtRules=rules(A)),
                policy("q", ROUTE, required=True),
            ),
            {":": ([A], False), ":default/HTTPRoute/shop": ([A], True)},
        ),
        (
            (policy("p", {"kind": "Namespace", "name": "default"}, jwtRules=rules(A), required=True),),
            {":": ([A], True), ":default": ([A], True)},
        ),
        (
            (policy("p", ROUTE, jwtRules=rules(A)), policy("q", {**ROUTE, "sectionName": "api"}, jwtRules=rules(B))),
            {":default/HTTPRoute/shop": ([A], False), ":default/HTTPRoute/shop/api": ([B], False)},
        ),
        ((policy("p", {"kind": "Service", "name": "web"}, jwtRules=rules(A)),), {}),
    ],
)
def test_each_gateway_resolves_what_its_routes_name(
    policies: tuple[str, ...], expected: dict[str, tuple[list[str], bool]]
) -> None:
    assert requirements(model(*policies)) == expected


def test_a_route_that_is_attached_nowhere_needs_nothing() -> None:
    made = model(policy("p", ROUTE, jwtRules=rules(A)))
    made.delete("Gateway", "edge")
    assert requirements(made) == {}


def test_keys_are_asked_for_while_some_policy_names_them() -> None:
    made = model(policy("p", ROUTE, jwtRules=rules(A), overrides={"jwtRules": rules(B)}))
    assert set(made.engine.rows(WANTED_KEY_SETS)) == {A, B}
    made.delete("RequestAuthentication", "p")
    assert set(made.engine.rows(WANTED_KEY_SETS)) == set()


def test_the_keys_of_a_rule_are_those_fetched_those_written_or_nobodys() -> None:
    issuer = Issuer()
    written = [{"issuer": "w", "jwks": issuer.jwks}]
    made = model(policy("p", ROUTE, jwtRules=[*rules(A), *written]))
    found = made.engine.get(REQUIREMENTS, RequirementKey(EDGE, "", Guarded("default", "HTTPRoute", "shop")))
    assert found is not None
    fetched, own = found.rules
    from mesh.tables import Present

    look = Present(made.engine)
    assert keys_of(look, fetched) == NOBODYS_KEYS
    assert json.loads(keys_of(look, own)) == json.loads(issuer.jwks)
    made.engine.commit([Change(KEY_SETS, A, KeySetRow(problem="away"))])
    assert keys_of(look, fetched) == NOBODYS_KEYS
    made.engine.commit([Change(KEY_SETS, A, KeySetRow(b"{}", "away"))])
    assert keys_of(look, fetched) == b"{}"


def test_whether_keys_are_known_is_told() -> None:
    made = model(policy("p", ROUTE, jwtRules=rules(A, B)))
    status, reason, message = conditions(made)["KeysFetched"]
    assert (status, reason) == (False, "KeysUnknown")
    assert message.count("not fetched yet") == 2
    known = KeySetRow(NOBODYS_KEYS)
    made.engine.commit([Change(KEY_SETS, A, known), Change(KEY_SETS, B, KeySetRow(problem="it is away"))])
    status, reason, message = conditions(made)["KeysFetched"]
    assert (status, reason) == (False, "KeysUnknown")
    assert f"{B}: it is away; none of its tokens is valid" in message
    made.engine.commit([Change(KEY_SETS, B, KeySetRow(NOBODYS_KEYS, "it is away"))])
    assert conditions(made)["KeysFetched"][:2] == (True, "KeysOutdated")
    made.engine.commit([Change(KEY_SETS, B, known)])
    assert conditions(made)["KeysFetched"] == (True, "KeysFetched", "")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"kind": "Gateway", "name": "none"}, "Gateway default/none does not exist"),
        ({"kind": "Gateway", "name": "edge", "sectionName": "two"}, "has no listener two; it has: one, raw"),
        ({"kind": "Gateway", "name": "edge", "sectionName": "raw"}, "carries no HTTP"),
        ({"kind": "HTTPRoute", "name": "none"}, "HTTPRoute default/none does not exist"),
        ({"kind": "HTTPRoute", "name": "shop", "sectionName": "x"}, "has no rule x; it has: api"),
        ({"kind": "Service", "name": "none"}, "Service default/none does not exist"),
    ],
)
def test_a_target_that_is_not_there_is_told(target: dict[str, str], said: str) -> None:
    found = conditions(model(policy("p", target, jwtRules=rules(A))))
    assert found["Accepted"][:2] == (False, "TargetNotFound")
    assert said in found["ResolvedRefs"][2]


def test_what_has_no_effect_is_told() -> None:
    made = model(
        policy("p", {"kind": "Service", "name": "web"}, jwtRules=rules(A)),
        policy("q", {"kind": "HTTPRoute", "name": "inner"}, jwtRules=rules(A)),
        policy("r", {"kind": "Gateway", "name": "edge"}, jwtRules=[], required=True),
    )
    status, _, message = conditions(made)["Accepted"]
    assert status
    assert "No sidecar stands in front of Service default/web" in message
    assert "no effect on port 81" in message
    assert "make it for the Service" in conditions(made, "q")["Accepted"][2]
    assert "every request is refused" in conditions(made, "r")["Accepted"][2]
    made.connect(Audience("sidecar", "default", "web", 80, 15006, 0))
    assert "No sidecar" not in conditions(made)["Accepted"][2]


def test_an_older_policy_for_the_same_target_wins_and_the_other_is_told() -> None:
    made = model(policy("a", ROUTE, jwtRules=rules(A)), policy("b", ROUTE, jwtRules=rules(B), required=True))
    assert requirements(made)[":default/HTTPRoute/shop"] == ([A], True)
    assert conditions(made, "b")["Conflicted"][0]


def test_people_see_what_holds_and_where() -> None:
    from mesh.request_authentication import WORKLOAD_REQUIREMENTS

    made = model(
        policy("p", {"kind": "Namespace", "name": "default"}, jwtRules=rules(A)),
        policy("q", {**ROUTE, "sectionName": "api"}, required=True),
        policy("r", {"kind": "Service", "name": "web", "sectionName": "http"}, required=True),
    )
    rows = told(made.engine.rows(REQUIREMENTS).items(), made.engine.rows(WORKLOAD_REQUIREMENTS).items())
    found = [(one.kind, one.name, one.section, one.where, bool(one.effective.settings.required)) for one in rows]
    assert found == [
        ("Gateway", "edge", "", "", False),
        ("Namespace", "default", "", "at Gateway default/edge", False),
        ("HTTPRoute", "shop", "api", "at Gateway default/edge", True),
        ("Service", "web", "", "", False),
        ("Service", "web", "80", "", True),
    ]
