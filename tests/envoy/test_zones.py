"""A gateway in a zone sends to the endpoints that are meant for it, while there are any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.fields import note
from tests.support.programs import ask, start_backend, start_envoy, start_serve

pytestmark = pytest.mark.envoy


def config(ports: dict[str, int], gateway: int, **policy: Any) -> str:
    endpoints = [
        {"address": "127.0.0.1", "ports": {"http": port}, "zone": zone, **({"forZones": [zone]} if not policy else {})}
        for zone, port in ports.items()
    ]
    documents: list[dict[str, Any]] = [
        {"kind": "Service", "spec": {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}},
        {
            "kind": "Gateway",
            "spec": {
                "gatewayClassName": "fairlead",
                "listeners": [{"name": "http", "port": gateway, "protocol": "HTTP"}],
                "addresses": [{"value": "127.0.0.1"}],
            },
        },
        {
            "kind": "HTTPRoute",
            "spec": {"parentRefs": [{"name": "app"}], "rules": [{"backendRefs": [{"name": "app", "port": 80}]}]},
        },
    ]
    if policy:
        documents.append(
            {"kind": "TrafficPolicy", "spec": {"targetRefs": [{"kind": "Service", "name": "app"}], **policy}}
        )
        note(documents[-1])
    versions = {"Gateway": "gateway.networking.k8s.io/v1", "HTTPRoute": "gateway.networking.k8s.io/v1"}
    return "\n---\n".join(
        json.dumps(
            {
                "apiVersion": versions.get(document["kind"], "fairlead.dev/v1alpha1"),
                "metadata": {"name": "app"},
                **document,
            }
        )
        for document in documents
    )


@pytest.mark.shows("TrafficPolicy.loadBalancer.locality", "preferSameZone")
def test_a_gateway_in_a_zone_goes_to_its_own_endpoints_and_to_others_when_they_are_gone(children: Children) -> None:
    folder: Path = children.folder / "config"
    folder.mkdir()
    file = folder / "config.yaml"
    gateway = free_port()
    ports = {zone: start_backend(children, f"in-{zone}") for zone in "ab"}
    file.write_text(config(ports, gateway))
    serving = start_serve(children, "--files", str(folder))
    start_envoy(children, "gateway", "app", "--zone", "a", xds=serving.xds)
    children.wait_until(lambda: ask(gateway, "app").status == 200, what="the route")
    assert {ask(gateway, "app").who for _ in range(20)} == {"in-a v1"}
    [proxy] = serving.client.get("/api/v1/proxies")["items"]
    assert proxy["name"] == "app"
    file.write_text(config({"b": ports["b"]}, gateway))
    children.wait_until(lambda: ask(gateway, "app").who == "in-b v1", what="the other zone's endpoint")
    file.write_text(config(ports, gateway, loadBalancer={"locality": {"preferSameZone": True}}))
    children.wait_until(lambda: {ask(gateway, "app").who for _ in range(10)} == {"in-a v1"}, what="its own zone again")
