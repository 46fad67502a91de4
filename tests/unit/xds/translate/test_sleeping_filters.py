"""Which filters a route configuration puts to sleep, and where none may sleep."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.model import AUDIENCES, MESH, Audience, Connected, MeshSettings
from mesh.tables import Change, Engine
from tests.support.model import declared, objects
from tests.support.routing import EDGE, document, gateway, route, service
from xds.schema.type_urls import TYPE_ROUTE, TYPE_SCOPED_ROUTE
from xds.translate.http_filters import IDENTITY_HEADERS, JWT_AUTHN, ORDER
from xds.translate.offline import translated
from xds.translate.tables import TABLES

RULES = "\n  - backendRefs: [{name: echo, port: 80}]"
SLEEPING = sorted(row.name for row in ORDER if row.sleeps)
EXACT, WIDE = "http-80/a.example.com", "http-80/*"


def resources(extension: dict[str, Any] | None = None, audience: Audience = EDGE) -> dict[str, Any]:
    text = gateway(80) + service("echo", 8080) + route(RULES, hosts='[a.example.com, "*.example.org"]')
    if extension is not None:
        target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
        text += document("RoutePolicy", "code", {"targetRefs": [target], "extensions": [extension]})
    engine = Engine(TABLES)
    code = Change(MESH, "", MeshSettings(route_code=True))
    changes = [declared(each) for each in objects(text.rstrip().removesuffix("---"))]
    engine.commit([*changes, code, Change(AUDIENCES, audience, Connected())])
    assert engine.faults == {}
    found = translated(engine, audience)
    scopes = {each["name"]: each["route_configuration"] for each in found[TYPE_SCOPED_ROUTE]}
    return {**scopes, **{each["name"]: each for each in found[TYPE_ROUTE]}}


def asleep(configuration: dict[str, Any]) -> list[str]:
    found = configuration.get("typed_per_filter_config", {})
    assert all(each["disabled"] for each in found.values())
    return sorted(found)


def test_in_a_scope_of_one_host_filters_sleep_and_in_that_of_wildcards_none_may() -> None:
    made = resources()
    assert asleep(made[EXACT]) == SLEEPING
    assert asleep(made[WIDE]) == []


def test_where_all_hosts_stand_in_one_route_configuration_filters_sleep_for_all() -> None:
    assert asleep(resources(audience=EDGE._replace(sotw=True))["http-80"]) == SLEEPING


@pytest.mark.parametrize("sotw", [False, True], ids=["delta", "sotw"])
def test_no_filter_sleeps_where_code_of_users_could_lead_to_another_route(*, sotw: bool) -> None:
    made = resources({"lua": {"inline": "function envoy_on_request(handle) end"}}, EDGE._replace(sotw=sotw))
    assert made
    assert not any(asleep(configuration) for configuration in made.values())


def test_what_protects_without_being_asked_never_sleeps() -> None:
    assert not {IDENTITY_HEADERS, JWT_AUTHN, "envoy.filters.http.router"} & set(SLEEPING)
    assert len(SLEEPING) >= 10
