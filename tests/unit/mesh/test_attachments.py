from __future__ import annotations

import pytest

from mesh.attachments import (
    ATTACHED,
    ATTACHMENTS,
    CONSUMER_ROUTES,
    ROUTES_BY_HOST,
    ROUTES_BY_LISTENER,
    ROUTES_BY_SERVICE,
    ConsumerKey,
    HostKey,
    ListenerKey,
    Parent,
    service_routes,
)
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.model import ObjectKey, ServiceKey
from mesh.tables import Present
from tests.support.model import Model

EDGE = GatewayKey("default", "edge")
GATEWAY = """
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: fairlead
  listeners:
  - {name: any, port: 80, protocol: HTTP}
  - {name: wild, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: other, port: 8080, protocol: HTTP, hostname: other.org}
"""


def route(name: str = "r", *, namespace: str = "default", parents: str = "{name: edge}", hosts: str = "") -> str:
    return (
        f"{{kind: HTTPRoute, metadata: {{name: {name}, namespace: {namespace}}}, "
        f"spec: {{parentRefs: [{parents}], hostnames: [{hosts}]}}}}"
    )


def parents(model: Model, name: str = "r", namespace: str = "default") -> tuple[Parent, ...]:
    row = model.engine.get(ATTACHMENTS, ObjectKey("HTTPRoute", namespace, name))
    assert row is not None
    return row.parents


def only(model: Model, name: str = "r", namespace: str = "default") -> Parent:
    (parent,) = parents(model, name, namespace)
    return parent


def hosts(parent: Parent) -> dict[str, tuple[str, ...]]:
    return {at.listener: at.hostnames for at in parent.listeners}


def test_a_route_without_hostnames_takes_those_of_each_listener() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route())
    assert hosts(only(model)) == {"any": ("",), "wild": ("*.example.com",), "other": ("other.org",)}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("a.example.com", {"any": ("a.example.com",), "wild": ("a.example.com",)}),
        ("'*.org'", {"any": ("*.org",), "other": ("other.org",)}),
        ("'*.a.example.com', example.com", {"any": ("*.a.example.com", "example.com"), "wild": ("*.a.example.com",)}),
        ("'*.com'", {"any": ("*.com",), "wild": ("*.example.com",)}),
    ],
)
def test_effective_hostnames_are_what_listener_and_route_both_mean(asked: str, expected: dict[str, tuple[str]]) -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route(hosts=asked))
    assert hosts(only(model)) == expected


def test_no_common_hostname_is_not_accepted() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route(parents="{name: edge, sectionName: other}", hosts="a.example.com"))
    assert (only(model).accepted, only(model).reason) == (False, "NoMatchingListenerHostname")


@pytest.mark.parametrize(
    ("ref", "listeners"),
    [
        ("sectionName: wild", {"wild"}),
        ("port: 80", {"any", "wild"}),
        ("port: 80, sectionName: any", {"any"}),
    ],
)
def test_section_name_and_port_select_listeners(ref: str, listeners: set[str]) -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route(parents=f"{{name: edge, {ref}}}"))
    assert set(hosts(only(model))) == listeners


@pytest.mark.parametrize("ref", ["sectionName: nope", "port: 81", "port: 8080, sectionName: any"])
def test_a_parent_ref_that_selects_no_listener_has_no_matching_parent(ref: str) -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route(parents=f"{{name: edge, {ref}}}"))
    assert (only(model).accepted, only(model).reason) == (False, "NoMatchingParent")


def test_a_gateway_that_does_not_exist_is_no_matching_parent_until_it_does() -> None:
    model = Model()
    model.apply(route())
    assert (only(model).accepted, only(model).reason) == (False, "NoMatchingParent")
    model.apply(GATEWAY)
    assert only(model).accepted


def test_a_gateway_of_another_controller_gets_no_result() -> None:
    model = Model()
    model.apply(GATEWAY.replace("gatewayClassName: fairlead", "gatewayClassName: other"))
    model.apply(route())
    assert parents(model) == ()


def test_a_parent_of_an_unknown_kind_is_told() -> None:
    model = Model()
    model.apply(route(parents="{group: a.com, kind: Thing, name: x}"))
    assert (only(model).accepted, only(model).reason) == (False, "InvalidKind")


def test_parents_are_judged_independently() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(
        route(parents="{name: edge, sectionName: any}, {name: edge, sectionName: nope}, {name: edge, port: 8080}")
    )
    assert [parent.accepted for parent in parents(model)] == [True, False, True]


def allowed(rule: str) -> str:
    return GATEWAY.replace("port: 80, protocol: HTTP}", f"port: 80, protocol: HTTP, allowedRoutes: {rule}}}")


def test_routes_of_other_namespaces_are_kept_out_by_default() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route(namespace="shop", parents="{name: edge, namespace: default}"))
    parent = only(model, namespace="shop")
    assert (parent.accepted, parent.reason) == (False, "NotAllowedByListeners")


def test_from_all_takes_routes_of_every_namespace() -> None:
    model = Model()
    model.apply(allowed("{namespaces: {from: All}}"))
    model.apply(route(namespace="shop", parents="{name: edge, namespace: default}"))
    assert set(hosts(only(model, namespace="shop"))) == {"any"}


def test_a_selector_follows_the_labels_of_the_namespace() -> None:
    model = Model()
    model.apply(allowed("{namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}"))
    model.apply(route(namespace="shop", parents="{name: edge, namespace: default, sectionName: any}"))
    assert only(model, namespace="shop").reason == "NotAllowedByListeners"
    model.apply("{kind: Namespace, metadata: {name: shop, labels: {team: a}}}")
    assert only(model, namespace="shop").accepted
    model.apply("{kind: Namespace, metadata: {name: shop, labels: {team: b}}}")
    assert not only(model, namespace="shop").accepted


def test_the_name_of_a_namespace_is_a_label_even_without_a_namespace_object() -> None:
    model = Model()
    selector = "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop]}]}"
    model.apply(allowed(f"{{namespaces: {{from: Selector, selector: {selector}}}}}"))
    for namespace in ("shop", "other"):
        model.apply(route(namespace=namespace, parents="{name: edge, namespace: default, sectionName: any}"))
    assert only(model, namespace="shop").accepted
    assert not only(model, namespace="other").accepted


def test_a_listener_that_takes_other_kinds_only_does_not_take_the_route() -> None:
    model = Model()
    model.apply(allowed("{kinds: [{kind: TCPRoute}]}"))
    model.apply(route(parents="{name: edge, sectionName: any}"))
    assert only(model).reason == "NotAllowedByListeners"


def test_attached_routes_are_counted_per_listener_and_go_when_they_go() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("a"))
    model.apply(route("b", hosts="b.example.com"))
    model.apply(route("c", parents="{name: edge, sectionName: nope}"))
    counts = {key.listener: count for key, count in model.engine.rows(ATTACHED).items()}
    assert counts == {"any": 2, "wild": 2, "other": 1}
    model.delete("HTTPRoute", "a")
    assert {key.listener: count for key, count in model.engine.rows(ATTACHED).items()} == {"any": 1, "wild": 1}


def test_routes_are_found_by_listener_and_by_host() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("a", hosts="a.example.com"))
    model.apply(route("b"))
    a, b = (ObjectKey("HTTPRoute", "default", name) for name in "ab")
    assert model.engine.group(ROUTES_BY_LISTENER, ListenerKey(EDGE, "wild")) == (a, b)
    assert model.engine.group(ROUTES_BY_HOST, HostKey(EDGE, "wild", "a.example.com")) == (a,)
    assert model.engine.group(ROUTES_BY_HOST, HostKey(EDGE, "wild", "*.example.com")) == (b,)
    assert model.engine.group(ROUTES_BY_HOST, HostKey(EDGE, "any", "")) == (b,)


def test_a_changed_rule_recomputes_one_attachment_and_no_other_route_of_the_gateway() -> None:
    model = Model()
    model.apply(GATEWAY)
    for number in range(20):
        model.apply(route(f"r{number}", hosts=f"h{number}.example.com"))
    text = route("r7", hosts="h7.example.com")[:-2] + ", rules: [{matches: [{path: {value: /x}}]}]}}"
    commit = model.apply(text)
    assert {table.name for table in commit.changes} == {"declared", "objects"}
    assert commit.computed <= 6


def test_an_added_route_leaves_its_gateway_and_the_other_routes_alone() -> None:
    model = Model()
    model.apply(GATEWAY)
    model.apply(route("a"))
    commit = model.apply(route("b"))
    assert set(commit.of(ATTACHMENTS)) == {ObjectKey("HTTPRoute", "default", "b")}
    assert commit.of(GATEWAYS) == {}


def test_a_gateway_whose_location_moves_changes_no_attachment() -> None:
    model = Model()
    model.apply(GATEWAY, source="files")
    model.apply(route())
    model.apply(GATEWAY, source="store")
    commit = model.delete("Gateway", "edge", source="store")
    assert commit.of(ATTACHMENTS) == {}


SERVICE = "{group: '', kind: Service, name: reviews, namespace: default}"
REVIEWS = ServiceKey("default", "reviews")


def test_a_route_may_stand_in_front_of_a_service() -> None:
    model = Model()
    model.apply(route(parents=SERVICE))
    assert only(model).reason == "NoMatchingParent"
    model.discover("reviews")
    assert (only(model).accepted, only(model).service, only(model).port) == (True, REVIEWS, 0)
    assert model.engine.group(ROUTES_BY_SERVICE, REVIEWS) == (ObjectKey("HTTPRoute", "default", "r"),)


def test_the_port_of_a_service_parent_must_be_one_of_its_own() -> None:
    model = Model()
    model.discover("reviews")
    model.apply(route("a", parents=SERVICE.replace("}", ", port: 80}")))
    model.apply(route("b", parents=SERVICE.replace("}", ", port: 81}")))
    assert (only(model, "a").accepted, only(model, "a").port) == (True, 80)
    assert only(model, "b").reason == "NoMatchingParent"


def test_group_fairlead_means_a_service_object_of_ours() -> None:
    model = Model()
    model.discover("reviews")
    model.apply(route(parents=SERVICE.replace("group: ''", "group: fairlead.dev")))
    assert not only(model).accepted
    model.apply("{kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 80}]}}")
    assert only(model).accepted


def test_consumer_routes_count_in_their_own_namespace_only_and_win_there() -> None:
    model = Model()
    model.discover("reviews")
    model.apply(route("producer", parents=SERVICE))
    model.apply(route("consumer", namespace="shop", parents=SERVICE))
    producer, consumer = ObjectKey("HTTPRoute", "default", "producer"), ObjectKey("HTTPRoute", "shop", "consumer")
    assert model.engine.group(ROUTES_BY_SERVICE, REVIEWS) == (producer,)
    assert model.engine.group(CONSUMER_ROUTES, ConsumerKey("shop", REVIEWS)) == (consumer,)
    look = Present(model.engine)
    assert service_routes(look, client_namespace="shop", service=REVIEWS, port=80) == (consumer,)
    assert service_routes(look, client_namespace="third", service=REVIEWS, port=80) == (producer,)
    assert service_routes(look, client_namespace="default", service=REVIEWS, port=80) == (producer,)


def test_a_consumer_route_for_one_port_leaves_the_owner_s_routes_on_the_others() -> None:
    model = Model()
    model.discover("reviews", ports=[("http", 80, 8080), ("admin", 9000, 9000)])
    model.apply(route("producer", parents=SERVICE))
    model.apply(route("consumer", namespace="shop", parents=SERVICE.replace("}", ", port: 80}")))
    look = Present(model.engine)
    names = {
        port: [key.name for key in service_routes(look, client_namespace="shop", service=REVIEWS, port=port)]
        for port in (80, 9000)
    }
    assert names == {80: ["consumer"], 9000: ["producer"]}


def test_a_parent_that_nobody_knows_is_told_only_where_no_other_controller_may_know_it() -> None:
    model = Model()
    model.apply(route(parents="{name: nowhere}, {group: example.com, kind: Thing, name: x}"))
    assert [parent.reason for parent in parents(model)] == ["NoMatchingParent", "InvalidKind"]
    model.apply("{kind: GatewayClass, metadata: {name: ours}, spec: {controllerName: fairlead.dev/gateway-controller}}")
    assert len(parents(model)) == 2
    model.apply("{kind: GatewayClass, metadata: {name: theirs}, spec: {controllerName: example.com/x}}")
    assert parents(model) == ()
    model.delete("GatewayClass", "theirs", "")
    assert len(parents(model)) == 2


def test_of_routes_of_both_kinds_for_one_hostname_the_older_one_has_it_until_it_is_gone() -> None:
    model = Model()
    model.apply(GATEWAY)

    def apply(kind: str, name: str, day: int, *names: str) -> None:
        stamp = f"2024-01-{day:02}T00:00:00Z"
        spec = f"{{parentRefs: [{{name: edge, sectionName: any}}], hostnames: [{', '.join(names)}]}}"
        model.apply(f"{{kind: {kind}, metadata: {{name: {name}, creationTimestamp: '{stamp}'}}, spec: {spec}}}")

    def accepted() -> dict[str, bool]:
        rows = model.engine.rows(ATTACHMENTS).items()
        return {key.name: all(parent.accepted for parent in row.parents) for key, row in rows}

    apply("HTTPRoute", "wide", 1, '"*.a.com"', "b.com")
    apply("GRPCRoute", "narrow", 2, "x.a.com")
    apply("GRPCRoute", "apart", 2, "a.com", '"*.b.com"')
    apply("GRPCRoute", "any", 3)
    apply("HTTPRoute", "behind", 4, "y.b.com")
    assert accepted() == {"wide": True, "narrow": False, "apart": True, "any": False, "behind": False}
    (row,) = model.engine.rows(ATTACHMENTS)[ObjectKey("GRPCRoute", "default", "narrow")].parents
    assert row.reason == "HostnameConflict"
    assert "HTTPRoute default/wide" in row.message
    assert model.engine.get(ATTACHED, ListenerKey(EDGE, "any")) == 2
    model.delete("HTTPRoute", "wide")
    assert accepted() == {"narrow": True, "apart": True, "any": True, "behind": False}
