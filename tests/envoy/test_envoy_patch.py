"""EnvoyPatches on a running gateway: what they do, and that one which does not fit or is refused leaves all else be."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import Serving, ask, reached, start_backend, start_envoy, start_serve
from tests.support.routing import get

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"
GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}
ROUTE = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": "shop"}
SERVICE = {"group": "", "kind": "Service", "name": "shop"}
HEADER = {"header": {"key": "x-patched", "value": "yes"}}


def put(serving: Serving, kind: str, plural: str, name: str, spec: dict[str, Any]) -> None:
    version = f"{GATEWAY_API}/v1" if kind in ("Gateway", "HTTPRoute") else "fairlead.dev/v1alpha1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    serving.client.request("PUT", f"/api/v1/namespaces/default/{plural}/{name}", body=body)


def put_shop(serving: Serving, backend: int, *ports: int) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": backend}}]
    put(
        serving,
        "Service",
        "services",
        "shop",
        {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints},
    )
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    route = {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": rules}
    put(serving, "HTTPRoute", "httproutes", "shop", route)
    listeners = [{"name": f"http-{port}", "port": port, "protocol": "HTTP"} for port in ports]
    put(serving, "Gateway", "gateways", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})


def put_patch(serving: Serving, name: str, target: dict[str, str], *patch: dict[str, Any]) -> None:
    put(serving, "EnvoyPatch", "envoypatches", name, {"targetRefs": [target], "patch": list(patch)})


def told(serving: Serving, name: str, condition: str = "Programmed") -> str:
    found = serving.client.get(f"/api/v1/namespaces/default/envoypatches/{name}")
    by_type = {each["type"]: each for each in found.get("status", {}).get("conditions", ())}
    return f"{by_type[condition]['reason']} {by_type[condition]['message']}" if condition in by_type else ""


def refused_clusters(serving: Serving) -> int:
    """How many responses with clusters were refused."""
    page = serving.client.request("GET", "/metrics").body.decode()
    found = re.search(r'fairlead_xds_nacks_total\{type="CDS"\} ([0-9.]+)', page)
    return int(float(found[1])) if found else 0


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def patched(port: int) -> bool:
    status, headers, _ = get(port, "/", HOST)
    assert status == 200
    return headers.get("x-patched") == "yes"


@pytest.mark.shows("EnvoyPatch.targetRefs", "group", "kind", "name", "sectionName")
@pytest.mark.shows("EnvoyPatch.patch", "op", "path", "from", "value")
def test_patches_change_routes_clusters_and_listeners_and_are_taken_back(children: Children) -> None:
    port = free_port()
    serving = start_serve(children, "--envoy-patches")
    put_shop(serving, start_backend(children, "shop"), port)
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway")
    assert not patched(port)
    put_patch(serving, "header", ROUTE, add("/response_headers_to_add", [HEADER]))
    children.wait_until(lambda: patched(port), what="the patched route")
    # What became of it is told by the commit after the one that Envoy has.
    said = "Programmed Applied to HTTPRoute default/shop"
    children.wait_until(lambda: told(serving, "header").startswith(said), what="the status")
    assert envoy.stat("listener_manager.listener_modified") == 0
    put_patch(serving, "wrong", ROUTE, {"op": "remove", "path": "/nowhere"})
    children.wait_until(lambda: "there is no `nowhere`" in told(serving, "wrong"), what="the failure")
    assert patched(port)
    copy = {
        "op": "copy",
        "from": "/response_headers_to_add/0/header/key",
        "path": "/response_headers_to_add/0/header/value",
    }
    put_patch(serving, "header", ROUTE, add("/response_headers_to_add", [HEADER]), copy)
    children.wait_until(lambda: get(port, "/", HOST)[1].get("x-patched") == "x-patched", what="the copied value")
    limit = add("/circuit_breakers/thresholds/0/max_requests", 0)
    put_patch(serving, "limit", {**SERVICE, "sectionName": "81"}, limit)
    children.wait_until(lambda: told(serving, "limit", "Accepted").startswith("TargetNotFound"), what="another port")
    assert ask(port, HOST).status == 200
    put_patch(serving, "limit", {**SERVICE, "sectionName": "80"}, limit)
    children.wait_until(lambda: ask(port, HOST).status == 503, what="the closed circuit")
    serving.client.request("DELETE", "/api/v1/namespaces/default/envoypatches/limit")
    children.wait_until(lambda: ask(port, HOST).status == 200, what="the open circuit")
    name = add("/filter_chains/0/filters/0/typed_config/server_name", "patched")
    put_patch(serving, "name", GATEWAY, {**name, "op": "replace"})
    children.wait_until(
        lambda: reached(port, HOST) and get(port, "/", HOST)[1].get("server") == "patched", what="the patched listener"
    )


def test_without_the_setting_nothing_is_patched_and_the_status_says_so(children: Children) -> None:
    port = free_port()
    serving = start_serve(children)
    put_shop(serving, start_backend(children, "shop"), port)
    put_patch(serving, "header", ROUTE, add("/response_headers_to_add", [HEADER]))
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway")
    assert not patched(port)
    assert told(serving, "header", "Accepted").startswith("Disabled")
    assert "--envoy-patches" in told(serving, "header", "Accepted")


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
def test_what_envoy_refuses_is_made_without_the_patch_and_the_rest_serves_on(
    children: Children, transport: list[str]
) -> None:
    port = free_port()
    serving = start_serve(children, "--envoy-patches")
    put_shop(serving, start_backend(children, "shop"), port)
    put_patch(serving, "header", ROUTE, add("/response_headers_to_add", [HEADER]))
    start_envoy(children, "gateway", "edge", *transport, xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway")
    # No field rule forbids it; Envoy's code does.
    put_patch(serving, "bad", SERVICE, {"op": "replace", "path": "/lb_policy", "value": "CLUSTER_PROVIDED"})
    children.wait_until(lambda: told(serving, "bad").startswith("Rejected"), what="the refusal", timeout=30)
    assert "gateway~default~edge~" in told(serving, "bad")
    assert "did not provide one" in told(serving, "bad")
    children.wait_until(lambda: "Everything stands without" in told(serving, "bad"), what="the verdict")
    assert patched(port)
    assert told(serving, "header").startswith("Programmed Applied")
    assert refused_clusters(serving) == 1
    endpoint = start_backend(children, "shop two")
    put_shop(serving, endpoint, port)
    children.wait_until(lambda: ask(port, HOST).body["service"] == "shop two", what="the moved endpoint")
    put_patch(serving, "bad", SERVICE, add("/circuit_breakers/thresholds/0/max_requests", 0))
    children.wait_until(lambda: ask(port, HOST).status == 503, what="the mended patch")


def test_a_listener_whose_first_version_is_refused_serves_without_the_patch(children: Children) -> None:
    port = free_port()
    serving = start_serve(children, "--envoy-patches")
    put_shop(serving, start_backend(children, "shop"), port)
    unknown = add("/filter_chains/0/filters/0/name", "x")
    twice = {"op": "copy", "from": "/filter_chains/0/filters/0", "path": "/filter_chains/0/filters/-"}
    put_patch(serving, "twice", GATEWAY, {**unknown, "op": "replace"}, twice)
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway")
    assert told(serving, "twice").startswith("Rejected")


def test_a_refused_patch_stays_out_after_a_restart(children: Children) -> None:
    port = free_port()
    serving = start_serve(children, "--envoy-patches", name="first")
    put_shop(serving, start_backend(children, "shop"), port)
    put_patch(serving, "bad", SERVICE, {"op": "replace", "path": "/lb_policy", "value": "CLUSTER_PROVIDED"})
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway")
    children.wait_until(lambda: "Everything stands without" in told(serving, "bad"), what="the verdict")
    before = told(serving, "bad")
    serving.child.signal_group(signal.SIGTERM)
    serving.child.process.wait(30)
    children.started.remove(serving.child)
    again = start_serve(children, "--envoy-patches", name="second", xds=serving.xds)
    children.wait_until(lambda: len(again.client.get("/api/v1/proxies")["items"]) == 1, what="Envoy to come back")
    assert told(again, "bad") == before
    assert refused_clusters(again) == 0
    assert ask(port, HOST).status == 200


def test_a_log_file_that_cannot_be_opened_is_left_out_and_the_listener_serves(children: Children) -> None:
    port = free_port()
    serving = start_serve(children)
    put_shop(serving, start_backend(children, "shop"), port)
    logs = [{"file": {"path": "/no/such/folder/access.log"}}, {"stdout": True}]
    put(serving, "TelemetryPolicy", "telemetrypolicies", "logs", {"targetRefs": [GATEWAY], "accessLogs": logs})
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway")
    found = serving.client.get("/api/v1/namespaces/default/telemetrypolicies/logs")["status"]["conditions"]
    said = next(each["message"] for each in found if each["type"] == "Programmed")
    assert "/no/such/folder/access.log" in said
    assert "left out" in said
