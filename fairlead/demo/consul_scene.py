"""The stage of the demo with Consul: two datacenters of one agent each, Fairlead, a real Envoy, and sample backends.

Instances are registered in Consul as an agent's own services are, with a check that somebody sets; routes and subsets
come from a folder of files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fairlead.client import Client
from fairlead.demo.scene import Ports
from fairlead.demo.traffic import Visitor
from fairlead.errors import CommandError
from fairlead.processes import Child, Children, free_port

HOST = "reviews.example.com"
SUBSETS: Mapping[str, Mapping[str, str]] = {
    "stable": {"version": "v1"},
    "canary": {"canary": "true"},
    "in-file": {"home": "file"},
    "in-kubernetes": {"home": "kubernetes"},
    "in-consul": {"home": "consul"},
}
_KINDS = ("http", "dns", "serf-lan", "serf-wan", "server")


@cache
def no_grpc(binary: str) -> tuple[str, ...]:
    """The flags for an agent without gRPC. Since 1.14 it has a second port, the same for all agents of a machine."""
    said = subprocess.run([binary, "agent", "-help"], capture_output=True, text=True, timeout=60, check=False)
    second = "-grpc-tls-port"
    return ("-grpc-port", "-1", *((second, "-1") if second in said.stdout + said.stderr else ()))


class Instance(msgspec.Struct, frozen=True):
    """A sample backend, registered in Consul under `id` unless a file tells of it."""

    id: str
    port: int
    child: Child


class Datacenter:
    """A Consul agent that is a datacenter of its own."""

    def __init__(self, children: Children, binary: str, name: str, *, join: Datacenter | None = None) -> None:
        self.name = name
        self.ports = {kind: free_port() for kind in _KINDS}
        self.client = Client(f"http://127.0.0.1:{self.ports['http']}", timeout=10.0)
        ports = [flag for kind, port in self.ports.items() for flag in (f"-{kind}-port", str(port))]
        wan = ["-retry-join-wan", f"127.0.0.1:{join.ports['serf-wan']}"] if join is not None else []
        command = [binary, "agent", "-dev", "-node", name, "-datacenter", name, "-bind", "127.0.0.1"]
        children.start(
            f"consul-{name}",
            [*command, *ports, *no_grpc(binary), "-log-level", "warn", "-hcl", 'retry_interval_wan = "1s"', *wan],
        )

    def knows(self, datacenter: str) -> bool:
        """Whether it can be asked about a datacenter."""
        try:
            return bool(self.client.request("GET", f"/v1/catalog/service/consul?dc={datacenter}").json())
        except CommandError:
            return False

    def register(self, own: str, port: int, **more: Any) -> None:
        """Register an instance of `reviews`, or change it."""
        check = {"CheckID": f"check:{own}", "Name": "set by the demo", "TTL": "3600s", "Status": "passing"}
        body = {"Name": "reviews", "ID": own, "Address": "127.0.0.1", "Port": port, "Check": check, **more}
        self.client.request("PUT", "/v1/agent/service/register", body=body)

    def check(self, own: str, state: str) -> None:
        """Have its check say `pass` or `fail`."""
        self.client.request("PUT", f"/v1/agent/check/{state}/check:{own}")

    def maintain(self, own: str, *, enable: bool) -> None:
        """Take an instance out of traffic, or put it back."""
        self.client.request("PUT", f"/v1/agent/service/maintenance/{own}?enable={str(enable).lower()}")

    def deregister(self, own: str) -> None:
        """Let an instance go."""
        self.client.request("PUT", f"/v1/agent/service/deregister/{own}")


class Home(Protocol):
    """What tells of the service beside Consul. `flags` are `serve`'s; all objects are in `namespace`."""

    name: str
    namespace: str
    flags: Sequence[str]

    def prepare(self) -> None:
        """Before Fairlead starts."""

    def move_in(self, scene: ConsulScene, /) -> frozenset[str]:
        """Have instances there; which ones."""

    def move_out(self, scene: ConsulScene, /) -> None:
        """Have none any more."""

    def close(self) -> None:
        """Leave nothing behind."""


class ConsulScene:
    """Everything that runs, and how to talk to it."""

    def __init__(self, folder: Path, children: Children, ports: Ports, *, binary: str, home: Home) -> None:
        """`home` is where the service lives before it moves to Consul."""
        self.home = home
        self.folder = folder
        self.config = folder / "config"
        self.children = children
        self.ports = ports
        self.binary = binary
        self.client = Client(f"http://127.0.0.1:{ports.api}", timeout=10.0)
        self.visitor = Visitor(ports.gateway)
        self.east: Datacenter
        self.west: Datacenter
        self._in_file: list[Instance] = []
        self._backends: list[dict[str, Any]] = [{"name": "reviews", "port": 80}]

    def raise_curtain(self) -> None:
        """Start everything, and wait until a request through Envoy is answered."""
        self.config.mkdir()
        self.home.prepare()
        self.east = Datacenter(self.children, self.binary, "east")
        self.west = Datacenter(self.children, self.binary, "west", join=self.east)
        for asked in ("east", "west"):
            self.children.wait_until(
                lambda asked=asked: self.east.knows(asked),  # type: ignore[misc]
                what=f"Consul's datacenter {asked}",
                timeout=60,
            )
        first = self.start_backend("v1", "1")
        self.east.register(first.id, first.port, Meta={"version": "v1", "home": "consul"})
        self.publish()
        self._start_fairlead()
        self._start_envoy()

    def start_backend(self, version: str, number: str) -> Instance:
        """Start a sample backend, which nobody knows yet."""
        name = f"reviews-{version}-{number}"
        command = [sys.executable, "-m", "fairlead.demo.backend", "--name", "reviews", "--version", version]
        child = self.children.start(name, [*command, "--instance", name])
        self.children.wait_until(lambda: "\n" in child.log.read_text(), what=f"the backend {name}")
        return Instance(name, int(child.log.read_text().partition("\n")[0]), child)

    def tell_by_file(self, *instances: Instance) -> None:
        """Have a file tell of instances of the service too."""
        self._in_file = list(instances)
        self.publish()

    def split(self, weights: Mapping[str, int]) -> None:
        """Share the requests among subsets, and wait until Envoy does."""
        ref = {"group": "fairlead.dev", "kind": "ServiceSubset", "port": 80}
        self.route([{**ref, "name": name, "weight": weight} for name, weight in weights.items()])

    def route(self, backends: Sequence[dict[str, Any]]) -> None:
        """Send the requests to other backends, and wait until Envoy does."""
        self._backends = list(backends)
        self.publish()
        self.children.wait_until(self._is_routed, what="the route to reach Envoy")

    def publish(self) -> None:
        """Write the config objects: a new file in the old one's place, as editors do."""
        subsets = [
            self._object("ServiceSubset", name, {"service": "reviews", "labels": dict(labels)})
            for name, labels in SUBSETS.items()
        ]
        documents = [self._gateway(), self._route(), *subsets]
        if self._in_file:
            ends = [
                {"address": "127.0.0.1", "ports": {"http": each.port}, "labels": {"home": "file", "version": "v1"}}
                for each in self._in_file
            ]
            spec = {"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}], "endpoints": ends}
            documents.append(self._object("Service", "reviews", spec))
        new = self.config / ".config.yaml.new"
        new.write_text("\n---\n".join(map(json.dumps, documents)))
        new.replace(self.config / "config.yaml")

    def _is_routed(self) -> bool:
        try:
            shown = self.client.get(f"/api/v1/namespaces/{self.home.namespace}/httproutes/reviews")
        except CommandError:
            return False
        done = self.client.get(f"/api/v1/distribution/HTTPRoute/{self.home.namespace}/reviews")["done"]
        named = [(one["name"], one.get("weight", 1)) for one in shown["spec"]["rules"][0]["backendRefs"]]
        return bool(done) and named == [(one["name"], one.get("weight", 1)) for one in self._backends]

    def _start_fairlead(self) -> None:
        self.children.start(
            "fairlead",
            [
                *(sys.executable, "-m", "fairlead", "serve", "--insecure-xds", "--files", str(self.config)),
                *("--consul", self.east.client.server, "--consul-datacenters", "west", *self.home.flags),
                *("--store", f"sqlite:{self.folder / 'fairlead.db'}", "--drain-time", "1"),
                *("--xds", f"127.0.0.1:{self.ports.xds}", "--api", f"127.0.0.1:{self.ports.api}"),
            ],
        )
        self.children.wait_until(self._is_ready, what="Fairlead to be ready", timeout=60)

    def _is_ready(self) -> bool:
        try:
            self.client.request("GET", "/readyz")
        except CommandError:
            return False
        return True

    def _start_envoy(self) -> None:
        self.children.start(
            "envoy",
            [
                *(sys.executable, "-m", "fairlead", "envoy", "gateway", "--name", "edge", "--instance", "demo"),
                *("--namespace", self.home.namespace),
                *("--xds", f"127.0.0.1:{self.ports.xds}", "--admin-port", str(self.ports.admin)),
                *("--", "--concurrency", "2", "--log-level", "warning"),
            ],
        )
        self.children.wait_until(self._answers, what="Envoy to answer", timeout=60)

    def _answers(self) -> bool:
        try:
            return self.visitor.ask(HOST).status == 200
        except OSError:
            return False

    def _object(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        ours = kind in ("Service", "ServiceSubset")
        version = "fairlead.dev/v1alpha1" if ours else "gateway.networking.k8s.io/v1"
        metadata = {"name": name, "namespace": self.home.namespace}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}

    def _gateway(self) -> dict[str, Any]:
        listeners = [{"name": "http", "port": self.ports.gateway, "protocol": "HTTP"}]
        return self._object("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})

    def _route(self) -> dict[str, Any]:
        spec = {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": [{"backendRefs": self._backends}]}
        return self._object("HTTPRoute", "reviews", spec)
