"""JSON becomes gRPC on the way to a real gRPC backend, and a descriptor that cannot be used breaks nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children
from fairlead.processes import free_port as port_of
from tests.envoy.test_route_policy import policy, raw, rules
from tests.support.descriptors import CART, cart_base64, cart_server
from tests.support.programs import Serving, reached, start_backend, start_envoy, start_serve
from tests.support.routing import document, gateway, route, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


@pytest.mark.shows(
    "RoutePolicy.grpcJSON",
    "descriptor.inline",
    "descriptor.configMap.name",
    "descriptor.configMap.key",
    "services",
    "autoMapping",
    "preserveFieldNames",
)
def test_json_requests_reach_a_grpc_backend_and_its_answers_come_back_as_json(tmp_path: Path) -> None:
    port = free_port()
    with cart_server() as backend:
        text = gateway(port) + service("echo", backend, protocol="GRPC") + route(rules("json", "mapped", "plain"))
        text += document("ConfigMap", "protos", {}).replace(
            '"spec": {}', f'"binaryData": {{"cart.pb": "{cart_base64()}"}}'
        )
        inline = {"descriptor": {"inline": cart_base64()}, "services": [CART]}
        text += policy("json", grpcJSON={**inline, "descriptor": {"configMap": {"name": "protos", "key": "cart.pb"}}})
        text += policy("mapped", grpcJSON={**inline, "autoMapping": True, "preserveFieldNames": True})
        with serving(text, tmp_path):
            status, headers, body = raw(port, "/v1/items/7", rule="json")
            assert (status, headers["content-type"]) == (200, "application/json")
            assert json.loads(body) == {"id": "7", "fullName": "a cup"}
            sent = json.dumps({"id": "9"}).encode()
            path = f"/{CART}/Put"
            status, _, body = raw(port, path, "POST", sent, rule="mapped", content_type="application/json")
            assert (status, json.loads(body)) == (200, {"id": "9", "full_name": "a cup"})
            status, _, body = raw(port, "/v1/items/secret", rule="json")
            assert (status, json.loads(body)["message"]) == (403, "not you")
            assert raw(port, path, "POST", b"{no", rule="mapped", content_type="application/json")[0] == 400
            assert raw(port, "/v1/items/7", rule="plain")[0] != 200


def test_what_only_envoy_finds_wrong_with_a_descriptor_takes_no_route_down(children: Children) -> None:
    port, host = port_of(), "shop.example.com"
    serving = start_serve(children)

    def put(kind: str, plural: str, name: str, spec: dict[str, Any]) -> None:
        version = "gateway.networking.k8s.io/v1" if kind in ("Gateway", "HTTPRoute") else "fairlead.dev/v1alpha1"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        serving.client.request("PUT", f"/api/v1/namespaces/default/{plural}/{name}", body=body)

    endpoints = [{"address": "127.0.0.1", "ports": {"http": start_backend(children, "shop")}}]
    put("Service", "services", "shop", {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})
    backends = [{"name": "shop", "port": 80}]
    put("HTTPRoute", "httproutes", "shop", {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": backends}]})
    wanted = {"descriptor": {"inline": cart_base64("/v1/{id")}, "services": [CART]}
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop"}
    put("RoutePolicy", "routepolicies", "json", {"targetRefs": [target], "grpcJSON": wanted})
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    put("Gateway", "gateways", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, host), what="the route")
    children.wait_until(lambda: "refused" in _programmed(serving), what="the verdict")
    assert "Cart.Get" in _programmed(serving)


def _programmed(serving: Serving) -> str:
    found = serving.client.get("/api/v1/namespaces/default/routepolicies/json")["status"]["conditions"]
    return next((each["message"] for each in found if each["type"] == "Programmed"), "")
