"""ListenerSets at a real Envoy: ports and hostnames that others add to a Gateway, come and go under traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children
from tests.envoy.test_https import put
from tests.support.programs import RunningEnvoy, Serving, start_backend, start_envoy, start_serve
from tests.support.routing import Server, document, get, route, service
from tests.support.routing import serving as static
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

SETS = {"gatewayClassName": "fairlead", "allowedListeners": {"namespaces": {"from": "Same"}}}


def listener(name: str, port: int, hostname: str = "") -> dict[str, Any]:
    return {"name": name, "port": port, "protocol": "HTTP", **({"hostname": hostname} if hostname else {})}


def listener_set(name: str, *listeners: dict[str, Any]) -> str:
    return document("ListenerSet", name, {"parentRef": {"name": "edge"}, "listeners": list(listeners)})


def status(port: int, host: str) -> int:
    """The status of a GET; 0 while nobody listens."""
    try:
        return get(port, "/", host=host)[0]
    except OSError:
        return 0


def test_requests_reach_the_routes_of_the_listener_they_belong_to_and_of_no_other(
    tmp_path: Path, backend: Server
) -> None:
    port, other = free_port(), free_port()
    rule = "\n  - backendRefs: [{name: echo, port: 80}]"
    text = (
        document("Gateway", "edge", {**SETS, "listeners": [listener("web", port, "a.example.com")]})
        + service("echo", backend.server_port)
        + listener_set("more", listener("web", port, "*.example.com"), listener("far", other))
        # The same name in another set, and a hostname that is had already.
        + listener_set("rest", listener("web", port, "b.org"), listener("lost", port, "a.example.com"))
        + route(rule, name="own", hosts="[]")
        + route(rule, name="web", hosts="[]", parent="{kind: ListenerSet, name: more, sectionName: web}")
        + route(rule, name="rest", hosts="[b.org, a.example.com]", parent="{kind: ListenerSet, name: rest}")
    )
    with static(text, tmp_path):
        assert status(port, "a.example.com") == 200
        assert status(port, "x.example.com") == 200
        assert status(port, "b.org") == 200
        assert status(port, "c.org") == 404
        assert status(other, "a.example.com") == 404, "a listener of the set without a route"


def test_a_set_that_comes_and_goes_cuts_nobody_on_the_ports_of_the_gateway(tmp_path: Path, children: Children) -> None:
    port, added = free_port(), free_port()
    serving = start_serve(children)
    put(serving, "Gateway", "gateways", "edge", spec={**SETS, "listeners": [listener("web", port)]})
    endpoints = [{"address": "127.0.0.1", "ports": {"http": start_backend(children, "shop")}}]
    put(serving, "Service", "services", "shop", spec={"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    parents = [{"name": "edge"}, {"kind": "ListenerSet", "name": "more"}]
    put(serving, "HTTPRoute", "httproutes", "shop", spec={"parentRefs": parents, "rules": rules})
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: status(port, "a.com") == 200, what="the Gateway's own port")
    before = changes(envoy)

    spec = {"parentRef": {"name": "edge"}, "listeners": [listener("web", added)]}
    put(serving, "ListenerSet", "listenersets", "more", spec=spec)
    children.wait_until(lambda: status(added, "a.com") == 200, what="the set's port")
    served = {"Accepted": "Accepted", "Programmed": "Programmed"}
    children.wait_until(lambda: told(serving, "more") == served, what="the set to be programmed")
    assert attached(serving) == 1

    put(
        serving,
        "Gateway",
        "gateways",
        "edge",
        spec={"gatewayClassName": "fairlead", "listeners": [listener("web", port)]},
    )
    children.wait_until(lambda: told(serving, "more").get("Accepted") == "NotAllowed", what="the set to be refused")
    children.wait_until(lambda: status(added, "a.com") == 0, what="the set's port to close")
    assert status(port, "a.com") == 200
    assert changes(envoy) == before


def changes(envoy: RunningEnvoy) -> int:
    """How often a listener that was there was changed."""
    return sum(envoy.stat(f"listener_manager.{name}") for name in ("listener_modified", "listener_in_place_updated"))


def told(serving: Serving, name: str) -> dict[str, str]:
    """The reasons of a set's conditions."""
    found = serving.client.get(f"/api/v1/namespaces/default/listenersets/{name}")
    return {one["type"]: one["reason"] for one in found.get("status", {}).get("conditions", ())}


def attached(serving: Serving) -> int:
    """How many sets the Gateway says it has."""
    return int(serving.client.get("/api/v1/namespaces/default/gateways/edge")["status"]["attachedListenerSets"])
