"""The demo's stage: Fairlead, a real Envoy as gateway, sample backends, and the configuration they begin with.

Services come from a folder of files, which the demo edits as an operator would; routes are sent over REST.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from fairlead.client import Client, RefusedError
from fairlead.demo.traffic import Visitor
from fairlead.errors import CommandError
from fairlead.processes import Child, Children, free_port

REVIEWS = "reviews.example.com"
SHOP = "shop.example.com"
ROUTES = "/api/v1/namespaces/default/httproutes"


class Ports(msgspec.Struct, frozen=True):
    """Where everything listens."""

    gateway: int
    xds: int
    api: int
    admin: int


class Instance(msgspec.Struct, frozen=True):
    """One sample backend that runs."""

    service: str
    version: str
    number: str
    port: int
    child: Child


def choose_ports() -> Ports:
    """The usual ports where they are free, others where not."""
    return Ports(free_port(10000), free_port(18000), free_port(8080), free_port(9901))


class Scene:
    """Everything that runs, and how to talk to it. `versions` of `reviews` are subsets; `serve_flags` for Fairlead."""

    versions: ClassVar[tuple[str, ...]] = ("v1", "v2")
    serve_flags: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path, children: Children, ports: Ports) -> None:
        self.config = folder / "config"
        self.folder = folder
        self.children = children
        self.ports = ports
        self.client = Client(f"http://127.0.0.1:{ports.api}", timeout=10.0)
        self.instances: list[Instance] = []
        self.visitor = Visitor(ports.gateway)

    def raise_curtain(self) -> None:
        """Start everything, and wait until a request through Envoy is answered."""
        self.config.mkdir()
        self.start_backends()
        self.publish()
        self._start_fairlead()
        self.write_first_routes()
        self._start_envoy()

    def start_backends(self) -> None:
        """Start those that are there from the beginning."""
        for service, version in (("reviews", "v1"), ("reviews", "v2"), ("shop", "v1")):
            self.start_backend(service, version, "1")

    def start_backend(self, service: str, version: str, number: str, *, failing: int = 0) -> Instance:
        """Start a sample backend, of whose answers so many percent are 503.

        It does not get requests before `publish` says that it is there.
        """
        name = f"{service}-{version}-{number}"
        command = [sys.executable, "-m", "fairlead.demo.backend", "--failing", str(failing)]
        child = self.children.start(name, [*command, "--name", service, "--version", version, "--instance", name])
        self.children.wait_until(lambda: bool(_first_line(child.log)), what=f"the backend {name}")
        made = Instance(service, version, name, int(_first_line(child.log)), child)
        self.instances.append(made)
        return made

    def publish(self) -> None:
        """Write the services with the instances there are: a new file in the old one's place, as editors do."""
        documents = [_gateway(self.ports.gateway)]
        services = sorted({each.service for each in self.instances})
        documents += [_service(name, [each for each in self.instances if each.service == name]) for name in services]
        documents += [_subset("reviews", version) for version in self.versions]
        new = self.config / ".services.yaml.new"
        new.write_bytes(b"---\n".join(msgspec.yaml.encode(document) for document in documents))
        new.replace(self.config / "services.yaml")

    def _start_fairlead(self) -> None:
        """Start the control plane and wait until it is ready."""
        self.children.start(
            "fairlead",
            [
                *(sys.executable, "-m", "fairlead", "serve", "--insecure-xds", "--files", str(self.config)),
                *("--store", f"sqlite:{self.folder / 'fairlead.db'}", "--drain-time", "1"),
                *("--xds", f"127.0.0.1:{self.ports.xds}", "--api", f"127.0.0.1:{self.ports.api}"),
                *self.serve_flags,
            ],
        )
        self.children.wait_until(self._ready, what="Fairlead to be ready")

    def _start_envoy(self) -> None:
        """Start Envoy as the gateway and wait until it answers."""
        self.children.start(
            "envoy",
            [
                *(sys.executable, "-m", "fairlead", "envoy", "gateway", "--name", "edge", "--instance", "demo"),
                *("--xds", f"127.0.0.1:{self.ports.xds}", "--admin-port", str(self.ports.admin)),
                *("--", "--concurrency", "2", "--log-level", "warning"),
            ],
        )
        self.children.wait_until(self._answers, what="Envoy to answer")

    def _ready(self) -> bool:
        try:
            self.client.request("GET", "/readyz")
        except CommandError:
            return False
        return True

    def _answers(self) -> bool:
        try:
            return self.visitor.ask(REVIEWS).status == 200
        except OSError:
            return False

    def write_first_routes(self) -> None:
        """Write those that are there from the beginning."""
        ninety = split({"v1": 90, "v2": 10})
        canary = {"headers": [{"name": "x-canary", "value": "yes"}]}
        self.put_route(
            "reviews",
            {
                "hostnames": [REVIEWS],
                "rules": [
                    {"name": "canary", "matches": [canary], "backendRefs": split({"v2": 1})},
                    {"name": "all", "backendRefs": ninety},
                ],
            },
        )
        self.put_route(
            "shop",
            {
                "hostnames": [SHOP],
                "rules": [
                    {"matches": [{"path": {"value": "/reviews"}}], "backendRefs": [{"name": "reviews", "port": 80}]},
                    {"backendRefs": [{"name": "shop", "port": 80}]},
                ],
            },
        )

    def put_route(self, name: str, spec: Mapping[str, Any]) -> None:
        """Write a route over REST. Raises RefusedError when the server will not have it."""
        body = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"parentRefs": [{"name": "edge"}], **spec},
        }
        self.client.request("PUT", f"{ROUTES}/{name}", body=body)

    def wait_for(self, kind: str, name: str) -> None:
        """Wait until every proxy has acknowledged an object."""
        path = f"/api/v1/distribution/{kind}/default/{name}"
        self.children.wait_until(lambda: bool(self.client.get(path)["done"]), what=f"{kind} {name} to reach Envoy")

    def remove(self, instance: Instance) -> None:
        """Take an instance out of its service; it keeps running."""
        self.instances.remove(instance)
        self.publish()

    def refusal(self, name: str, spec: Mapping[str, Any]) -> RefusedError | None:
        """What the server says to a route that it should not accept; None if it does."""
        try:
            self.put_route(name, spec)
        except RefusedError as refused:
            return refused
        return None


def split(weights: Mapping[str, int]) -> list[dict[str, Any]]:
    """backendRefs to the subsets `reviews-<version>` with these weights."""
    return [
        {"group": "fairlead.dev", "kind": "ServiceSubset", "name": f"reviews-{version}", "port": 80, "weight": weight}
        for version, weight in weights.items()
    ]


def _first_line(log: Path) -> str:
    text = log.read_text()
    return text.partition("\n")[0] if "\n" in text else ""


def _gateway(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "default"},
        "spec": {
            "gatewayClassName": "fairlead",
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
        },
    }


def _service(name: str, instances: list[Instance]) -> dict[str, Any]:
    endpoints = [
        {"address": "127.0.0.1", "ports": {"http": each.port}, "labels": {"version": each.version}}
        for each in instances
    ]
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}], "endpoints": endpoints},
    }


def _subset(service: str, version: str) -> dict[str, Any]:
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "ServiceSubset",
        "metadata": {"name": f"{service}-{version}", "namespace": "default"},
        "spec": {"service": service, "labels": {"version": version}},
    }
