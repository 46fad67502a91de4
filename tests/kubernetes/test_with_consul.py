"""One service in a real Kubernetes and a real Consul has the endpoints of both, and weights move it under traffic."""

from __future__ import annotations

from collections import Counter

import pytest

from fairlead.demo.traffic import Background, Visitor
from fairlead.processes import Children, free_port
from tests.support.consul import required_consul, start_agent
from tests.support.kubernetes import JSON, Cluster, eventually
from tests.support.programs import ask, start_backend, start_envoy, start_serve
from tests.support.rolled import deployment, gateway, route, service

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("crds", "images"), pytest.mark.timeout(400)]

HOST = "web.example.com"
INSTANCE = "web-v1-consul"


def subset(name: str, **labels: str) -> JSON:
    spec = {"service": "web", "labels": labels}
    return {"apiVersion": "fairlead.dev/v1alpha1", "kind": "ServiceSubset", "metadata": {"name": name}, "spec": spec}


def shared(in_kubernetes: int, in_consul: int) -> JSON:
    """The route, with a share for each side."""
    made = route()
    made["spec"]["rules"][0]["backendRefs"] = [
        {"group": "fairlead.dev", "kind": "ServiceSubset", "name": name, "port": 80, "weight": weight}
        for name, weight in (("in-kubernetes", in_kubernetes), ("in-consul", in_consul))
    ]
    return made


def count(port: int, requests: int = 100) -> Counter[str]:
    """How many requests each side answers."""
    visitor = Visitor(port)
    try:
        who = [str(visitor.ask(HOST).body.get("instance", "none")) for _ in range(requests)]
    finally:
        visitor.close()
    return Counter("consul" if one == INSTANCE else "kubernetes" for one in who)


def test_a_service_of_both_moves_from_one_to_the_other_by_weights_without_a_failed_request(
    cluster: Cluster, children: Children, namespace: str
) -> None:
    agent = start_agent(children, required_consul())
    agent.register("web", start_backend(children, "web", number="consul"), Tags=["place=consul"])
    port = free_port()
    cluster.apply(deployment(replicas=2, linger=5), service(), gateway(port), route(), namespace=namespace)
    flags = ["--kubernetes", str(cluster.kubeconfig), "--kubernetes-namespaces", namespace]
    flags += ["--kubernetes-lease", f"{namespace}/fairlead", "--consul", agent.url, "--consul-namespace", namespace]
    serving = start_serve(children, *flags)
    start_envoy(children, "gateway", "edge", "--namespace", namespace, xds=serving.xds)
    try:
        eventually(lambda: ask(port, HOST).status == 200, "the first answer", seconds=120)
        # Merged: of three endpoints each has its own weight, which is one.
        eventually(lambda: 10 <= count(port)["consul"] <= 60, "the endpoints of both", seconds=120)
        items = serving.client.get("/api/v1/discovered/services", namespace=namespace)["items"]
        [found] = [each for each in items if each["name"] == "web"]
        assert [source.partition(":")[0] for source in found["sources"]] == ["consul", "kubernetes"]
        assert (found["endpoints"], [each["port"] for each in found["ports"]]) == (3, [80])

        cluster.apply(
            subset("in-kubernetes", app="web"), subset("in-consul", place="consul"), shared(1, 0), namespace=namespace
        )
        eventually(lambda: count(port) == {"kubernetes": 100}, "Kubernetes to have it all", seconds=60)
        with Background(port, HOST) as traffic:
            cluster.apply(shared(1, 1), namespace=namespace)
            eventually(lambda: 20 <= count(port)["consul"] <= 80, "about a half each", seconds=60)
            cluster.apply(shared(0, 1), namespace=namespace)
            eventually(lambda: count(port) == {"consul": 100}, "Consul to have it all", seconds=60)
            cluster.kubectl("-n", namespace, "delete", "deployment/web", "service/web", "--wait=false")
            eventually(lambda: count(port) == {"consul": 100}, "it to stay there", seconds=60)
        assert traffic.requests > 100
        assert traffic.failures == []
    finally:
        cluster.kubectl("-n", namespace, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
