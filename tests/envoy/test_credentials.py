"""Credentials that a gateway adds to requests: from a Secret over SDS to the backend, renewed, and gone with it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.envoy.test_envoy_patch import HOST, put, put_shop
from tests.support.programs import Serving, reached, start_envoy, start_serve
from tests.support.routing import Server, backend_server, get

pytestmark = pytest.mark.envoy

SECRET = "/api/v1/namespaces/default/secrets/tokens"


def put_token(serving: Serving, token: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tokens"}, "stringData": {"shop": token}}
    serving.client.request("PUT", SECRET, body=body)


def inject(serving: Serving, **more: Any) -> None:
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop"}
    injection = {"secret": {"name": "tokens", "key": "shop"}, **more}
    spec = {"targetRefs": [target], "credentialInjection": injection}
    put(serving, "RoutePolicy", "routepolicies", "token", spec)


def mirror_to(serving: Serving, shadow: Server) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": shadow.server_port}}]
    put(serving, "Service", "services", "shadow", {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})
    spec = serving.client.get("/api/v1/namespaces/default/httproutes/shop")["spec"]
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "shadow", "port": 80}}}
    put(serving, "HTTPRoute", "httproutes", "shop", {**spec, "rules": [{**spec["rules"][0], "filters": [mirror]}]})


@pytest.mark.shows("RoutePolicy.credentialInjection", "secret.name", "secret.key", "header", "prefix", "overwrite")
def test_a_gateway_shows_a_backend_its_credential_which_is_renewed_alone(children: Children, backend: Server) -> None:
    port = free_port()
    serving = start_serve(children)
    put_shop(serving, backend.server_port, port)
    put_token(serving, "first")
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the shop")

    def shown(name: str = "authorization", **headers: str) -> str | None:
        _, _, echoed = get(port, "/", HOST, **headers)
        value: str | None = echoed["headers"].get(name) if echoed is not None else None
        return value

    def sent() -> dict[str, str]:
        page = serving.client.request("GET", "/metrics").body.decode()
        return dict(re.findall(r'^fairlead_xds_resources_total\{type="(\w+)"\} ([0-9.]+)$', page, re.MULTILINE))

    assert shown() is None
    inject(serving, prefix="Bearer ")
    children.wait_until(lambda: shown() == "Bearer first", what="the credential")
    assert shown(authorization="mine") == "mine"
    before = sent()
    put_token(serving, "second")
    children.wait_until(lambda: shown() == "Bearer second", what="the renewed credential")
    assert [kind for kind, count in sent().items() if count != before[kind]] == ["SDS"]
    inject(serving, header="X-Key", overwrite=True)
    children.wait_until(lambda: shown("x-key", x_key="mine") == "second", what="another header")
    assert shown() is None
    serving.client.request("DELETE", SECRET)
    children.wait_until(lambda: get(port, "/", HOST)[0] == 500, what="no request without it")

    def said() -> str:
        policy = serving.client.get("/api/v1/namespaces/default/routepolicies/token")
        return " ".join(each["message"] for each in policy["status"]["conditions"] if each["type"] == "Programmed")

    children.wait_until(lambda: "Secret default/tokens does not exist" in said(), what="the status")
    put_token(serving, "third")
    children.wait_until(lambda: shown("x-key") == "third", what="the credential that is there again")
    with backend_server() as shadow:
        mirror_to(serving, shadow)
        children.wait_until(lambda: shown("x-key") is not None and bool(shadow.seen), what="a mirrored request")
        assert not any("x-key" in request["headers"] for request in shadow.seen)
