"""Requests choose among a backend's endpoints by a label, at a real Envoy with real backends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead.processes import Children
from tests.envoy.test_envoy_patch import put
from tests.support.fields import note
from tests.support.programs import ask, reached, start_backend, start_envoy, start_serve
from tests.support.routing import backend_server, document, gateway, get, route, service, serving
from tests.support.static_envoy import free_port
from tests.support.traffic import Traffic

pytestmark = pytest.mark.envoy

LABELS: dict[str, dict[str, str]] = {
    "a": {"stable": "true", "eu": "true", "version": "v1"},
    "b": {"canary": "true", "eu": "true", "version": "v2"},
    "c": {"stable": "true", "version": "v1", "half": "false"},
    "d": {},
}
POLICIES: dict[str, dict[str, Any]] = {
    "tags": {"endpointSelection": {"header": "X-Service-Tag"}},
    "any": {"endpointSelection": {"header": "x-service-tag", "fallback": "AnyEndpoint"}},
    "ill": {"endpointSelection": {"header": "x-service-tag"}, "panicThreshold": 0},
    "version": {"endpointSelection": {"header": "x-version", "label": "version"}},
    "hash": {
        "type": "RingHash",
        "consistentHash": {"hashOn": [{"header": "x-user"}]},
        "endpointSelection": {"header": "x-version", "label": "version"},
    },
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A gateway with a host for each policy, each with all backends; and one host whose rule rewrites paths too."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(backend_server(name)) for name in LABELS}
        endpoints = [
            {"address": "127.0.0.1", "ports": {"http": server.server_port}, "labels": LABELS[name]}
            for name, server in servers.items()
        ]
        text = gateway(port)
        for name, balancer in POLICIES.items():
            health = {"health": "Unhealthy"} if name == "ill" else {}
            text += service(
                name, endpoints=[{**one, **(health if "canary" in one["labels"] else {})} for one in endpoints]
            )
            text += route(f"\n  - backendRefs: [{{name: {name}, port: 80}}]", hosts=f"[{name}.example.com]", name=name)
            targets = [{"kind": "Service", "name": name}]
            text += document("TrafficPolicy", name, {"targetRefs": targets, "loadBalancer": balancer})
        rewritten = """
  - matches: [{path: {value: /old}}]
    backendRefs:
    - name: tags
      port: 80
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]"""
        text += route(rewritten, hosts="[rewritten.example.com]", name="rewritten")
        text += route("\n  - backendRefs: [{name: tags, port: 80}]", hosts='["*.wild.example.com"]', name="wild")
        stack.enter_context(serving(text, tmp_path_factory.mktemp("selection")))
        yield port


@pytest.fixture
def port(edge: int) -> int:
    """The same, with a note of what it has for the test that runs."""
    for balancer in POLICIES.values():
        note({"kind": "TrafficPolicy", "spec": {"loadBalancer": balancer}})
    return edge


def who(port: int, host: str, path: str = "/", **headers: str) -> set[str]:
    answers = [get(port, path, f"{host}.example.com", **headers) for _ in range(30)]
    return {body["who"] if status == 200 else str(status) for status, _, body in answers}


@pytest.mark.shows("TrafficPolicy.loadBalancer", "endpointSelection.header", "endpointSelection.label")
def test_a_request_goes_only_where_the_tag_or_label_is_that_it_asks_for(port: int) -> None:
    assert who(port, "tags", x_service_tag="canary") == {"b"}
    assert who(port, "tags", x_service_tag="eu") == {"a", "b"}
    assert who(port, "tags", x_service_tag="stable") == {"a", "c"}
    assert who(port, "x.wild", x_service_tag="canary") == {"b"}
    assert who(port, "version", x_version="v1") == {"a", "c"}
    assert who(port, "version", x_version="v2") == {"b"}
    assert who(port, "tags") == who(port, "version") == who(port, "tags", x_service_tag=" , ") == set("abcd")


def test_of_several_tags_the_first_that_an_endpoint_has_counts(port: int) -> None:
    assert who(port, "tags", x_service_tag="ada, canary, stable") == {"b"}
    assert who(port, "tags", x_service_tag="stable,canary") == {"a", "c"}
    assert who(port, "any", x_service_tag="ada, canary") == {"b"}
    nine = ",".join(f"none{number}" for number in range(8)) + ",canary"
    assert who(port, "tags", x_service_tag=nine) == {"503"}, "eight are looked at"


def test_without_panic_the_next_tag_counts_where_all_that_have_the_first_are_unhealthy(port: int) -> None:
    assert who(port, "ill", x_service_tag="canary, stable") == {"a", "c"}
    assert who(port, "ill", x_service_tag="canary") == {"503"}
    assert who(port, "ill", x_service_tag="eu") == {"a"}


@pytest.mark.shows("TrafficPolicy.loadBalancer", "endpointSelection.fallback")
def test_where_no_endpoint_has_the_tag_nobody_answers_or_any_does(port: int) -> None:
    for odd in ("half", "false", "true", "version", '"]] os.exit() --', "é", "x" * 4000):
        assert who(port, "tags", x_service_tag=odd.encode().decode("latin-1")) == {"503"}, odd
        assert who(port, "any", x_service_tag=odd.encode().decode("latin-1")) == set("abcd"), odd


def test_the_balancer_of_the_policy_balances_over_those_that_were_chosen(port: int) -> None:
    users = {f"user{number}": who(port, "hash", x_version="v1", x_user=f"user{number}") for number in range(12)}
    assert all(len(found) == 1 for found in users.values())
    assert set().union(*users.values()) == {"a", "c"}


def test_a_path_is_rewritten_for_a_request_that_chooses(port: int) -> None:
    status, _, body = get(port, "/old/x?q=1", "rewritten.example.com", x_service_tag="canary")
    assert (status, body["who"], body["path"]) == (200, "b", "/new/x?q=1")


@pytest.mark.parametrize("kind", ["gateway", "sidecar"])
def test_a_policy_comes_and_goes_and_tags_move_and_no_request_fails(children: Children, kind: str) -> None:
    port, serving = free_port(), start_serve(children)
    backends = {name: start_backend(children, name) for name in ("v1", "v2")}

    def put_tags(**tags: list[str]) -> None:
        endpoints = [
            {"address": "127.0.0.1", "ports": {"http": backends[name]}, "labels": dict.fromkeys(own, "true")}
            for name, own in tags.items()
        ]
        put(serving, "Service", "services", "shop", {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})

    put_tags(v1=["stable"], v2=["canary"])
    if kind == "gateway":
        listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
        put(serving, "Gateway", "gateways", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
        rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
        put(serving, "HTTPRoute", "httproutes", "shop", {"parentRefs": [{"name": "edge"}], "rules": rules})
        envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
    else:
        flags = ["--port", str(backends["v1"]), "--ingress-port", str(free_port()), "--egress-port", str(port)]
        envoy = start_envoy(children, "sidecar", "web", *flags, xds=serving.xds)
    host = "shop.default"
    children.wait_until(lambda: reached(port, host), what="the proxy", timeout=30)
    before = envoy.stat("listener_manager.listener_modified")

    def names(tag: str) -> set[str]:
        """Who answers; a request that asks for a tag may be answered 503 while the policy changes (see the docs)."""
        answers = [ask(port, host, x_service_tag=tag) for _ in range(15)]
        return {str(answer.body["service"]) if answer.status == 200 else str(answer.status) for answer in answers}

    with Traffic(lambda: "" if ask(port, host).status == 200 else "failed", pause=0.005) as traffic:
        balancer = {"endpointSelection": {"header": "x-service-tag"}}
        policy = {"targetRefs": [{"kind": "Service", "name": "shop"}], "loadBalancer": balancer}
        put(serving, "TrafficPolicy", "trafficpolicies", "shop", policy)
        children.wait_until(lambda: names("canary") == {"v2"}, what="the canary alone")
        put_tags(v1=["stable", "canary"], v2=[])
        children.wait_until(lambda: ask(port, host, x_service_tag="canary").status == 200, what="the other's answer")
        children.wait_until(lambda: names("canary") == {"v1"}, what="the tag to have moved")
        serving.client.request("DELETE", "/api/v1/namespaces/default/trafficpolicies/shop")
        children.wait_until(lambda: names("canary") == {"v1", "v2"}, what="the policy to have no effect")
    assert traffic.failures == []
    assert traffic.requests > 5
    assert envoy.stat("listener_manager.listener_modified") == before
