"""Thirty pods rolled under constant traffic through a real Envoy: no request fails, whatever becomes of Fairlead."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Children, free_port
from tests.support.kubernetes import Cluster, eventually
from tests.support.programs import RunningEnvoy, Serving, ask, start_envoy, start_serve
from tests.support.rolled import Rollout, deployment, gateway, is_ready, route, service

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("crds", "images"), pytest.mark.timeout(900)]

PODS = 30
LINGER = 30
"""Seconds that a pod still answers after it was told to end; the longest time that Fairlead may be away."""
HOST = "web.example.com"


class World:
    """Thirty pods, Fairlead beside the cluster, and an Envoy that has them all."""

    def __init__(self, cluster: Cluster, children: Children, namespace: str, kubeconfig: Path) -> None:
        self._children = children
        self._settings = ["--kubernetes", str(kubeconfig), "--kubernetes-namespaces", namespace]
        self._settings += ["--kubernetes-lease", f"{namespace}/fairlead"]
        self.port = free_port()
        cluster.apply(
            deployment(replicas=PODS, linger=LINGER), service(), gateway(self.port), route(), namespace=namespace
        )
        self.serving: Serving = start_serve(children, *self._settings)
        self.envoy: RunningEnvoy = start_envoy(
            children, "gateway", "edge", "--namespace", namespace, xds=self.serving.xds
        )
        eventually(lambda: is_ready(cluster, namespace), f"{PODS} pods to be ready", seconds=400)
        eventually(lambda: len(self.endpoints()) == PODS, "Envoy to have them all")
        eventually(lambda: ask(self.port, HOST).status == 200, "the first answer")

    def kill(self) -> None:
        """SIGKILL for Fairlead."""
        self.serving.child.signal_group(signal.SIGKILL)
        self.serving.child.process.wait(20)
        self._children.started.remove(self.serving.child)

    def start_again(self) -> None:
        """Fairlead with the store and the address that it had."""
        self.serving = start_serve(self._children, *self._settings, name="again", xds=self.serving.xds)

    def endpoints(self) -> set[str]:
        """The addresses that Envoy sends requests to."""
        clusters = json.loads(self.envoy.get("/clusters?format=json"))["cluster_statuses"]
        return {
            host["address"]["socket_address"]["address"]
            for one in clusters
            if one["name"].endswith("/web:80")
            for host in one.get("host_statuses", [])
        }


@pytest.fixture
def world(cluster: Cluster, children: Children, namespace: str, kubeconfig: Path) -> Iterator[World]:
    yield World(cluster, children, namespace, kubeconfig)
    cluster.kubectl("-n", namespace, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")


def addresses(cluster: Cluster, namespace: str) -> set[str]:
    """The addresses of all pods."""
    return {item["status"].get("podIP", "") for item in cluster.get(f"/api/v1/namespaces/{namespace}/pods")["items"]}


def test_thirty_pods_are_rolled_and_no_request_fails(cluster: Cluster, namespace: str, world: World) -> None:
    with Background(world.port, HOST, visitors=4) as traffic:
        eventually(lambda: len(traffic.instances) == PODS, "all pods to answer")
        rollout = Rollout(cluster, namespace)
        eventually(rollout.done, "all pods to be new ones", seconds=400, every=0.5)
        eventually(lambda: world.endpoints() == addresses(cluster, namespace), "Envoy to have the new ones alone")
        eventually(lambda: len(traffic.instances) == 2 * PODS, "all new pods to answer")
    print(f"{traffic.requests} requests, {len(traffic.instances)} pods answered, failed: {traffic.failures}")
    assert traffic.failures == []
    assert traffic.requests > 1000


def test_fairlead_is_killed_in_the_middle_of_a_rollout_and_no_request_fails(
    cluster: Cluster, namespace: str, world: World
) -> None:
    with Background(world.port, HOST, visitors=4) as traffic:
        rollout = Rollout(cluster, namespace)
        eventually(lambda: rollout.gone() >= PODS // 4, "a quarter of the former pods to be gone", seconds=400)
        world.kill()
        assert not rollout.done()
        world.start_again()
        eventually(rollout.done, "all pods to be new ones", seconds=400, every=0.5)
        eventually(lambda: world.endpoints() == addresses(cluster, namespace), "Envoy to have the new ones alone")
    print(f"{traffic.requests} requests, {len(traffic.instances)} pods answered, failed: {traffic.failures}")
    assert traffic.failures == []
    assert traffic.requests > 1000
