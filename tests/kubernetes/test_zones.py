"""Topology hints of real EndpointSlices: a Gateway's proxies, in pods, go to the endpoints for their zone or node."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support import rolled
from tests.support.installed import Installed
from tests.support.kubernetes import JSON, Cluster, condition, eventually

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("crds"), pytest.mark.timeout(600)]

ZONE = "topology.kubernetes.io/zone"


@pytest.fixture
def here(cluster: Cluster) -> Iterator[str]:
    """The zone of all nodes, as long as the test runs."""
    cluster.kubectl("label", "nodes", "--all", "--overwrite", f"{ZONE}=here")
    yield "here"
    cluster.kubectl("label", "nodes", "--all", f"{ZONE}-")


def slice_of(addresses: dict[str, str], hint: str = "forZones") -> JSON:
    """An EndpointSlice by hand: address → the zone (or whatever the hint names) that it is for."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-by-hand", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}, "hints": {hint: [{"name": zone}]}}
            for address, zone in addresses.items()
        ],
    }


def backend(name: str) -> JSON:
    """A Deployment of one pod that says its name."""
    made = rolled.deployment(replicas=1, linger=0)
    made["metadata"]["name"] = name
    made["spec"]["selector"] = {"matchLabels": {"app": name}}
    made["spec"]["template"]["metadata"] = {"labels": {"app": name}}
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["--name", name, "--version", "v1"]
    del container["lifecycle"]
    return made


def who(address: str) -> str:
    """Who answers behind the Gateway; empty while nobody does."""
    connection = http.client.HTTPConnection(address, 80, timeout=10)
    try:
        connection.request("GET", "/", headers={"host": "web.example.com"})
        answer = connection.getresponse()
        return str(json.loads(answer.read())["service"]) if answer.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def address_of(cluster: Cluster, namespace: str, name: str) -> str:
    """The address of the pod, once it is ready."""

    def address() -> str | None:
        listed = cluster.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app={name}")["items"]
        ready = [item for item in listed if (found := condition(item, "Ready")) and found["status"] == "True"]
        return ready[0]["status"]["podIP"] if ready else None

    return eventually(address, f"the pod of {name}")


def node_of(cluster: Cluster, namespace: str) -> str:
    """The node that the Gateway's only proxy runs on."""
    selector = "labelSelector=fairlead.dev/provisioned%3Dgateway"
    [pod] = cluster.get(f"/api/v1/namespaces/{namespace}/pods?{selector}")["items"]
    return str(pod["spec"]["nodeName"])


def test_the_proxies_of_a_gateway_go_to_the_endpoints_for_the_zone_of_their_node_and_for_that_node(
    cluster: Cluster, fairlead: Installed, place: str, here: str
) -> None:
    web = rolled.service()
    del web["spec"]["selector"]
    parameters = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "GatewayParameters",
        "metadata": {"name": "inside"},
        "spec": {"serviceType": "ClusterIP"},
    }
    gateway = rolled.gateway(80)
    reference = {"group": "fairlead.dev", "kind": "GatewayParameters", "name": "inside"}
    gateway["spec"]["infrastructure"] = {"parametersRef": reference}
    cluster.apply(parameters, backend("near"), backend("far"), web, gateway, rolled.route(), namespace=place)
    near, far = (address_of(cluster, place, name) for name in ("near", "far"))
    cluster.apply(slice_of({near: here, far: "elsewhere"}), namespace=place)
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{place}/gateways/edge"

    def at() -> str | None:
        addresses = cluster.get(path).get("status", {}).get("addresses", [])
        return addresses[0]["value"] if addresses else None

    address = eventually(at, f"the Gateway's address\n{fairlead.logs()}")

    eventually(lambda: {who(address) for _ in range(10)} == {"near"}, "the near one to answer")
    assert Counter(who(address) for _ in range(40)) == {"near": 40}
    cluster.apply(slice_of({near: "elsewhere", far: here}), namespace=place)
    eventually(lambda: {who(address) for _ in range(10)} == {"far"}, "the other one to be the near one")
    cluster.apply(slice_of({near: here, far: here}), namespace=place)
    eventually(lambda: {who(address) for _ in range(10)} == {"near", "far"}, "both to be near")

    node = node_of(cluster, place)
    cluster.apply(slice_of({near: node, far: "elsewhere"}, "forNodes"), namespace=place)
    eventually(lambda: {who(address) for _ in range(10)} == {"near"}, "the one for the node to be the near one")
    cluster.apply(slice_of({near: "elsewhere", far: node}, "forNodes"), namespace=place)
    eventually(lambda: {who(address) for _ in range(10)} == {"far"}, "the other one to be for the node")
