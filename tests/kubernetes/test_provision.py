"""Gateways in a real Kubernetes: `fairlead serve` beside the cluster, real pods of Envoy, real requests."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairlead.processes import Child, Children, free_port
from tests.support.kubernetes import JSON, KUBE_NODE, Cluster, condition, eventually
from tests.support.load import Load

pytestmark = [pytest.mark.usefixtures("crds", "images"), pytest.mark.timeout(600)]

HOST = "10.245.0.1"  # of the local node, as its pods see it
CONTROLLER = "fairlead.dev/gateway-controller"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
PARTS = (
    "api/v1/serviceaccounts",
    "api/v1/configmaps",
    "apis/apps/v1/deployments",
    "api/v1/services",
    "apis/policy/v1/poddisruptionbudgets",
)
HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}


class World:
    """A namespace with a class of its own, and the program that serves it."""

    def __init__(self, cluster: Cluster, children: Children, namespace: str, gateway_class: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.gateway_class = gateway_class
        self._children = children
        self._xds = free_port(host=HOST)
        self.child = self._start()

    def _start(self) -> Child:
        xds = f"{HOST}:{self._xds}"
        settings = {
            "KUBERNETES": str(self.cluster.kubeconfig),
            "KUBERNETES_NAMESPACES": self.namespace,
            "KUBERNETES_LEASE": f"{self.namespace}/fairlead",
            "XDS": xds,
            "XDS_NAMES": HOST,
            "GATEWAY_XDS": xds,
            "GATEWAY_IMAGE": "fairlead-envoy:dev",
            "GATEWAY_IMAGE_PULL_POLICY": "IfNotPresent",
            "GATEWAY_SERVICE_TYPE": "ClusterIP",
            "API": f"127.0.0.1:{free_port()}",
            "STORE": f"sqlite:{self._children.folder}/store.db",
        }
        environment = {f"FAIRLEAD_{name}": value for name, value in settings.items()}
        return self._children.start("fairlead", [sys.executable, "-m", "fairlead", "serve"], env=environment)

    def restart(self) -> None:
        """Kill the program, and start it anew."""
        self.child.signal_group(signal.SIGKILL)
        self.child.process.wait()
        self._children.started.remove(self.child)
        self.child = self._start()

    def gateway(self, name: str, *, listeners: list[JSON] | None = None, **spec: Any) -> str:
        """Declare a Gateway."""
        self.cluster.apply(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"gatewayClassName": self.gateway_class, "listeners": listeners or [HTTP], **spec},
            }
        )
        return name

    def delete(self, name: str) -> None:
        """Delete a Gateway."""
        where = f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/gateways/{name}"
        self.cluster.request("DELETE", where)

    def route(self, gateway: str) -> None:
        """Answer every request to a Gateway with a redirect: that needs no backend."""
        self.cluster.apply(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": f"all-of-{gateway}", "namespace": self.namespace},
                "spec": {
                    "parentRefs": [{"name": gateway}],
                    "rules": [
                        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "example.com"}}]}
                    ],
                },
            }
        )

    def parameters(self, name: str, **spec: Any) -> JSON:
        """Declare parameters; returns the infrastructure that names them."""
        self.cluster.apply(
            {
                "apiVersion": "fairlead.dev/v1alpha1",
                "kind": "GatewayParameters",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": spec,
            }
        )
        return {"parametersRef": {"group": "fairlead.dev", "kind": "GatewayParameters", "name": name}}

    def status(self, name: str) -> JSON:
        """A Gateway as it is now."""
        return self.cluster.get(f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/gateways/{name}")

    def programmed(self, name: str, status: str = "True", reason: str = "") -> JSON:
        """Wait until that is told of a Gateway, and return it."""

        def told() -> JSON | None:
            item = self.status(name)
            found = condition(item, "Programmed")
            if found is None or found.get("observedGeneration") != item["metadata"]["generation"]:
                return None
            return item if found["status"] == status and reason in ("", found["reason"]) else None

        try:
            return eventually(told, f"{name} Programmed={status} {reason}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status(name).get('status')}\n{self.child.log_tail(20)}") from None

    def objects(self, plural: str, gateway: str) -> list[JSON]:
        """What there is of that kind for a Gateway."""
        root, _, kind = plural.rpartition("/")
        selector = f"labelSelector={GATEWAY_NAME}%3D{gateway}"
        items: list[JSON] = self.cluster.get(f"/{root}/namespaces/{self.namespace}/{kind}?{selector}")["items"]
        return items

    def pods(self, gateway: str) -> list[JSON]:
        """Its proxies."""
        return self.objects("api/v1/pods", gateway)

    def one(self, plural: str, gateway: str) -> JSON:
        """The one object of that kind."""
        found = self.objects(plural, gateway)
        if len(found) != 1:
            raise LookupError(f"{gateway} has {len(found)} {plural}")
        return found[0]

    def made(self, gateway: str) -> dict[str, JSON]:
        """What was written to its objects, and by whom; not what controllers tell of their state."""
        return {plural: _written(self.one(plural, gateway)) for plural in PARTS}


def _written(item: JSON) -> JSON:
    """An object without its status, and without who wrote that."""
    written = {name: value for name, value in item.items() if name != "status"}
    managers = [one for one in item["metadata"]["managedFields"] if one.get("subresource") != "status"]
    written["metadata"] = {**item["metadata"], "resourceVersion": "", "managedFields": managers}
    return written


@pytest.fixture(scope="module")
def world(cluster: Cluster, crds: None, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if not KUBE_NODE.exists() or HOST not in cluster.kubeconfig.read_text():
        pytest.skip("the program runs beside the cluster, where pods of the local node alone reach it")
    name = f"test-provision-{secrets.token_hex(3)}"
    # The strictest of Kubernetes' pod security standards: what it refuses never runs.
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": name}}
    cluster.apply(space, {**kind, "spec": {"controllerName": CONTROLLER}})
    with Children(tmp_path_factory.mktemp("provision")) as children:
        yield World(cluster, children, name, name)
    cluster.delete(kind)
    cluster.delete(space)


@pytest.fixture
def new(world: World) -> Iterator[Callable[..., str]]:
    """Makes Gateways that go with the test."""
    made: list[str] = []

    def make(prefix: str = "edge", **spec: Any) -> str:
        made.append(world.gateway(f"{prefix}-{secrets.token_hex(2)}", **spec))
        return made[-1]

    yield make
    for name in made:
        with contextlib.suppress(AssertionError):
            world.delete(name)


def address(item: JSON) -> str:
    [only] = item["status"]["addresses"]
    assert only["type"] == "IPAddress"
    return str(only["value"])


def answer(host: str, port: int = 80) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/", headers={"host": "a.example.com"})
        return connection.getresponse().status
    finally:
        connection.close()


def reached(host: str, port: int = 80) -> None:
    """Wait for an answer: a Service's address leads to new pods about a second after they are ready."""
    eventually(lambda: answer(host, port) == 404, f"an answer at {host}:{port}")


def test_a_gateway_has_proxies_of_its_own(world: World, new: Callable[..., str]) -> None:
    """How soon is measured by `make bench`: three seconds is the bar."""
    name = new()
    item = world.programmed(name)
    reached(address(item))
    world.route(name)
    eventually(lambda: answer(address(item)) == 302, "the route to be served")
    [pod] = world.pods(name)
    assert (condition(pod, "Ready") or {})["status"] == "True", "Programmed means that a proxy is ready"


def test_everything_is_labelled_and_goes_with_the_gateway(world: World, new: Callable[..., str]) -> None:
    name = new(infrastructure={"labels": {"team": "red"}, "annotations": {"example.com/owner": "edge"}})
    world.programmed(name)
    for plural in (*PARTS, "api/v1/pods"):
        found = eventually(lambda plural=plural: world.objects(plural, name) or None, f"{plural} of {name}")
        assert found[0]["metadata"]["labels"]["team"] == "red"
        assert found[0]["metadata"]["annotations"]["example.com/owner"] == "edge"
    world.delete(name)
    for plural in (*PARTS, "api/v1/pods"):
        eventually(lambda plural=plural: world.objects(plural, name) == [], f"no {plural}")


def test_a_rollout_fails_no_request(world: World, new: Callable[..., str]) -> None:
    name = new(infrastructure=world.parameters("rolled", drainSeconds=10))
    world.route(name)
    host = address(world.programmed(name))
    eventually(lambda: answer(host) == 302, "the route to be served")
    [before] = world.pods(name)
    with Load(host) as load:
        world.parameters("rolled", drainSeconds=10, logLevel="info")

        def rolled() -> bool:
            names = [pod["metadata"]["name"] for pod in world.pods(name)]
            return len(names) == 1 and before["metadata"]["name"] not in names

        eventually(rolled, "another pod in place of the first")
    assert set(load.seen) == {"302"}, load.seen
    assert load.seen.total() > 500


def test_a_listener_more_is_a_port_more_and_restarts_no_pod(world: World, new: Callable[..., str]) -> None:
    name = new()
    host = address(world.programmed(name))
    [before] = world.pods(name)
    world.gateway(name, listeners=[HTTP, {**HTTP, "name": "more", "port": 8080}])
    eventually(lambda: answer(host, 8080) == 404, "the new port to be served")
    [after] = world.pods(name)
    assert before["metadata"]["uid"] == after["metadata"]["uid"]


def test_what_others_change_or_delete_is_put_back(world: World, new: Callable[..., str]) -> None:
    name = new()
    host = address(world.programmed(name))
    service = world.one("api/v1/services", name)
    where = world.cluster.path({"apiVersion": "v1", "kind": "Service", **service})
    stolen = {"spec": {"selector": {GATEWAY_NAME: "nobody"}}}
    world.cluster.request("PATCH", where, stolen, content_type="application/merge-patch+json")

    def own() -> bool:
        return world.one("api/v1/services", name)["spec"]["selector"][GATEWAY_NAME] == name

    eventually(own, "the selector to be put back")
    deployment = world.one("apis/apps/v1/deployments", name)
    world.cluster.delete({"apiVersion": "apps/v1", "kind": "Deployment", **deployment})

    def another() -> bool:
        made = world.one("apis/apps/v1/deployments", name)
        return bool(made["metadata"]["uid"] != deployment["metadata"]["uid"] and made["status"].get("readyReplicas"))

    eventually(another, "another Deployment, whose proxy is ready")
    world.programmed(name)
    eventually(lambda: answer(host) == 404, "new proxies to serve")


def test_an_object_of_somebody_else_is_never_taken_over(world: World, new: Callable[..., str]) -> None:
    token = secrets.token_hex(2)
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"taken-{token}-{world.gateway_class}", "namespace": world.namespace},
        "data": {"a": "b"},
    }
    world.cluster.apply(theirs)
    name = world.gateway(f"taken-{token}")
    try:
        item = world.programmed(name, "False", "Invalid")
        told = condition(item, "Programmed")
        assert told is not None
        assert f"ConfigMap {theirs['metadata']['name']}" in told["message"]  # type: ignore[index]
        kept = world.cluster.get(world.cluster.path(theirs))
        assert kept["data"] == {"a": "b"}
        assert world.objects("apis/apps/v1/deployments", name) == []
        world.cluster.delete(theirs)
        world.programmed(name)
    finally:
        world.delete(name)


def test_addresses_are_had_if_they_can_be_had(world: World, new: Callable[..., str]) -> None:
    free = f"10.96.77.{secrets.randbelow(250) + 1}"
    name = new(addresses=[{"type": "IPAddress", "value": free}])
    assert address(world.programmed(name)) == free
    world.gateway(name, addresses=[{"type": "IPAddress", "value": "192.0.2.1"}])
    world.programmed(name, "False", "AddressNotUsable")
    world.gateway(name, addresses=[{"type": "Hostname", "value": "gateway.example.com"}])
    world.programmed(name, "False", "AddressNotUsable")
    world.gateway(name, addresses=[{"type": "IPAddress"}])
    world.programmed(name)


def test_the_type_of_the_service_decides_the_addresses(world: World, new: Callable[..., str]) -> None:
    balanced = new(infrastructure=world.parameters("balanced", serviceType="LoadBalancer"))
    world.programmed(balanced, "False", "AddressNotAssigned")
    noded = new(infrastructure=world.parameters("noded", serviceType="NodePort"))
    item = world.programmed(noded)
    port = world.one("api/v1/services", noded)["spec"]["ports"][0]["nodePort"]
    reached(address(item), port)
    world.parameters("balanced", serviceType="ClusterIP")
    reached(address(world.programmed(balanced)))


def test_a_name_as_long_as_names_can_be_works(world: World) -> None:
    name = world.gateway(("a" * 60 + ".") * 4 + secrets.token_hex(4))
    try:
        reached(address(world.programmed(name)))
    finally:
        world.delete(name)


def test_parameters_that_are_missing_leave_what_runs_as_it_is(world: World, new: Callable[..., str]) -> None:
    infrastructure = world.parameters("going", replicas=1)
    name = new(infrastructure=infrastructure)
    world.programmed(name)
    version = world.one("apis/apps/v1/deployments", name)["metadata"]["generation"]
    gone = f"/apis/fairlead.dev/v1alpha1/namespaces/{world.namespace}/gatewayparameters/going"
    world.cluster.request("DELETE", gone)
    item = world.programmed(name, "False")
    told = condition(item, "Accepted")
    assert told is not None
    assert (told["status"], told["reason"]) == ("False", "InvalidParameters")
    assert world.one("apis/apps/v1/deployments", name)["metadata"]["generation"] == version
    world.parameters("going", replicas=1)
    world.programmed(name)


def test_a_gateway_that_goes_to_another_controller_is_let_go(world: World, new: Callable[..., str]) -> None:
    name = new()
    world.programmed(name)
    kind = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": f"{world.gateway_class}-other"},
        "spec": {"controllerName": "example.com/other"},
    }
    world.cluster.apply(kind)
    try:
        world.gateway(name, gatewayClassName=kind["metadata"]["name"])  # type: ignore[index]
        for plural in PARTS:
            eventually(lambda plural=plural: world.objects(plural, name) == [], f"no {plural}")
    finally:
        world.cluster.delete(kind)


def test_a_restart_of_the_program_changes_nothing(world: World, new: Callable[..., str]) -> None:
    name = new()
    host = address(world.programmed(name))
    before = eventually(lambda: world.made(name), "all its objects")
    [pod] = world.pods(name)
    world.restart()
    other = new("after")
    world.programmed(other)  # the program is at work again
    reached(host)
    assert world.made(name) == before
    [still] = world.pods(name)
    assert still["metadata"]["uid"] == pod["metadata"]["uid"]


def test_what_is_no_longer_wanted_goes_though_nobody_saw_it_go(world: World, new: Callable[..., str]) -> None:
    name = new()
    world.programmed(name)
    world.child.signal_group(signal.SIGSTOP)
    orphan = world.one("api/v1/services", name)
    owners = {"metadata": {"ownerReferences": None}}
    for kind, version in (("Service", "v1"), ("Deployment", "apps/v1")):
        where = world.cluster.path({"apiVersion": version, "kind": kind, "metadata": orphan["metadata"]})
        world.cluster.request("PATCH", where, owners, content_type="application/merge-patch+json")
    world.delete(name)
    world.restart()
    for plural in PARTS:
        eventually(lambda plural=plural: world.objects(plural, name) == [], f"no {plural}")


def test_a_quota_is_told_as_such(world: World, new: Callable[..., str]) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-more-pods", "namespace": world.namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    world.cluster.apply(quota)
    try:
        eventually(lambda: "hard" in world.cluster.get(world.cluster.path(quota)).get("status", {}), "the quota")
        name = new()
        told = condition(world.programmed(name, "False", "NoResources"), "Programmed")
        assert told is not None
        assert "quota" in told["message"]
    finally:
        world.cluster.delete(quota)


def test_why_no_proxy_becomes_ready_is_told(world: World, new: Callable[..., str]) -> None:
    def told(reason: str, words: str, **spec: Any) -> None:
        name = new("ill", infrastructure=world.parameters(f"ill-{reason.lower()}", **spec))

        def message() -> str:
            found = condition(world.programmed(name, "False", reason), "Programmed")
            assert found is not None
            return str(found["message"])

        eventually(lambda: words in message(), f"{reason} with {words!r}")

    told("NoResources", "finds no node", nodeSelector={"example.com/nowhere": "true"})
    told("Pending", "does not start", envoyImage="fairlead-envoy:nowhere")


def test_secrets_of_the_authority_stay_where_they_are(world: World, new: Callable[..., str]) -> None:
    name = new()
    world.programmed(name)
    config = world.one("api/v1/configmaps", name)["data"]
    assert "PRIVATE KEY" not in "".join(config.values())
