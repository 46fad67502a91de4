"""Who sees what: views, and what stands in for resources that a proxy rejected."""

from __future__ import annotations

from mesh.model import (
    AUDIENCES,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    REJECTIONS,
    Audience,
    Connected,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    Locality,
    Rejection,
    RejectionKey,
    ServicePort,
)
from mesh.tables import Change, Engine
from tests.support.model import declared, objects
from xds.resources import View, ViewKey
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER, TYPE_ROUTE, TYPE_SCOPED_ROUTE, TYPE_SECRET
from xds.translate.offline import resources, translated
from xds.translate.tables import RESOURCE_TABLES, TABLES, VIEWS

EDGE = Audience("gateway", "default", "edge")
CONFIG = """
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 10000, protocol: HTTP}]}
---
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 80}], endpoints: [{address: 10.0.0.1}]}
---
kind: HTTPRoute
metadata: {name: reviews}
spec:
  parentRefs: [{name: edge}]
  hostnames: [a.example.com]
  rules: [{backendRefs: [{name: reviews, port: 80}]}]
"""
SCOPE = "http-10000/a.example.com"
OVER_SOTW = EDGE._replace(sotw=True)
SOTW_CONNECTED = Change(AUDIENCES, OVER_SOTW, Connected())


def engine_with(*changes: Change) -> Engine:
    engine = Engine(TABLES)
    engine.commit([*(declared(each) for each in objects(CONFIG)), *changes])
    assert engine.faults == {}
    return engine


def view(engine: Engine, audience: Audience, type_url: str) -> View:
    found = engine.get(VIEWS, ViewKey(audience, type_url))
    assert found is not None
    return found


def rejected(engine: Engine, last_good: bytes | None, *, everywhere: bool = True) -> Change:
    [resource] = [each for each in resources(engine, EDGE, TYPE_SCOPED_ROUTE) if each.name == SCOPE]
    key = RejectionKey(EDGE, TYPE_SCOPED_ROUTE, SCOPE, resource.version)
    row = Rejection(
        node="n",
        detail="no",
        last_good=last_good,
        last_good_version="good" if last_good else "",
        last_good_needs=("default/before:80",) if last_good else (),
        everywhere=everywhere,
    )
    return Change(REJECTIONS, key, row)


def test_a_gateway_has_its_views_before_any_proxy_connects() -> None:
    engine = engine_with()
    assert [key.name for key in view(engine, EDGE, TYPE_CLUSTER).keys] == ["default/reviews:80"]
    assert view(engine, EDGE, TYPE_SECRET) == View(())


def test_a_gateway_that_does_not_exist_has_empty_views_once_a_proxy_asks() -> None:
    nowhere = Audience("gateway", "default", "nowhere")
    assert engine_with().get(VIEWS, ViewKey(nowhere, TYPE_LISTENER)) is None
    engine = engine_with(Change(AUDIENCES, nowhere, Connected()))
    assert {view(engine, nowhere, type_url) for type_url in RESOURCE_TABLES} == {View(())}


def test_sidecars_of_a_namespace_share_everything_but_their_listeners() -> None:
    one, two = (Audience("sidecar", "default", name, 80, 15006, 15001) for name in ("reviews", "other"))
    engine = engine_with(Change(AUDIENCES, one, Connected()), Change(AUDIENCES, two, Connected()))
    different = {url for url in RESOURCE_TABLES if view(engine, one, url) != view(engine, two, url)}
    assert different == {TYPE_LISTENER}


def test_a_rejected_version_is_replaced_by_the_last_good_one() -> None:
    engine = engine_with()
    engine.commit([rejected(engine, b"good bytes")])
    [stands] = [each for each in resources(engine, EDGE, TYPE_SCOPED_ROUTE) if each.name == SCOPE]
    assert (stands.version, stands.any) == ("good", b"good bytes")
    assert stands.needs == ("default/before:80",)


def test_a_rejected_version_without_a_good_one_is_withheld() -> None:
    engine = engine_with()
    engine.commit([rejected(engine, None)])
    assert SCOPE not in [each.name for each in resources(engine, EDGE, TYPE_SCOPED_ROUTE)]


def test_a_rejection_that_is_one_proxys_own_trouble_overrides_nothing() -> None:
    engine = engine_with()
    engine.commit([rejected(engine, None, everywhere=False)])
    assert view(engine, EDGE, TYPE_SCOPED_ROUTE).overrides == ()


def test_a_rejection_ends_with_the_version_it_was_about() -> None:
    engine = engine_with()
    change = rejected(engine, None)
    [changed] = objects(CONFIG.rpartition("---")[2].replace("a.example.com", "a.example.com, b.example.com"))
    engine.commit([change])
    assert view(engine, EDGE, TYPE_SCOPED_ROUTE).overrides
    engine.commit([declared(changed)])
    assert view(engine, EDGE, TYPE_SCOPED_ROUTE).overrides, "another host of the route changed nothing in this scope"
    [changed] = objects(CONFIG.rpartition("---")[2].replace("[{backendRefs", "[{timeouts: {request: 1s}, backendRefs"))
    engine.commit([declared(changed)])
    assert view(engine, EDGE, TYPE_SCOPED_ROUTE).overrides == ()


def test_over_state_of_the_world_a_gateway_sees_the_same_but_for_its_listeners() -> None:
    engine = engine_with(SOTW_CONNECTED)
    different = {url for url in RESOURCE_TABLES if view(engine, EDGE, url) != view(engine, OVER_SOTW, url)}
    assert different == {TYPE_LISTENER}
    assert [key.name for key in view(engine, OVER_SOTW, TYPE_LISTENER).keys] == ["[::]:10000"]
    assert [key.name for key in view(engine, OVER_SOTW, TYPE_ROUTE).keys] == ["http-10000"]


def test_a_proxy_whose_types_come_by_different_variants_finds_the_routes_that_its_listeners_name() -> None:
    engine = engine_with(SOTW_CONNECTED)
    for audience in (EDGE, OVER_SOTW):
        assert [key.name for key in view(engine, audience, TYPE_ROUTE).keys] == ["http-10000"]
        assert SCOPE in [key.name for key in view(engine, audience, TYPE_SCOPED_ROUTE).keys]


def test_a_gateway_asks_for_scopes_over_delta_and_for_route_configurations_over_state_of_the_world() -> None:
    engine = engine_with(SOTW_CONNECTED)
    asked = {
        audience: [url for url in (TYPE_ROUTE, TYPE_SCOPED_ROUTE) if resources(engine, audience, url)]
        for audience in (EDGE, OVER_SOTW)
    }
    assert asked == {EDGE: [TYPE_SCOPED_ROUTE], OVER_SOTW: [TYPE_ROUTE]}


def test_what_delta_gets_does_not_depend_on_who_speaks_state_of_the_world() -> None:
    alone, together = translated(engine_with(), EDGE), translated(engine_with(SOTW_CONNECTED), EDGE)
    assert alone == together


def test_a_rejection_over_state_of_the_world_leaves_delta_alone() -> None:
    engine = engine_with(SOTW_CONNECTED)
    [routes] = resources(engine, OVER_SOTW, TYPE_ROUTE)
    row = Rejection(node="n", detail="no", last_good=b"good bytes", last_good_version="good")
    engine.commit([Change(REJECTIONS, RejectionKey(OVER_SOTW, TYPE_ROUTE, routes.name, routes.version), row)])
    assert [each.any for each in resources(engine, OVER_SOTW, TYPE_ROUTE)] == [b"good bytes"]
    assert all(view(engine, EDGE, url).overrides == () for url in RESOURCE_TABLES)


def in_zones(*hints: str) -> list[Change]:
    """The service with an endpoint for each set of zones, and proxies of the gateway in the zones a and b."""
    endpoints = ", ".join(f"{{address: 10.0.0.{number}, forZones: [{zones}]}}" for number, zones in enumerate(hints, 1))
    text = f"""
kind: Service
metadata: {{name: reviews}}
spec: {{ports: [{{name: http, port: 80}}], endpoints: [{endpoints}]}}
"""
    connected = [Change(AUDIENCES, EDGE._replace(zone=zone), Connected()) for zone in "ab"]
    return [*(declared(each) for each in objects(text)), *connected]


def first_of(engine: Engine, zone: str) -> set[str]:
    """The addresses that come first for a zone."""
    [assignment] = translated(engine, EDGE._replace(zone=zone))[TYPE_ENDPOINT]
    return {
        endpoint["endpoint"]["address"]["socket_address"]["address"]
        for group in assignment.get("endpoints", ())
        if not group.get("priority")
        for endpoint in group["lb_endpoints"]
    }


def test_proxies_of_a_zone_see_those_endpoints_first_that_are_for_it() -> None:
    engine = engine_with(*in_zones("a", "b", "a, b"))
    assert first_of(engine, "a") == {"10.0.0.1", "10.0.0.3"}
    assert first_of(engine, "b") == {"10.0.0.2", "10.0.0.3"}
    assert first_of(engine, "") == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_without_hints_all_zones_share_the_very_same_view() -> None:
    engine = engine_with(*in_zones("", ""))
    views = {zone: view(engine, EDGE._replace(zone=zone), TYPE_ENDPOINT) for zone in ("", "a", "b")}
    assert views["a"] is views["b"] is views[""]


def test_a_zone_without_endpoints_of_its_own_sees_what_all_see() -> None:
    engine = engine_with(*in_zones("a", "a"))
    assert view(engine, EDGE._replace(zone="b"), TYPE_ENDPOINT) is view(engine, EDGE, TYPE_ENDPOINT)


def test_hints_that_come_and_go_change_endpoints_and_nothing_else() -> None:
    engine = engine_with(*in_zones("", "b"))
    changed = engine.commit(in_zones("a", "b"))
    assert {type_url for type_url, tables in RESOURCE_TABLES.items() if any(changed.of(table) for table in tables)} == {
        TYPE_ENDPOINT
    }
    assert first_of(engine, "a") == {"10.0.0.1"}
    engine.commit(in_zones("", "b"))
    assert first_of(engine, "a") == {"10.0.0.1", "10.0.0.2"}


ON_N1, ON_N2 = (EDGE._replace(zone="a", node=node) for node in ("n1", "n2"))


def on_nodes(*hints: str) -> list[Change]:
    """The service as a platform tells of it, with an endpoint in the zone a for each node, and proxies on n1 and n2."""
    [own] = [declared(each) for each in objects(CONFIG) if each.kind == "Service"]
    endpoints = tuple(
        Endpoint(f"10.0.0.{number}", (("http", 80),), locality=Locality(zone="a"), for_nodes=(node,) if node else ())
        for number, node in enumerate(hints, 1)
    )
    service = DiscoveredService((ServicePort("http", 80, "HTTP"),), export_to=("*",))
    return [
        Change(own.table, own.key, None),
        Change(DISCOVERED_SERVICES, DiscoveredServiceKey("k", "default", "reviews"), service),
        Change(
            DISCOVERED_ENDPOINTS,
            DiscoveredEndpointsKey("k", "default", "reviews", "1"),
            DiscoveredEndpoints(tuple(sorted(endpoints))),
        ),
        *(Change(AUDIENCES, audience, Connected()) for audience in (ON_N1, ON_N2)),
    ]


def first_for(engine: Engine, audience: Audience) -> set[str]:
    [assignment] = translated(engine, audience)[TYPE_ENDPOINT]
    return {
        endpoint["endpoint"]["address"]["socket_address"]["address"]
        for group in assignment.get("endpoints", ())
        if not group.get("priority")
        for endpoint in group["lb_endpoints"]
    }


def test_proxies_of_a_gateway_see_those_endpoints_first_that_are_for_their_node() -> None:
    engine = engine_with(*on_nodes("n1", "n2", "n3"))
    assert first_for(engine, ON_N1) == {"10.0.0.1"}
    assert first_for(engine, ON_N2) == {"10.0.0.2"}
    assert first_for(engine, ON_N1.kin) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_what_is_for_nodes_is_made_only_where_proxies_run() -> None:
    engine = engine_with(*on_nodes("n1", "n2", "n3", "n4"))
    scopes = {key.scope for table in RESOURCE_TABLES[TYPE_ENDPOINT] for key in engine.rows(table)}
    assert {scope for scope in scopes if scope.startswith("node/")} == {"node/n1", "node/n2"}


def test_a_node_without_endpoints_of_its_own_sees_what_all_see() -> None:
    engine = engine_with(*on_nodes("n1", "n1"))
    assert view(engine, ON_N2, TYPE_ENDPOINT) is view(engine, EDGE, TYPE_ENDPOINT)
    engine.commit(on_nodes("n1", ""))
    assert view(engine, ON_N1, TYPE_ENDPOINT) is view(engine, EDGE, TYPE_ENDPOINT), (
        "half a set of hints counts for nobody"
    )


def test_what_a_proxy_on_one_node_refused_is_withheld_on_all() -> None:
    engine = engine_with(*(Change(AUDIENCES, audience, Connected()) for audience in (ON_N1, ON_N2)))
    [resource] = [each for each in resources(engine, EDGE, TYPE_SCOPED_ROUTE) if each.name == SCOPE]
    key = RejectionKey(ON_N1.kin, TYPE_SCOPED_ROUTE, SCOPE, resource.version)
    engine.commit([Change(REJECTIONS, key, Rejection(node="n", detail="no", everywhere=True))])
    for audience in (ON_N1, ON_N2):
        assert [at.name for at, _ in view(engine, audience, TYPE_SCOPED_ROUTE).overrides] == [SCOPE]
