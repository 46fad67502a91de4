"""What the change of a policy costs: what a real Envoy is sent of it, among a thousand backends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import ask, reached, start_envoy, start_serve
from tests.support.routing import Server

pytestmark = pytest.mark.envoy

COUNT = 1000
GATEWAY_API, FAIRLEAD = "gateway.networking.k8s.io/v1", "fairlead.dev/v1alpha1"


def document(api: str, kind: str, name: str, spec: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec})


def shops(port: int, backend: int) -> str:
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    addresses = [{"value": "127.0.0.1"}]
    spec = {"gatewayClassName": "fairlead", "listeners": listeners, "addresses": addresses}
    found = [document(GATEWAY_API, "Gateway", "edge", spec)]
    at = [{"address": "127.0.0.1", "ports": {"http": backend}}]
    for number in range(COUNT):
        name = f"s{number}"
        found.append(document(FAIRLEAD, "Service", name, {"ports": [{"name": "http", "port": 80}], "endpoints": at}))
        rules = [{"backendRefs": [{"name": name, "port": 80}]}]
        hosts = [f"{name}.example.com"]
        found.append(
            document(
                GATEWAY_API, "HTTPRoute", name, {"parentRefs": [{"name": "edge"}], "hostnames": hosts, "rules": rules}
            )
        )
    return "\n---\n".join(found)


def test_a_policy_for_one_backend_of_a_thousand_changes_its_cluster_and_nothing_else(
    children: Children, backend: Server
) -> None:
    folder: Path = children.folder / "config"
    folder.mkdir()
    port = free_port()
    (folder / "shops.yaml").write_text(shops(port, backend.server_port))
    serving = start_serve(children, "--files", str(folder))
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(
        lambda: all(reached(port, f"s{number}.example.com") for number in (0, 500, 999)), what="the shops", timeout=60
    )
    children.wait_until(lambda: envoy.stat("cluster_manager.warming_clusters") == 0, what="all clusters", timeout=60)

    def sent() -> dict[str, int]:
        """The resources that were sent, by type."""
        page = serving.client.request("GET", "/metrics").body.decode()
        found = re.findall(r'^fairlead_xds_resources_total\{type="(\w+)"\} ([0-9.]+)$', page, re.MULTILINE)
        return {kind: int(float(count)) for kind, count in found}

    before, modified = sent(), envoy.stat("cluster_manager.cluster_modified")
    assert before["CDS"] >= COUNT
    target = {"kind": "Service", "name": "s500"}
    for limit, status in ((0, 503), (1000, 200)):
        spec = {"targetRefs": [target], "circuitBreaker": {"maxRequests": limit}}
        body = {"apiVersion": FAIRLEAD, "kind": "TrafficPolicy", "metadata": {"name": "one"}, "spec": spec}
        serving.client.request("PUT", "/api/v1/namespaces/default/trafficpolicies/one", body=body)
        children.wait_until(
            lambda status=status: ask(port, "s500.example.com").status == status,  # type: ignore[misc]
            what="the circuit",
        )
        assert ask(port, "s501.example.com").status == 200
    # An Envoy that gets a cluster anew waits for its endpoints anew.
    assert sent() == {**before, "CDS": before["CDS"] + 2, "EDS": before["EDS"] + 2}
    assert envoy.stat("cluster_manager.cluster_modified") == modified + 2
