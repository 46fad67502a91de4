from __future__ import annotations

import msgspec
import pytest

from mesh.backends import Backend, Invalid, resolve
from mesh.kinds.references import BackendObjectReference
from mesh.model import ObjectKey, ServiceKey
from mesh.tables import Present
from tests.support.model import Model

ROUTE = ObjectKey("HTTPRoute", "default", "r")
REVIEWS = ServiceKey("default", "reviews")


def ask(model: Model, **ref: object) -> Backend | Invalid:
    return resolve(Present(model.engine), route=ROUTE, ref=msgspec.convert(ref, BackendObjectReference))


def reason(model: Model, **ref: object) -> str:
    answer = ask(model, **ref)
    assert isinstance(answer, Invalid)
    assert answer.message.endswith(".")
    return answer.reason


def test_an_empty_group_means_the_merged_service() -> None:
    model = Model()
    assert reason(model, name="reviews", port=80) == "BackendNotFound"
    model.discover("reviews", "10.0.0.1")
    assert ask(model, name="reviews", port=80) == Backend(REVIEWS, 80)


def test_a_service_without_endpoints_is_a_valid_backend() -> None:
    model = Model()
    model.discover("reviews")
    assert ask(model, name="reviews", port=80) == Backend(REVIEWS, 80)


def test_group_fairlead_means_only_what_our_service_objects_say() -> None:
    model = Model()
    model.discover("reviews", "10.0.0.1")
    ours = {"group": "fairlead.dev", "kind": "Service", "name": "reviews", "port": 80}
    assert reason(model, **ours) == "BackendNotFound"
    model.apply("{kind: Service, metadata: {name: reviews}, spec: {ports: [{name: http, port: 80}]}}")
    assert ask(model, **ours) == Backend(REVIEWS, 80, own=True)
    other = Model()
    other.apply("{kind: Service, metadata: {name: reviews}, spec: {ports: [{name: http, port: 80}]}}")
    assert ask(other, **ours) == Backend(REVIEWS, 80)


def test_a_subset_needs_its_object_and_its_service() -> None:
    model = Model()
    ref = {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "v2", "port": 80}
    assert reason(model, **ref) == "BackendNotFound"
    model.apply("{kind: ServiceSubset, metadata: {name: v2}, spec: {service: reviews, labels: {version: v2}}}")
    assert reason(model, **ref) == "BackendNotFound"
    model.discover("reviews")
    assert ask(model, **ref) == Backend(REVIEWS, 80, subset="v2")


@pytest.mark.parametrize(("group", "kind"), [("", "Pod"), ("a.com", "Service"), ("", "ServiceSubset")])
def test_a_reference_to_another_kind_is_an_invalid_kind(group: str, kind: str) -> None:
    model = Model()
    model.discover("reviews")
    assert reason(model, group=group, kind=kind, name="reviews", port=80) == "InvalidKind"


def test_the_port_is_required_and_must_be_one_of_the_service() -> None:
    model = Model()
    model.discover("reviews")
    assert reason(model, name="reviews") == "UnsupportedValue"
    assert reason(model, name="reviews", port=81) == "BackendNotFound"


def test_a_port_that_does_not_speak_http_is_an_unsupported_protocol() -> None:
    model = Model()
    model.apply("{kind: Service, metadata: {name: dns}, spec: {ports: [{name: dns, port: 53, protocol: UDP}]}}")
    assert reason(model, name="dns", port=53) == "UnsupportedProtocol"


def test_another_namespace_must_grant_the_reference() -> None:
    model = Model()
    model.discover("reviews", namespace="shop")
    ref = {"name": "reviews", "namespace": "shop", "port": 80}
    assert reason(model, **ref) == "RefNotPermitted"
    model.apply("""
    kind: ReferenceGrant
    metadata: {name: g, namespace: shop}
    spec:
      from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
      to: [{group: "", kind: Service}]
    """)
    assert ask(model, **ref) == Backend(ServiceKey("shop", "reviews"), 80)
    assert reason(model, **{**ref, "group": "fairlead.dev"}) == "RefNotPermitted"
    model.delete("ReferenceGrant", "g", "shop")
    assert reason(model, **ref) == "RefNotPermitted"


def test_a_missing_service_in_another_namespace_is_not_given_away() -> None:
    assert reason(Model(), name="reviews", namespace="shop", port=80) == "RefNotPermitted"


OUTSIDE = {"group": "fairlead.dev", "kind": "Backend", "name": "shop"}


def test_a_backend_object_is_a_destination_of_its_own_beside_a_service_of_its_name() -> None:
    model = Model()
    model.discover("shop", "10.0.0.1")
    assert reason(model, **OUTSIDE) == "BackendNotFound"
    model.apply("{kind: Backend, metadata: {name: shop}, spec: {endpoints: [{ip: {address: 203.0.113.7, port: 80}}]}}")
    assert ask(model, **OUTSIDE) == Backend(ServiceKey("default", "shop"), 0, outside=True)
    assert ask(model, name="shop", port=80) == Backend(ServiceKey("default", "shop"), 80)
    assert reason(model, **{**OUTSIDE, "group": ""}) == "InvalidKind"
    assert reason(model, **OUTSIDE, namespace="other") == "RefNotPermitted"
    model.delete("Backend", "shop")
    assert reason(model, **OUTSIDE) == "BackendNotFound"


def test_what_a_backend_object_speaks_decides_which_routes_reach_it() -> None:
    model = Model()
    kinds = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")

    def reaching(protocol: str) -> list[str]:
        place = "{ip: {address: 203.0.113.7, port: 80}}"
        model.apply(
            f"{{kind: Backend, metadata: {{name: shop}}, spec: {{protocol: {protocol}, endpoints: [{place}]}}}}"
        )
        ref = msgspec.convert(OUTSIDE, BackendObjectReference)
        look = Present(model.engine)
        answers = {kind: resolve(look, route=ObjectKey(kind, "default", "r"), ref=ref) for kind in kinds}
        return [kind for kind, answer in answers.items() if isinstance(answer, Backend)]

    assert reaching("HTTP") == reaching("TCP") == ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"]
    assert reaching("TLS") == ["TLSRoute", "TCPRoute"]
    assert reaching("UDP") == ["UDPRoute"]


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ("hostnames: [a.example.com, '*.b.example.com']", True),
        ("hostnames: [a.example.com, example.org]", False),
        ("hostnames: [example.com]", False),
        ("hostnames: ['*.com']", False),
        ("hostnames: []", False),
        ("hostnames: [a.example.com], parentRefs: [{group: '', kind: Service, name: shop}]", False),
        ("hostnames: [a.example.com], rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: a.org}}]}]", False),
        ("hostnames: [a.example.com], rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: INSIDE}}]}]", True),
    ],
)
def test_a_route_to_a_dynamic_resolver_stays_within_its_hostnames(spec: str, allowed: bool) -> None:
    model = Model()
    model.apply("{kind: Backend, metadata: {name: shop}, spec: {dynamicResolver: {hostnames: ['*.example.com']}}}")
    parents = "" if "parentRefs" in spec else "parentRefs: [{name: edge}], "
    spec = spec.replace("INSIDE", "inside.example.com")
    model.apply(f"{{kind: HTTPRoute, metadata: {{name: r}}, spec: {{{parents}{spec}}}}}")
    answer = ask(model, **OUTSIDE)
    assert isinstance(answer, Backend) == allowed
    assert isinstance(answer, Backend) or answer.reason == "UnsupportedValue"


def test_a_policy_by_which_clients_choose_the_host_closes_a_dynamic_resolver() -> None:
    model = Model()
    model.apply("{kind: Backend, metadata: {name: shop}, spec: {dynamicResolver: {hostnames: ['*.example.com']}}}")
    model.apply(
        "{kind: HTTPRoute, metadata: {name: r}, "
        "spec: {parentRefs: [{name: edge}], hostnames: [a.example.com], rules: [{name: first}]}}"
    )
    assert isinstance(ask(model, **OUTSIDE), Backend)
    target = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r, sectionName: first}"
    model.apply(
        f"{{kind: RoutePolicy, metadata: {{name: p}}, "
        f"spec: {{targetRefs: [{target}], rewrite: {{host: {{fromHeader: x-host}}}}}}}}"
    )
    assert reason(model, **OUTSIDE) == "UnsupportedValue"
    model.delete("RoutePolicy", "p")
    assert isinstance(ask(model, **OUTSIDE), Backend)
