"""RoutePolicies for Gateways and listeners: their routes have it, and no listener changes for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.model import AUDIENCES, Connected
from mesh.tables import Change, Engine
from tests.support.model import declared, objects
from tests.support.routing import EDGE, Server, document, gateway, get, route, service, serving
from tests.support.static_envoy import free_port
from xds.translate.listener_tables import GATEWAY_LISTENERS
from xds.translate.route_configuration_tables import SCOPED_ROUTES
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy

TARGET = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}


def said(name: str, value: str, **part: str) -> str:
    headers = {"response": {"set": [{"name": "x-said-by", "value": value}]}}
    return document("RoutePolicy", name, {"targetRefs": [{**TARGET, **part}], "headers": headers})


@pytest.mark.shows("RoutePolicy.headers.response", "set.name", "set.value")
def test_all_routes_of_a_gateway_do_what_its_policy_says_and_those_of_a_listener_what_that_says(
    tmp_path: Path, backend: Server
) -> None:
    port = free_port()
    text = gateway(port, "a.example.com", "b.example.com", "c.example.com") + service("echo", backend.server_port)
    text += route("\n  - backendRefs: [{name: echo, port: 80}]", hosts="[a.example.com, b.example.com]")
    text += route("\n  - backendRefs: [{name: echo, port: 80}]", hosts="[c.example.com]", name="own")
    text += said("gateway", "gateway") + said("listener", "listener", sectionName="l1")
    own = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "own"}
    headers = {"response": {"set": [{"name": "x-said-by", "value": "route"}]}}
    text += document("RoutePolicy", "own", {"targetRefs": [own], "headers": headers})
    with serving(text, tmp_path):
        for host, who in (("a", "gateway"), ("b", "listener"), ("c", "route")):
            status, answered, _ = get(port, "/", f"{host}.example.com")
            assert (status, answered["x-said-by"]) == (200, who)


def test_a_policy_for_a_gateway_changes_its_routes_and_no_listener() -> None:
    engine = Engine(TABLES)
    text = gateway(80) + service("echo", 8080) + route("\n  - backendRefs: [{name: echo, port: 80}]")
    parsed = objects(text.rstrip().removesuffix("---"))
    engine.commit([*map(declared, parsed), Change(AUDIENCES, EDGE, Connected())])
    changes = [declared(each) for each in objects(said("gateway", "gateway").rstrip().removesuffix("---"))]
    commit = engine.commit(changes)
    assert not commit.of(GATEWAY_LISTENERS)
    assert [key.name for key in commit.of(SCOPED_ROUTES)] == ["http-80/a.example.com"]
