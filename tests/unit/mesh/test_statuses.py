from __future__ import annotations

import msgspec
import pytest

from mesh.model import REJECTIONS, Audience, ObjectKey, Rejection, RejectionKey
from mesh.status import Status
from mesh.statuses import STATUSES
from mesh.tables import Change
from tests.support.model import Model

GATEWAY = """
kind: Gateway
metadata: {name: edge, generation: 3}
spec:
  gatewayClassName: fairlead
  addresses: [{value: 127.0.0.2}]
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: missing}]}}
"""


def route(rules: str, parents: str = "{name: edge}") -> str:
    return (
        "{kind: HTTPRoute, metadata: {name: r, generation: 2}, "
        f"spec: {{parentRefs: [{parents}], rules: [{rules}]}}}}"
    )


def verdict(status: Status, kind: str) -> tuple[bool, str]:
    (condition,) = (item for item in status.parents[0].conditions if item.type == kind)
    return condition.status, condition.reason


def test_a_gateway_s_status_has_conditions_listeners_counts_and_addresses() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("{}"))
    wire = model.status("Gateway", "edge").to_json()
    assert [(item["type"], item["status"], item["reason"]) for item in wire["conditions"]] == [
        ("Accepted", "True", "ListenersNotValid"),
        ("Programmed", "True", "Programmed"),
    ]
    assert {item["observedGeneration"] for item in wire["conditions"]} == {3}
    assert wire["addresses"] == [{"type": "IPAddress", "value": "127.0.0.2"}]
    http, tls = wire["listeners"]
    assert (http["name"], http["attachedRoutes"]) == ("http", 1)
    assert [(kind["group"], kind["kind"]) for kind in http["supportedKinds"]] == [
        ("gateway.networking.k8s.io", "GRPCRoute"),
        ("gateway.networking.k8s.io", "HTTPRoute"),
    ]
    assert tls["attachedRoutes"] == 1, "counted though its certificate is missing"
    assert {item["type"]: item["reason"] for item in tls["conditions"]} == {
        "Accepted": "Accepted",
        "Conflicted": "NoConflicts",
        "Programmed": "Invalid",
        "ResolvedRefs": "InvalidCertificateRef",
    }


def test_a_route_s_status_names_its_parent_and_our_controller() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("{}", "{name: edge, sectionName: http}"))
    (parent,) = model.status("HTTPRoute", "r").to_json()["parents"]
    assert parent["parentRef"] == {"name": "edge", "sectionName": "http"}
    assert parent["controllerName"] == "fairlead.dev/gateway-controller"
    assert {item["type"]: (item["status"], item["observedGeneration"]) for item in parent["conditions"]} == {
        "Accepted": ("True", 2),
        "ResolvedRefs": ("True", 2),
    }


NOWHERE = "backendRef: {name: nope, port: 80}"


@pytest.mark.parametrize(
    ("rules", "reason", "path"),
    [
        ("{backendRefs: [{name: reviews, port: 80}]}", "ResolvedRefs", ""),
        ("{backendRefs: [{name: reviews, port: 80}, {name: nope, port: 80}]}", "BackendNotFound", "backendRefs[1]"),
        ("{}, {backendRefs: [{kind: Pod, name: x}]}", "InvalidKind", "spec.rules[1].backendRefs[0]"),
        ("{backendRefs: [{name: x, namespace: other, port: 80}]}", "RefNotPermitted", "backendRefs[0]"),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nope, port: 80}}}]}",
            "BackendNotFound",
            "spec.rules[0].filters[0].requestMirror.backendRef",
        ),
        (
            f"{{filters: [{{type: ExternalAuth, externalAuth: {{protocol: HTTP, http: {{}}, {NOWHERE}}}}}]}}",
            "BackendNotFound",
            "spec.rules[0].filters[0].externalAuth.backendRef",
        ),
        (
            "{filters: [{type: ExtensionRef, extensionRef: {group: a.com, kind: Magic, name: x}}]}",
            "InvalidKind",
            "spec.rules[0].filters[0].extensionRef",
        ),
    ],
)
def test_resolved_refs_tells_the_first_reference_that_leads_nowhere(rules: str, reason: str, path: str) -> None:
    model = Model()
    model.discover("reviews")
    model.apply(GATEWAY)
    model.apply(route(rules))
    status = model.status("HTTPRoute", "r")
    assert verdict(status, "ResolvedRefs") == (reason == "ResolvedRefs", reason)
    assert path in status.parents[0].conditions[1].message
    assert verdict(status, "Accepted") == (True, "Accepted")


def test_a_reference_that_comes_good_is_told() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("{backendRefs: [{name: reviews, port: 80}]}"))
    assert verdict(model.status("HTTPRoute", "r"), "ResolvedRefs") == (False, "BackendNotFound")
    model.discover("reviews")
    assert verdict(model.status("HTTPRoute", "r"), "ResolvedRefs") == (True, "ResolvedRefs")


def test_every_parent_has_its_own_verdict() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("{}", "{name: edge}, {name: edge, sectionName: nope}"))
    parents = model.status("HTTPRoute", "r").parents
    assert [parent.conditions[0].reason for parent in parents] == ["Accepted", "NoMatchingParent"]


def test_what_an_envoy_refused_reaches_the_object_in_its_words_and_goes_again() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("{}"))
    key = RejectionKey(Audience("gateway", "default", "edge"), "rds", "r", "v1")
    keys = (ObjectKey("Gateway", "default", "edge"), ObjectKey("HTTPRoute", "default", "r"))
    row = Rejection(node="edge-1", detail="Only one of x may be set.", objects=keys, last_good=b"x")
    model.engine.commit([Change(REJECTIONS, key, row)])
    assert verdict(model.status("HTTPRoute", "r"), "Programmed") == (False, "Rejected")
    (programmed,) = (item for item in model.status("Gateway", "edge").conditions if item.type == "Programmed")
    assert (programmed.status, programmed.reason) == (False, "Rejected")
    assert "edge-1" in programmed.message
    assert "Only one of x may be set." in programmed.message
    assert "last good" in programmed.message
    withheld = msgspec.structs.replace(row, last_good=None)
    model.engine.commit([Change(REJECTIONS, key._replace(version="v2"), withheld)])
    assert "1 more" in model.status("HTTPRoute", "r").parents[0].conditions[-1].message
    model.engine.commit([Change(REJECTIONS, key._replace(version=version), None) for version in ("v1", "v2")])
    assert all(item.type != "Programmed" for item in model.status("HTTPRoute", "r").parents[0].conditions)


@pytest.mark.parametrize("sotw", [False, True])
def test_a_listener_whose_port_an_envoy_refused_is_not_programmed_and_its_neighbours_are(sotw: bool) -> None:
    model = Model()
    listeners = "[{name: one, port: 80, protocol: HTTP}, {name: two, port: 81, protocol: HTTP}]"
    model.apply(
        f"{{kind: Gateway, metadata: {{name: edge}}, spec: {{gatewayClassName: fairlead, listeners: {listeners}}}}}"
    )
    kind = "type.googleapis.com/envoy.config.listener.v3.Listener"
    key = RejectionKey(Audience("gateway", "default", "edge", sotw=sotw), kind, "[::]:81", "v1")
    edge = ObjectKey("Gateway", "default", "edge")
    row = Rejection(node="edge-1", detail="cannot bind '[::]:81': Address already in use", objects=(edge,))

    def programmed() -> dict[str, str]:
        return {
            listener.name: next(
                f"{each.status} {each.message}" for each in listener.conditions if each.type == "Programmed"
            )
            for listener in model.status("Gateway", "edge").listeners
        }

    model.engine.commit([Change(REJECTIONS, key, row)])
    assert programmed()["one"] == "True "
    told = "False edge-1 refused it: cannot bind '[::]:81': Address already in use. It is withheld."
    assert programmed()["two"] == told
    model.engine.commit([Change(REJECTIONS, key, msgspec.structs.replace(row, everywhere=False))])
    assert programmed()["two"].endswith("Address already in use. It goes without; other proxies are given it.")
    model.engine.commit([Change(REJECTIONS, key, None)])
    assert programmed() == {"one": "True ", "two": "True "}


def test_a_gateway_class_of_ours_is_accepted_and_a_foreign_one_left_alone() -> None:
    model = Model()
    for name, controller in (("ours", "fairlead.dev/gateway-controller"), ("theirs", "example.com/x")):
        model.apply(f"{{kind: GatewayClass, metadata: {{name: {name}}}, spec: {{controllerName: {controller}}}}}")
    assert model.status("GatewayClass", "ours", "").conditions[0].status
    assert model.engine.get(STATUSES, ObjectKey("GatewayClass", "", "theirs")) is None


def test_unknown_parameters_of_a_gateway_class_are_invalid() -> None:
    model = Model()
    spec = "{controllerName: fairlead.dev/gateway-controller, parametersRef: {group: a.com, kind: X, name: y}}"
    model.apply(f"{{kind: GatewayClass, metadata: {{name: ours}}, spec: {spec}}}")
    condition = model.status("GatewayClass", "ours", "").conditions[0]
    assert (condition.status, condition.reason) == (False, "InvalidParameters")


def test_a_foreign_gateway_has_no_status() -> None:
    model = Model()
    model.apply(GATEWAY.replace("gatewayClassName: fairlead", "gatewayClassName: other"))
    assert model.engine.get(STATUSES, ObjectKey("Gateway", "default", "edge")) is None


def test_a_subset_of_a_missing_service_says_so() -> None:
    model = Model()
    model.apply("{kind: ServiceSubset, metadata: {name: v2}, spec: {service: reviews, labels: {version: v2}}}")
    status = model.status("ServiceSubset", "v2")
    assert [(item.type, item.status) for item in status.conditions] == [("Accepted", True), ("ResolvedRefs", False)]
    model.discover("reviews")
    assert all(item.status for item in model.status("ServiceSubset", "v2").conditions)
