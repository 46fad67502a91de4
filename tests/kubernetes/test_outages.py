"""The API server restarted and etcd stopped, really: Envoys are served on, and nothing is written without need.

These stop parts of the local node, so they run on no other cluster, and nothing else should run there meanwhile.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Child, Children, free_port
from tests.support.kubernetes import JSON, KUBE_NODE, Cluster, at_rest, condition, eventually
from tests.support.programs import RunningEnvoy, Serving, answers, ask, start_backend, start_envoy, start_serve

pytestmark = [
    pytest.mark.skipif("KUBECONFIG" in os.environ, reason="only parts of the local node may be stopped"),
    pytest.mark.usefixtures("crds", "node"),
    pytest.mark.timeout(600),
]

HOST = "web.example.com"
AWAY = 60.0
GATEWAY_API = "gateway.networking.k8s.io/v1"


def kube_node(*words: str) -> None:
    done = subprocess.run([str(KUBE_NODE), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def stopped(part: str) -> Iterator[None]:
    """A part of the node does not run; whatever happens, it does again afterwards."""
    kube_node("stop", part)
    try:
        yield
    finally:
        kube_node("start", part)


@pytest.fixture
def node(cluster: Cluster) -> Iterator[None]:
    """Leaves the node as it was: one that was not heard of for a minute takes no pods for a while."""
    yield
    back = datetime.now(UTC)

    def heard() -> bool:
        lease = cluster.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1")
        item = cluster.get("/api/v1/nodes/node1")
        ready = (condition(item, "Ready") or {}).get("status") == "True" and not item["spec"].get("taints")
        return ready and datetime.fromisoformat(lease["spec"]["renewTime"]) > back

    eventually(heard, "the node to be ready again")


def route(name: str, path: str) -> JSON:
    match = {"path": {"type": "PathPrefix", "value": path}}
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "rules": [{"matches": [match], "backendRefs": [{"name": "web", "port": 80}]}],
        },
    }


def discovered(port: int) -> tuple[JSON, JSON]:
    """A Service without a selector, and its endpoint by hand; loopback is none of Kubernetes'."""
    labels = {"service.kubernetes.io/service-proxy-name": "none"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": labels},
        "spec": {"clusterIP": "None", "ports": [{"name": "web", "port": 80}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {**labels, "kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.245.0.1"]}],
    }
    return service, endpoints


class World:
    """Fairlead beside the node, an Envoy, and what they serve."""

    def __init__(self, cluster: Cluster, children: Children, namespace: str, kubeconfig: Path) -> None:
        self._cluster, self._children, self._namespace = cluster, children, namespace
        self._settings = ["--kubernetes", str(kubeconfig), "--kubernetes-namespaces", namespace]
        self._settings += ["--kubernetes-lease", f"{namespace}/fairlead"]
        self.port = free_port()
        listeners = [{"name": "http", "port": self.port, "protocol": "HTTP"}]
        edge = {
            "apiVersion": GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {"gatewayClassName": "fairlead", "listeners": listeners},
        }
        backend = start_backend(children, "web", host="10.245.0.1")
        cluster.apply(*discovered(backend), edge, route("web", "/"), route("other", "/other"), namespace=namespace)
        self.serving: Serving = start_serve(children, *self._settings)
        self.envoy: RunningEnvoy = self.start_envoy()
        eventually(lambda: ask(self.port, HOST).status == 200, "the first answer")
        eventually(lambda: all(self.told(name) for name in ("web", "other")), "the first statuses")
        eventually(self.counted, "the Gateway's status")

    def start_envoy(self) -> RunningEnvoy:
        return start_envoy(self._children, "gateway", "edge", "--namespace", self._namespace, xds=self.serving.xds)

    def end(self, child: Child) -> None:
        child.signal_group(signal.SIGKILL)
        child.process.wait(20)
        self._children.started.remove(child)

    def copied(self) -> bool:
        """Whether Fairlead has kept what it knows of the cluster: it does so every two seconds."""
        with closing(sqlite3.connect(f"file:{self._children.folder}/fairlead.db?mode=ro", uri=True)) as store:
            found = store.execute("SELECT count(*) FROM documents WHERE name LIKE 'object/HTTPRoute/%'").fetchone()
        return bool(found[0] == 2)

    def restart(self) -> None:
        """Kill Fairlead, and start it anew."""
        self.end(self.serving.child)
        self.serving = start_serve(self._children, *self._settings, name="again", xds=self.serving.xds, ready=False)
        client = self.serving.client
        self._children.wait_until(lambda: answers(client, "/readyz"), what="Fairlead to be ready", timeout=120)

    def proxies(self) -> int:
        """How many Envoys are connected."""
        return len(self.serving.client.get("/api/v1/proxies")["items"])

    def told(self, name: str) -> bool:
        """Whether a route's status speaks of its newest generation."""
        item = self._get("httproutes", name)
        parents = item.get("status", {}).get("parents", [])
        seen = {one["observedGeneration"] for parent in parents for one in parent["conditions"]}
        return seen == {item["metadata"]["generation"]}

    def counted(self) -> bool:
        """Whether the Gateway's status speaks of both routes."""
        listeners = self._get("gateways", "edge").get("status", {}).get("listeners", [])
        return [one["attachedRoutes"] for one in listeners] == [2]

    def versions(self) -> dict[str, str]:
        """The version of each object that has a status, once nothing more is written."""
        names = (("gateways", "edge"), ("httproutes", "web"), ("httproutes", "other"))

        def now() -> dict[str, str]:
            return {name: self._get(plural, name)["metadata"]["resourceVersion"] for plural, name in names}

        return at_rest(now, "the statuses")

    def change(self, name: str, path: str) -> None:
        """Give a route another path, once the API server takes it."""

        def done() -> bool:
            self._cluster.apply(route(name, path), namespace=self._namespace)
            return True

        eventually(done, "the API server to take a change")

    def _get(self, plural: str, name: str) -> JSON:
        return self._cluster.get(f"/apis/{GATEWAY_API}/namespaces/{self._namespace}/{plural}/{name}")


@pytest.fixture
def world(cluster: Cluster, children: Children, namespace: str, kubeconfig: Path) -> World:
    return World(cluster, children, namespace, kubeconfig)


def converges(world: World, before: dict[str, str]) -> None:
    """A change arrives and is told of, and nothing else was written."""
    began = time.monotonic()
    world.change("other", "/moved")
    eventually(lambda: ask(world.port, HOST, "/moved").body.get("path") == "/moved", "the change")
    eventually(lambda: world.told("other"), "the status of the change")
    print(f"the change is told after {time.monotonic() - began:.1f} s")
    after = world.versions()
    assert {name for name in after if after[name] != before[name]} == {"other"}


def test_the_api_server_is_restarted_and_no_request_fails_and_nothing_is_written_anew(world: World) -> None:
    before = world.versions()
    with Background(world.port, HOST) as traffic:
        kube_node("restart", "apiserver")
        converges(world, before)
    print(f"{traffic.requests} requests")
    assert traffic.failures == []


@pytest.mark.slow
def test_etcd_is_away_for_a_minute_and_new_envoys_and_a_new_fairlead_have_the_last_known_state(world: World) -> None:
    before = world.versions()
    eventually(world.copied, "the copies of what the cluster declares")
    with Background(world.port, HOST) as traffic:
        with stopped("etcd"):
            began = time.monotonic()
            second = world.start_envoy()
            eventually(lambda: second.stat("listener_manager.total_listeners_active") == 1, "its listener")
            eventually(lambda: "/other" in second.get("/config_dump"), "a new Envoy to have the last known state")
            eventually(lambda: "cannot be had" in world.serving.child.log.read_text(), "the lease to be lost")
            restarted = time.monotonic()
            world.restart()
            print(f"without etcd, Fairlead is ready {time.monotonic() - restarted:.1f} s after it was killed")
            eventually(lambda: world.proxies() == 2, "both Envoys to come back")
            time.sleep(max(0.0, began + AWAY - time.monotonic()))  # the minute
        converges(world, before)
    print(f"{traffic.requests} requests")
    assert traffic.failures == []
    world.end(world.envoy.child)
    eventually(lambda: ask(world.port, HOST, "/moved").status == 200, "the new Envoy alone")
