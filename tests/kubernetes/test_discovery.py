"""What a real cluster's Services become: every type of Service, Pods that come, change and end, slices by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.source import KubernetesSource
from mesh.all_tables import TABLES
from mesh.model import DISCOVERED_ENDPOINTS, DISCOVERED_SERVICES, Endpoint, Locality, ServiceKey, ServicePort
from mesh.services import ENDPOINTS, SERVICES, Service
from mesh.tables import Engine
from tests.support.kubernetes import JSON, PATIENCE, Cluster

# A program that runs until it is told to end; elsewhere than on the local node any image with a shell does.
IMAGE = os.environ.get("FAIRLEAD_TEST_IMAGE", "local/busybox:1")
SECONDS = PATIENCE


class Seen:
    """A namespace as the source tells of it, derived as in the program."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.namespace = namespace
        self.engine = Engine(TABLES)
        self.commits = 0
        self._connection = Connection(KubeConfig(str(kubeconfig)))
        self.source = KubernetesSource("one", self._connection, namespaces=[namespace])
        self._changed = asyncio.Condition()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async for batch in self.source.batches():
            async with self._changed:
                self.engine.commit(batch)
                self.commits += 1
                self._changed.notify_all()

    async def until(self, so: Callable[[], Any], what: str) -> None:
        """Wait until something is so."""
        try:
            async with asyncio.timeout(SECONDS), self._changed:
                while not (self.commits and so()):
                    if self._task.done():
                        self._task.result()
                    await self._changed.wait()
        except TimeoutError:
            rows = dict(self.engine.rows(ENDPOINTS))
            raise AssertionError(f"waited in vain for {what}; {self.source.problems}; {rows}") from None

    def service(self, name: str) -> Service | None:
        return self.engine.get(SERVICES, ServiceKey(self.namespace, name))

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        row = self.engine.get(ENDPOINTS, ServiceKey(self.namespace, name))
        return row.endpoints if row is not None else ()

    def addresses(self, name: str) -> list[str]:
        return [endpoint.address for endpoint in self.endpoints(name)]

    def discovered(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        return dict(self.engine.rows(DISCOVERED_SERVICES)), dict(self.engine.rows(DISCOVERED_ENDPOINTS))

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._connection.close()


@pytest.fixture
async def seen(kubeconfig: Path, namespace: str) -> AsyncIterator[Seen]:
    world = Seen(kubeconfig, namespace)
    yield world
    await world.close()
    # TLS says its goodbyes after that; the loop must live as long as its sockets, of which one is its own.
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    async with asyncio.timeout(SECONDS):
        while len(selector.get_map()) > 1:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@pytest.fixture
def a_node(cluster: Cluster) -> Iterator[str]:
    """A Node that nothing runs on, in a zone of its own."""
    name = f"test-discovery-{secrets.token_hex(3)}"
    labels = {"topology.kubernetes.io/region": "north", "topology.kubernetes.io/zone": "north-1"}
    body = {"metadata": {"name": name, "labels": labels}, "spec": {"unschedulable": True}}
    cluster.request("POST", "/api/v1/nodes", body)
    yield name
    cluster.request("DELETE", f"/api/v1/nodes/{name}")


def service(name: str, *ports: JSON, **spec: Any) -> JSON:
    spec = {"ports": list(ports) or [{"name": "http", "port": 80, "targetPort": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def deployment(replicas: int, *, name: str = "reviews", account: str = "default", **pod: Any) -> JSON:
    container = {
        "name": "app",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/busybox", "sleep", "3600"],
        "ports": [{"name": "web", "containerPort": 8080}, {"name": "admin", "containerPort": 9000}],
        **pod,
    }
    labels = {"app": name, "version": "v1"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"serviceAccountName": account, "terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    if "lifecycle" in pod:
        template["spec"]["terminationGracePeriodSeconds"] = 300
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def slice_of(service: str, *endpoints: JSON, name: str = "by-hand", family: str = "IPv4", **more: Any) -> JSON:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-{name}", "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
        **more,
    }


def pods(cluster: Cluster, namespace: str, app: str = "reviews") -> list[JSON]:
    return cluster.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}")["items"]


async def test_a_scaled_deployment_is_followed_with_labels_account_and_named_target_ports(
    cluster: Cluster, namespace: str, seen: Seen
) -> None:
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reviewer"}},
        service(
            "reviews",
            {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "kubernetes.io/h2c"},
            {"name": "admin", "port": 81, "targetPort": "admin"},
            selector={"app": "reviews"},
        ),
        service("headless", clusterIP="None", selector={"app": "reviews"}),
        deployment(2, account="reviewer"),
        namespace=namespace,
    )
    await seen.until(lambda: len(seen.endpoints("reviews")) == 2, "two endpoints")
    told = seen.service("reviews")
    assert told is not None
    assert told.ports == (ServicePort("http", 80, "HTTP2"), ServicePort("admin", 81, "HTTP"))
    assert told.export_to == ("*",)
    await seen.until(lambda: all(one.labels for one in seen.endpoints("reviews")), "the Pods' labels")
    for endpoint in seen.endpoints("reviews"):
        assert endpoint.ports == (("admin", 9000), ("http", 8080))
        assert endpoint.service_account == "reviewer"
        assert dict(endpoint.labels)["version"] == "v1"
        assert endpoint.health == "Healthy"
    assert seen.addresses("reviews") == sorted(pod["status"]["podIP"] for pod in pods(cluster, namespace))
    await seen.until(
        lambda: seen.addresses("headless") == seen.addresses("reviews"), "the headless service's endpoints"
    )

    cluster.apply(deployment(3, account="reviewer"), namespace=namespace)
    await seen.until(lambda: len(seen.endpoints("reviews")) == 3, "three endpoints")
    cluster.apply(deployment(1, account="reviewer"), namespace=namespace)
    await seen.until(lambda: len(seen.endpoints("reviews")) == 1, "one endpoint")
    name = next(
        pod["metadata"]["name"]
        for pod in pods(cluster, namespace)
        if pod["status"].get("podIP") == seen.addresses("reviews")[0]
    )
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    patch = {"metadata": {"labels": {"version": "v2"}}}
    cluster.request("PATCH", path, patch, content_type="application/merge-patch+json")
    await seen.until(lambda: dict(seen.endpoints("reviews")[0].labels)["version"] == "v2", "the Pod's new label")


async def test_what_was_followed_is_what_a_fresh_start_finds(
    cluster: Cluster, namespace: str, kubeconfig: Path, seen: Seen
) -> None:
    cluster.apply(service("a", selector={"app": "reviews"}), service("b"), deployment(2), namespace=namespace)
    await seen.until(lambda: len(seen.endpoints("a")) == 2, "two endpoints")
    cluster.apply(slice_of("b", {"addresses": ["192.0.2.1"]}), namespace=namespace)
    cluster.delete({**service("a"), "metadata": {"name": "a", "namespace": namespace}})
    await seen.until(lambda: seen.service("a") is None and seen.addresses("b") == ["192.0.2.1"], "a to go, b to come")
    fresh = Seen(kubeconfig, namespace)
    await fresh.until(lambda: True, "everything")
    assert fresh.discovered() == seen.discovered()
    await fresh.close()


async def test_an_external_name_service_leads_to_its_name(cluster: Cluster, namespace: str, seen: Seen) -> None:
    cluster.apply(service("api", type="ExternalName", externalName="api.example.com"), namespace=namespace)
    await seen.until(lambda: seen.service("api"), "the service")
    told = seen.service("api")
    assert told is not None
    assert (told.external_name, told.ports[0].port) == ("api.example.com", 80)


async def test_a_pod_that_is_not_ready_counts_only_where_the_service_says_so(
    cluster: Cluster, namespace: str, seen: Seen
) -> None:
    probe = {"exec": {"command": ["/bin/busybox", "false"]}, "periodSeconds": 1}
    cluster.apply(
        service("strict", selector={"app": "reviews"}),
        service("all", selector={"app": "reviews"}, clusterIP="None", publishNotReadyAddresses=True),
        deployment(1, readinessProbe=probe),
        namespace=namespace,
    )
    await seen.until(lambda: seen.endpoints("all"), "the endpoint that is not ready")
    assert seen.endpoints("all")[0].health == "Healthy"
    assert seen.endpoints("strict") == ()


async def test_a_pod_that_ends_drains_and_goes(cluster: Cluster, namespace: str, seen: Seen) -> None:
    # It takes its time to end, until the test puts an end to it.
    stop = {"preStop": {"exec": {"command": ["/bin/busybox", "sleep", "290"]}}}
    cluster.apply(service("reviews", selector={"app": "reviews"}), deployment(1, lifecycle=stop), namespace=namespace)
    await seen.until(lambda: seen.endpoints("reviews"), "the endpoint")
    (pod,) = pods(cluster, namespace)
    cluster.apply(deployment(0, lifecycle=stop), namespace=namespace)
    await seen.until(lambda: [one.health for one in seen.endpoints("reviews")] == ["Draining"], "it to drain")
    name = pod["metadata"]["name"]
    cluster.kubectl("-n", namespace, "delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
    await seen.until(lambda: not seen.endpoints("reviews"), "it to go")


async def test_slices_by_hand_say_zone_readiness_and_node(
    cluster: Cluster, namespace: str, seen: Seen, a_node: str
) -> None:
    cluster.apply(
        service("db"),
        slice_of(
            "db",
            {"addresses": ["192.0.2.1"], "nodeName": a_node},
            {"addresses": ["192.0.2.2"], "nodeName": a_node, "zone": "north-2", "hints": {"forZones": [{"name": "x"}]}},
            {"addresses": ["192.0.2.3"], "conditions": {"ready": False}},
        ),
        namespace=namespace,
    )
    places = {"192.0.2.1": Locality("north", "north-1"), "192.0.2.2": Locality("north", "north-2")}
    await seen.until(
        lambda: {one.address: one.locality for one in seen.endpoints("db")} == places, "the two that count"
    )
    assert {one.address: one.for_zones for one in seen.endpoints("db")} == {"192.0.2.1": (), "192.0.2.2": ("x",)}
    patch = {"metadata": {"labels": {"topology.kubernetes.io/region": "south"}}}
    cluster.request("PATCH", f"/api/v1/nodes/{a_node}", patch, content_type="application/merge-patch+json")
    await seen.until(
        lambda: {one.locality.region for one in seen.endpoints("db")} == {"south"}, "the Node's new region"
    )


async def test_of_two_families_one_counts_and_an_empty_slice_hides_nothing(
    cluster: Cluster, namespace: str, seen: Seen
) -> None:
    six = {"name": "six", "family": "IPv6"}
    cluster.apply(
        service("db"),
        slice_of("db", {"addresses": ["192.0.2.1"]}),
        slice_of("db", {"addresses": ["2001:db8::1"]}, **six),
        namespace=namespace,
    )
    first = cluster.get(f"/api/v1/namespaces/{namespace}/services/db")["spec"]["ipFamilies"][0]
    four, other = ("192.0.2.1", "2001:db8::1") if first == "IPv4" else ("2001:db8::1", "192.0.2.1")
    await seen.until(lambda: seen.addresses("db") == [four], "the first family")
    emptied = slice_of("db") if first == "IPv4" else slice_of("db", **six)
    cluster.apply(emptied, namespace=namespace)
    await seen.until(lambda: seen.addresses("db") == [other], "the other family")


async def test_a_service_says_who_may_see_it(cluster: Cluster, namespace: str, seen: Seen) -> None:
    private = service("private")
    private["metadata"]["annotations"] = {"fairlead.dev/export-to": "shop, billing"}
    broken = service("broken")
    broken["metadata"]["annotations"] = {"fairlead.dev/export-to": "Not A Namespace"}
    cluster.apply(private, broken, namespace=namespace)
    await seen.until(lambda: seen.service("private") and seen.service("broken"), "the services")
    told, other = seen.service("private"), seen.service("broken")
    assert told is not None
    assert other is not None
    assert (told.export_to, other.export_to) == (("billing", "shop"), ())
    assert [problem.code for problem in seen.source.problems if "broken" in problem.file] == ["InvalidExportTo"]
