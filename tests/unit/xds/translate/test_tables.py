"""What a change costs, and that it comes out as a build from scratch would."""

from __future__ import annotations

import cProfile
import json
import pstats
import random
from pathlib import Path

import pytest

from mesh.model import AUDIENCES, DECLARED, Audience, Connected, DeclaredKey
from mesh.tables import Change, Commit, Engine, Table
from tests.support.certificates import Authority
from tests.support.model import declared, objects
from xds.resources import Resource, ResourceKey, ViewKey
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER, TYPE_ROUTE, TYPE_SCOPED_ROUTE
from xds.translate.route_configuration_tables import GATEWAY_ROUTES, ROUTE_PARTS
from xds.translate.tables import RESOURCE_TABLES, TABLES, VIEWS

GATEWAY = """
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 10000, protocol: HTTP}]}
"""
HOSTS = ("'*.example.com'", "b.org, c.org", "h1.example.com", "")
SOTW = Audience("gateway", "default", "edge", sotw=True)
SIDECAR = Audience("sidecar", "default", "s0", 8080, 15006, 15001)


def service(number: int, address: str = "10.0.0.1") -> Change:
    [item] = objects(f"""
kind: Service
metadata: {{name: s{number}}}
spec: {{ports: [{{name: http, port: 80}}], endpoints: [{{address: {address}, ports: {{http: 8080}}}}]}}
""")
    return declared(item)


def route(number: int, *, to: int = 0, hosts: str | None = None, weight: int = 1) -> Change:
    [item] = objects(f"""
kind: HTTPRoute
metadata: {{name: r{number}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{f"h{number}.example.com" if hosts is None else hosts}]
  rules: [{{backendRefs: [{{name: s{to}, port: 80, weight: {weight}}}, {{name: s1, port: 80}}]}}]
""")
    return declared(item)


def gateway() -> Change:
    [item] = objects(GATEWAY)
    return declared(item)


def built(routes: int = 20) -> Engine:
    engine = Engine(TABLES)
    engine.commit([gateway(), *(service(n) for n in range(5)), *(route(n) for n in range(routes))])
    assert engine.faults == {}
    return engine


def sent(commit: Commit) -> dict[str, int]:
    """How many resources of each type a commit changed."""
    tables: list[tuple[str, Table[ResourceKey, Resource]]] = [
        (url, table) for url, found in RESOURCE_TABLES.items() for table in found
    ]
    return {url: len(changed) for url, table in tables if (changed := commit.of(table))}


def test_a_moved_endpoint_touches_one_assignment_and_no_view() -> None:
    engine = built()
    commit = engine.commit([service(0, "10.0.0.2")])
    assert sent(commit) == {TYPE_ENDPOINT: 1}
    assert not commit.of(VIEWS)


@pytest.mark.parametrize("routes", [5, 50])
def test_a_changed_route_touches_its_own_scope_whatever_else_there_is(routes: int) -> None:
    engine = built(routes)
    commit = engine.commit([route(3, weight=7)])
    assert sent(commit) == {TYPE_SCOPED_ROUTE: 1}
    assert commit.computed < 10


@pytest.mark.parametrize("services", [20, 200])
def test_a_new_service_costs_the_same_among_few_and_many(services: int) -> None:
    engine = Engine(TABLES)
    engine.commit([*(service(n) for n in range(services)), Change(AUDIENCES, SIDECAR, Connected())])
    commit = engine.commit([service(services)])
    assert sent(commit) == {TYPE_CLUSTER: 1, TYPE_ENDPOINT: 1, TYPE_ROUTE: 1}
    assert commit.computed < 40


def test_sidecars_that_share_a_namespace_share_what_they_see() -> None:
    engine = Engine(TABLES)
    sidecars = [SIDECAR._replace(name=f"s{n}") for n in range(20)]
    engine.commit([*(service(n) for n in range(50)), *(Change(AUDIENCES, at, Connected()) for at in sidecars)])
    views = [engine.get(VIEWS, ViewKey(at, TYPE_ENDPOINT)) for at in sidecars]
    assert len({id(view.keys) for view in views if view is not None}) == 1
    commit = engine.commit([service(50)])
    assert {key.type_url for key in commit.of(VIEWS)} == {TYPE_CLUSTER, TYPE_ENDPOINT}


@pytest.mark.parametrize("hosts", ["'*.example.com'", "", "new.example.com"])
def test_no_route_ever_changes_a_listener(hosts: str) -> None:
    engine = built()
    engine.commit([Change(AUDIENCES, SOTW, Connected())])
    changed = route(99, hosts=hosts)
    for change in (changed, Change(DECLARED, changed.key, None)):
        assert TYPE_LISTENER not in sent(engine.commit([change]))


def test_routes_of_whole_chains_are_there_only_while_state_of_the_world_gateways_are() -> None:
    engine = built()
    assert not engine.rows(GATEWAY_ROUTES)
    assert not engine.rows(ROUTE_PARTS)
    commit = engine.commit([Change(AUDIENCES, SOTW, Connected())])
    assert sent(commit) == {TYPE_LISTENER: 1, TYPE_ROUTE: 1}
    commit = engine.commit([Change(AUDIENCES, SOTW, None)])
    assert sent(commit) == {TYPE_LISTENER: 1, TYPE_ROUTE: 1}
    assert not engine.rows(GATEWAY_ROUTES)
    assert not engine.rows(ROUTE_PARTS)


@pytest.mark.parametrize("routes", [20, 400])
def test_over_state_of_the_world_a_changed_route_touches_one_part_of_one_configuration(routes: int) -> None:
    engine = built(routes)
    engine.commit([Change(AUDIENCES, SOTW, Connected())])
    commit = engine.commit([route(3, weight=7)])
    assert sent(commit) == {TYPE_SCOPED_ROUTE: 1, TYPE_ROUTE: 1}
    assert len(commit.of(ROUTE_PARTS)) == 1
    assert commit.computed < 12


def test_a_scope_of_one_host_is_small() -> None:
    resource = next(
        row
        for key, row in built().rows(RESOURCE_TABLES[TYPE_SCOPED_ROUTE][0]).items()
        if key.name == "http-10000/h3.example.com"
    )
    assert len(resource.any) < 2200
    assert resource.needs == ("default/s0:80", "default/s1:80")


def test_clusters_exist_for_what_routes_name_and_leave_with_the_last_of_them() -> None:
    engine = built(1)
    clusters = RESOURCE_TABLES[TYPE_CLUSTER][0]
    assert sorted(key.name for key in engine.rows(clusters)) == ["default/s0:80", "default/s1:80"]
    engine.commit([route(0, to=2)])
    assert sorted(key.name for key in engine.rows(clusters)) == ["default/s1:80", "default/s2:80"]
    engine.commit([Change(DECLARED, DeclaredKey("HTTPRoute", "default", "r0", "files"), None)])
    assert not engine.rows(clusters)


@pytest.mark.parametrize("seed", range(5))
def test_incremental_equals_from_scratch(seed: int) -> None:
    chance = random.Random(seed)
    engine = Engine(TABLES)
    present: dict[object, Change] = {}
    for _ in range(60):
        change = chance.choice(
            [
                gateway(),
                service(chance.randrange(4), f"10.0.0.{chance.randrange(9)}"),
                route(chance.randrange(5), to=chance.randrange(5), weight=chance.randrange(3)),
                route(chance.randrange(5), hosts=chance.choice(HOSTS)),
                Change(AUDIENCES, SIDECAR, Connected()),
                Change(AUDIENCES, SOTW, Connected()),
            ]
        )
        if chance.random() < 0.3:
            change = Change(change.table, change.key, None)
        present[change.table, change.key] = change
        engine.commit([change])
    fresh = Engine(TABLES)
    fresh.commit(list(present.values()))
    assert engine.faults == fresh.faults == {}
    for table in TABLES:
        assert dict(engine.rows(table)) == dict(fresh.rows(table)), table


def test_a_listener_among_many_costs_no_more_than_a_look_at_each_of_them() -> None:
    few, many = (calls_for_a_changed_listener(count) for count in (40, 160))
    assert many <= 5 * few, f"{few} calls among 40 listeners, {many} among 160"


def calls_for_a_changed_listener(count: int) -> int:
    """How many functions run when one of so many ListenerSets with a listener each gets another hostname."""

    def listener_set(number: int, host: str) -> Change:
        [item] = objects(f"""
kind: ListenerSet
metadata: {{name: s{number}}}
spec: {{parentRef: {{name: edge}}, listeners: [{{name: web, port: 80, protocol: HTTP, hostname: {host}}}]}}
""")
        return declared(item)

    [edge] = objects(GATEWAY.replace("fairlead,", "fairlead, allowedListeners: {namespaces: {from: Same}},"))
    engine = Engine(TABLES)
    engine.commit([declared(edge), *(listener_set(number, f"h{number}.example.com") for number in range(count))])
    profile = cProfile.Profile()
    profile.enable()
    commit = engine.commit([listener_set(3, "other.example.com")])
    profile.disable()
    assert set(sent(commit)) == {TYPE_SCOPED_ROUTE}
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined,no-any-return]


def test_https_listeners_of_one_port_have_scopes_in_proportion_to_their_number(tmp_path: Path) -> None:
    pair = Authority(tmp_path).server("cert")
    data = {"tls.crt": pair.cert.read_text(), "tls.key": pair.key.read_text()}
    secret = {"kind": "Secret", "metadata": {"name": "cert"}, "type": "kubernetes.io/tls", "stringData": data}
    listeners = [
        {
            "name": f"l{number}",
            "port": 443,
            "protocol": "HTTPS",
            "hostname": f"h{number}.example.com",
            "tls": {"certificateRefs": [{"name": "cert"}]},
        }
        for number in range(40)
    ]
    spec = {"gatewayClassName": "fairlead", "listeners": listeners}
    edge = {"kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec}
    engine = Engine(TABLES)
    engine.commit([declared(item) for one in (secret, edge) for item in objects(json.dumps(one))])
    [table] = RESOURCE_TABLES[TYPE_SCOPED_ROUTE]
    # Of each listener its own host, the broad scope, and the one that all others answer 421 by.
    assert len(engine.rows(table)) == 3 * len(listeners)
