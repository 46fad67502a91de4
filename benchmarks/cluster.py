"""A real Kubernetes for the rows about one: which one, a namespace to load and clear, and Fairlead on this machine.

Fairlead runs beside the cluster, reads one namespace of it and leads there with a Lease of its own; a real Envoy of the
Gateway `edge` runs beside it. Loads are made and removed here, and nowhere else. Must not measure.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.envoy import envoy
from benchmarks.ours import Server, run
from benchmarks.processes import Program
from benchmarks.simulator import Credentials, Simulator, Write
from benchmarks.systems import free_port
from tests.support.kubernetes import (
    INSTALL,
    Cluster,
    condition,
    eventually,
    kubectl,
    local_kubeconfig,
    why_no_node,
)

Manifest = dict[str, Any]

CONTROLLER = "fairlead.dev/gateway-controller"
GATEWAY_API = "gateway.networking.k8s.io/v1"
LABELS = {"service.kubernetes.io/service-proxy-name": "fairlead-benchmark"}
"""On every Service and EndpointSlice, so that kube-proxy leaves them alone."""
GATEWAY = "edge"
_PLURALS = {"Service": "services", "EndpointSlice": "endpointslices", "Gateway": "gateways", "HTTPRoute": "httproutes"}
_LOADED = ("HTTPRoute", "Gateway", "EndpointSlice", "Service")  # in the order in which they are removed


class NoClusterError(RuntimeError):
    """A row cannot be measured here; the message says why, in a line."""


def find() -> Path:
    """The kubeconfig of the cluster: that of KUBECONFIG, else of the local node, which is started where it is built.

    Raises:
        NoClusterError: there is none.
    """
    try:
        import kubernetes  # noqa: F401
    except ImportError:
        raise NoClusterError("the client of Kubernetes is not installed: pip install 'fairlead[kubernetes]'") from None
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    if why := why_no_node():
        raise NoClusterError(why)
    return local_kubeconfig()


class Namespace:
    """A namespace of a cluster that is a benchmark's own; a context manager that removes it and all in it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.cluster = Cluster(kubeconfig)
        self.name = f"bench-{secrets.token_hex(3)}"
        from kubernetes import config

        settings = config.new_client_from_config(str(kubeconfig)).configuration
        self.server = str(settings.host)
        token = settings.get_api_key_with_prefix("BearerToken") or settings.get_api_key_with_prefix("authorization")
        self.credentials = Credentials(
            ca=settings.ssl_ca_cert or "", cert=settings.cert_file or "", key=settings.key_file or "", token=token or ""
        )
        parts = urlsplit(self.server)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname or "", parts.port or 443))
            self.host = str(probe.getsockname()[0])
            """The address of this machine from which the cluster is reached."""

    def __enter__(self) -> Self:
        """Raises `NoClusterError` where another Fairlead would take part."""
        try:
            self._refuse_company()
            self._need_definitions()
            self.cluster.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}},
                {
                    "apiVersion": GATEWAY_API,
                    "kind": "GatewayClass",
                    "metadata": {"name": self.name},
                    "spec": {"controllerName": CONTROLLER},
                },
                manager="benchmarks",
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.clear()
            self.cluster.delete({"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": self.name}})
            self.cluster.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}, wait=120)
        finally:
            self.cluster.close()

    def clear(self) -> None:
        """Remove what was loaded, and wait until it is gone."""
        for kind in _LOADED:
            path = self.path(kind)
            if self.cluster.find(path) is None:  # its definition is not there
                continue
            self.cluster.request("DELETE", path, {"propagationPolicy": "Background"})
            self._wait_empty(path)

    def path(self, kind: str, name: str = "") -> str:
        """Where a kind, or one object of it, stands in this namespace."""
        version = {"Service": "api/v1", "EndpointSlice": "apis/discovery.k8s.io/v1"}.get(kind, f"apis/{GATEWAY_API}")
        return f"/{version}/namespaces/{self.name}/{_PLURALS[kind]}" + (f"/{name}" if name else "")

    def create(self, item: Manifest) -> Write:
        """The request that makes an object."""
        return Write("POST", self.server + self.path(item["kind"]), json.dumps(item))

    def patch(self, kind: str, name: str, change: Manifest) -> Write:
        """The request that changes an object (a JSON merge patch)."""
        url = self.server + self.path(kind, name)
        return Write("PATCH", url, json.dumps(change), content_type="application/merge-patch+json")

    def remove(self, kind: str, name: str) -> Write:
        """The request that deletes an object."""
        return Write("DELETE", self.server + self.path(kind, name))

    def watch(self, simulator: Simulator, kind: str) -> None:
        """Have the simulator watch a kind from now on."""
        version = self.cluster.get(f"{self.path(kind)}?limit=1")["metadata"]["resourceVersion"]
        simulator.watch(f"{self.server}{self.path(kind)}?watch=1&resourceVersion={version}")

    def gateway(self, port: int, *, name: str = GATEWAY) -> Manifest:
        """A Gateway with one HTTP listener."""
        listener = {"name": "http", "port": port, "protocol": "HTTP"}
        return {
            "apiVersion": GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": name},
            "spec": {"gatewayClassName": self.name, "listeners": [listener]},
        }

    def _wait_empty(self, path: str) -> None:
        eventually(lambda: not self.cluster.get(f"{path}?limit=1")["items"], f"{path} to be empty", seconds=120)

    def _refuse_company(self) -> None:
        found = self.cluster.get("/apis/apps/v1/deployments?labelSelector=app.kubernetes.io/name%3Dfairlead")
        for item in found["items"]:
            env = item["spec"]["template"]["spec"]["containers"][0].get("env") or []
            if not any(one["name"] == "FAIRLEAD_KUBERNETES_NAMESPACES" and one.get("value") for one in env):
                where = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
                raise NoClusterError(
                    f"the Fairlead installed in the cluster ({where}) would take part: remove it first"
                )

    def _need_definitions(self) -> None:
        groups = {group["name"] for group in self.cluster.get("/apis")["groups"]}
        if {"gateway.networking.k8s.io", "fairlead.dev"} <= groups:
            return
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECTL": " ".join(kubectl())}
        done = subprocess.run([INSTALL, "crds"], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{INSTALL} crds failed:\n{done.stdout}{done.stderr}")


def service(name: str, *, port: int = 80, headless: bool = False) -> Manifest:
    """A Service without a selector."""
    spec: Manifest = {"ports": [{"name": "http", "port": port}]}
    if headless:
        spec["clusterIP"] = "None"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": LABELS}, "spec": spec}


def endpoint_slice(of: str, addresses: Sequence[str], *, port: int, name: str = "1") -> Manifest:
    """An EndpointSlice by hand, all of it ready."""
    family = "IPv6" if ipaddress.ip_address(addresses[0]).version == 6 else "IPv4"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{of}-{name}", "labels": {**LABELS, "kubernetes.io/service-name": of}},
        "addressType": family,
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def route(name: str, to: str, *, gateway: str = GATEWAY, **rule: Any) -> Manifest:
    """An HTTPRoute for the host `<name>.example.com` to port 80 of a Service."""
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": gateway}],
            "hostnames": [f"{name}.example.com"],
            "rules": [{"backendRefs": [{"name": to, "port": 80}], **rule}],
        },
    }


class Site:
    """What a row works with: the namespace, a simulator with the cluster's credentials, Fairlead, and an Envoy."""

    def __init__(self, namespace: Namespace, simulator: Simulator, directory: Path) -> None:
        self.namespace = namespace
        self.simulator = simulator
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"

    @contextmanager
    def fairlead(self, *flags: str) -> Iterator[Server]:
        """Fairlead, once it leads in its namespace; with flags for how proxies come in."""
        space = self.namespace
        watched = ["--kubernetes", str(space.kubeconfig), "--kubernetes-namespaces", space.name]
        lease = ["--kubernetes-lease", f"{space.name}/fairlead"]
        server = Server(self.directory, *watched, *lease, *(flags or ("--insecure-xds",)))
        try:
            path = f"/apis/{GATEWAY_API}/gatewayclasses/{space.name}"
            eventually(lambda: condition(space.cluster.get(path), "Accepted"), "the GatewayClass to be accepted")
            yield server
        finally:
            server.program.stop()

    @contextmanager
    def proxy(self, xds: str) -> Iterator[Program]:
        """A real Envoy of the Gateway `edge`, once it listens."""
        flags = ["--namespace", self.namespace.name, "--name", GATEWAY, "--xds", xds]
        admin = ["--admin-port", str(free_port()), "-o", "json"]
        bootstrap = json.loads(run("bootstrap", "gateway", *flags, *admin))
        with envoy(bootstrap, self.directory, "envoy") as program:
            eventually(self._listens, "Envoy to listen", seconds=60)
            yield program

    def backend(self, *services: str) -> None:
        """Services that answer 200: a server on this machine."""
        space = self.namespace
        address, _, port = self.simulator.backend(space.host).rpartition(":")
        for name in services:
            self.simulator.send(space.create(service(name, headless=True)))
            self.simulator.send(space.create(endpoint_slice(name, [address.strip("[]")], port=int(port))))

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True


@contextmanager
def site(kubeconfig: Path, directory: Path) -> Iterator[Site]:
    """A place to measure in, removed afterwards."""
    with Namespace(kubeconfig) as namespace, Simulator() as simulator:
        simulator.use(namespace.credentials)
        print(f"working in namespace {namespace.name} of {namespace.server}", file=sys.stderr)
        yield Site(namespace, simulator, directory)
