"""Two replicas on one cluster, and the one that leads killed: traffic flows, statuses converge, nobody writes twice."""

from __future__ import annotations

import http.client
import os
from pathlib import Path

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Child, Children, free_port
from tests.support import rolled
from tests.support.installed import NAMESPACE, Installed
from tests.support.kubernetes import JSON, Cluster, at_rest, condition, eventually
from tests.support.load import Load
from tests.support.programs import Serving, ask, start_backend
from tests.support.replicas import Replicas
from tests.support.watched import Versions, watched

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("crds"), pytest.mark.timeout(600)]

HOST = "web.example.com"
LEADS = "this replica leads"
CHANGES = 100


def scene(port: int, backend: int) -> tuple[JSON, ...]:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": backend}}]
    return (
        {
            "apiVersion": "fairlead.dev/v1alpha1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "gatewayClassName": "fairlead",
                "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
            },
        },
        route("web", "/"),
        *(route(f"other-{number}", f"/other/{number}") for number in range(3)),
    )


def route(name: str, path: str) -> JSON:
    match = {"path": {"type": "PathPrefix", "value": path}}
    backend = {"group": "fairlead.dev", "kind": "Service", "name": "web", "port": 80}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"matches": [match], "backendRefs": [backend]}]},
    }


@pytest.fixture
def replicas(children: Children, namespace: str, kubeconfig: Path) -> Replicas:
    return Replicas(children, namespace, kubeconfig)


def proxies(replica: Serving) -> set[str]:
    """The instances that are connected to a replica."""
    items = replica.client.request("GET", "/api/v1/proxies").json()["items"]
    return {str(item["node"]).rpartition("~")[2] for item in items}


def resident(child: Child) -> float:
    """Megabytes."""
    return int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def generations(cluster: Cluster, namespace: str) -> dict[str, int]:
    """The routes' generations."""
    items = cluster.get(f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes")["items"]
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in items}


def said_all(cluster: Cluster, namespace: str, versions: Versions) -> bool:
    """Whether each route is told of its newest generation, and that was seen."""
    for name, generation in generations(cluster, namespace).items():
        newest = versions.of(f"HTTPRoute/{name}")[-1]
        [parent] = newest.get("status", {}).get("parents") or [{"conditions": []}]
        found = {one.get("observedGeneration") for one in parent["conditions"]}
        if newest["metadata"]["generation"] != generation or found != {generation}:
            return False
    return True


def test_the_leader_is_killed_and_the_other_one_serves_on_and_writes_only_what_is_new(
    cluster: Cluster, namespace: str, children: Children, replicas: Replicas
) -> None:
    port = free_port()
    cluster.apply(*scene(port, start_backend(children, "web")), namespace=namespace)

    def told() -> bool:
        return said_all(cluster, namespace, versions)

    with watched(cluster, namespace, "httproutes", "gateways") as versions:
        first = replicas.start("one")
        eventually(lambda: LEADS in first.child.log.read_text(), "the first to lead")
        for name in ("envoy-1", "envoy-2"):
            replicas.envoy(name)
        eventually(lambda: proxies(first) == {"envoy-1", "envoy-2"}, "both Envoys at the only one there is")
        eventually(lambda: ask(port, HOST).status == 200, "the first answer")
        eventually(told, "the statuses")
        second = replicas.start("two")
        before = at_rest(versions.counts, "the statuses")
        of_routes = {count for name, count in before.items() if name.startswith("HTTPRoute/")}
        assert of_routes == {2}, f"each is written once after its creation: {before}"
        told_of_gateway = before["Gateway/edge"]
        assert told_of_gateway <= 3, "it is told that it is taken, and that its proxies have it"

        with Background(port, HOST) as traffic:
            replicas.kill(first)
            eventually(lambda: proxies(second) == {"envoy-1", "envoy-2"}, "the Envoys to come over")
            cluster.apply(route("other-0", "/moved"), namespace=namespace)
            eventually(lambda: ask(port, HOST, "/moved").status == 200, "a change while nobody leads")
            eventually(lambda: LEADS in second.child.log.read_text(), "the second to lead")
            eventually(told, "what nobody told meanwhile")
            after = at_rest(versions.counts, "the statuses")
            assert after == {**before, "HTTPRoute/other-0": 4}, "a change and a word of it, and nothing else"

            third = replicas.start("one", log="one-again")
            cluster.apply(route("new", "/new"), namespace=namespace)
            eventually(told, "the new route's status")
            counted = told_of_gateway + 1
            eventually(lambda: versions.counts()["Gateway/edge"] == counted, "the Gateway to count it")

            def change(number: int) -> None:
                cluster.apply(route("other-1", f"/change/{number}"), namespace=namespace)

            for number in range(CHANGES):
                change(number)
            eventually(told, "the last change's status")
            settled = [resident(one.child) for one in (second, third)]
            for number in range(CHANGES, 3 * CHANGES):
                change(number)
            eventually(told, "the last change's status")
            grown = [resident(one.child) - was for one, was in zip((second, third), settled, strict=True)]
        assert traffic.failures == []
        final = at_rest(versions.counts, "the statuses")
        print(f"{traffic.requests} requests, {final}, {settled} MB and {grown} MB more")
        changed = final.pop("HTTPRoute/other-1") - after.pop("HTTPRoute/other-1")
        assert 3 * CHANGES < changed <= 6 * CHANGES, "each change, and at most a word of each"
        assert final == {**after, "HTTPRoute/new": 2, "Gateway/edge": counted}
        assert max(grown) < 10, "memory stays flat"
        assert LEADS not in third.child.log.read_text()


def leader(cluster: Cluster) -> str:
    """The pod that leads."""
    lease = cluster.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/fairlead")
    return str(lease["spec"].get("holderIdentity", "")).rpartition("_")[0]


def two_ready(pods: list[JSON]) -> tuple[str, str] | None:
    """The addresses of the two proxies: Programmed asks for one that answers, and the other may still have none."""
    ready = [pod for pod in pods if (found := condition(pod, "Ready")) and found["status"] == "True"]
    match [pod["status"]["podIP"] for pod in ready]:
        case [first, second]:
            return first, second
        case _:
            return None


def in_cluster_scene() -> tuple[JSON, ...]:
    edge = rolled.gateway(80)
    reference = {"group": "fairlead.dev", "kind": "GatewayParameters", "name": "two"}
    edge["spec"]["infrastructure"] = {"parametersRef": reference}
    parameters = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "GatewayParameters",
        "metadata": {"name": "two"},
        "spec": {"replicas": 2, "serviceType": "ClusterIP"},
    }
    pods = rolled.deployment(replicas=2, linger=3)
    routes = rolled.route("/web"), rolled.route("/other", "other")
    return parameters, pods, rolled.service(), edge, *routes


def answer(host: str, path: str) -> int:
    connection = http.client.HTTPConnection(host, 80, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_in_a_cluster_the_proxies_come_over_through_the_service_and_nothing_is_written_anew(
    cluster: Cluster, fairlead: Installed, place: str
) -> None:
    cluster.apply(*in_cluster_scene(), namespace=place)
    edge = f"/apis/gateway.networking.k8s.io/v1/namespaces/{place}/gateways/edge"
    pods = f"/api/v1/namespaces/{place}/pods?labelSelector=fairlead.dev/provisioned%3Dgateway"

    def programmed() -> bool:
        found = condition(cluster.get(edge), "Programmed")
        return found is not None and found["status"] == "True"

    eventually(programmed, "the Gateway to be programmed")
    [address] = cluster.get(edge)["status"]["addresses"]
    first, second = eventually(lambda: two_ready(cluster.get(pods)["items"]), "two ready proxies")
    for host in (first, second, address["value"]):
        eventually(lambda host=host: answer(host, "/web") == 200, "the first answer")
    eventually(lambda: rolled.is_ready(cluster, place), "the backends")
    dead = eventually(lambda: held if (held := leader(cluster)) in fairlead.pods() else None, "a leader")
    kinds = ("httproutes", "gateways", "deployments", "services", "configmaps", "serviceaccounts")
    with watched(cluster, place, *kinds) as versions:
        before = at_rest(versions.counts, "all that is made for the Gateway")
        with Load(address["value"], "/web") as load:
            cluster.kubectl("-n", NAMESPACE, "delete", "pod", dead, "--force", "--grace-period=0")
            cluster.apply(rolled.route("/moved", "other"), namespace=place)
            for host in (first, second):
                eventually(lambda host=host: answer(host, "/moved") == 200, "the change, whoever leads")
            eventually(lambda: leader(cluster) not in ("", dead), "another leader")
            eventually(lambda: said_all(cluster, place, versions), "the status of what changed meanwhile")
        assert set(load.seen) == {"200"}, load.seen
        after = at_rest(versions.counts, "the statuses")
        changed = {name: count - before.get(name, 0) for name, count in after.items()}
        assert {name: count for name, count in changed.items() if count} == {"HTTPRoute/other": 2}
