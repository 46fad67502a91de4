"""A mesh that finds its services in Consul: Fairlead, a gateway on a real Envoy, and routes to Consul's services."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fairlead.demo.traffic import Background, Visitor
from fairlead.processes import Children, free_port
from tests.support.consul import ConsulAgent
from tests.support.programs import RunningEnvoy, Serving, ask, reached, start_backend, start_envoy, start_serve


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A config object in the namespace `default`."""
    ours = kind not in ("Gateway", "HTTPRoute")
    version = "fairlead.dev/v1alpha1" if ours else "gateway.networking.k8s.io/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def gateway(port: int) -> dict[str, Any]:
    """The Gateway `edge` on loopback."""
    spec = {
        "gatewayClassName": "fairlead",
        "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
        "addresses": [{"value": "127.0.0.1"}],
    }
    return document("Gateway", "edge", spec)


def route(name: str, *backends: dict[str, Any]) -> dict[str, Any]:
    """A route for the host `name`; without backends to the service of that name."""
    refs = list(backends) or [{"name": name, "port": 80}]
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": [name], "rules": [{"backendRefs": refs}]}
    return document("HTTPRoute", name, spec)


class ConsulMesh:
    """Fairlead with `--consul` and what else is given, and an Envoy as its gateway."""

    def __init__(
        self, children: Children, *arguments: str, objects: Sequence[dict[str, Any]] = (), name: str = "mesh"
    ) -> None:
        self.children = children
        self.port = free_port()
        self.arguments = arguments
        self._name = name
        self._folder = children.folder / f"{name}-config"
        self._folder.mkdir()
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.declare(gateway(self.port), *objects)
        self.serving: Serving = self.serve()
        self.envoy: RunningEnvoy = start_envoy(children, "gateway", "edge", xds=self.serving.xds)

    def serve(self, *, xds: int = 0, ready: bool = True) -> Serving:
        """Run Fairlead."""
        return start_serve(
            self.children,
            "--files",
            str(self._folder),
            *self.arguments,
            name=f"{self._name}-serve",
            store=self.children.folder / f"{self._name}.db",
            xds=xds,
            ready=ready,
        )

    def declare(self, *objects: dict[str, Any]) -> None:
        """Write config objects beside those that are there."""
        for each in objects:
            self._objects[each["kind"], each["metadata"]["name"]] = each
        file = self._folder / "config.yaml"
        new = file.with_suffix(".new")
        new.write_text("\n---\n".join(map(json.dumps, self._objects.values())))
        new.rename(file)

    def status(self, host: str) -> int:
        """The status of one request."""
        return ask(self.port, host).status

    def who(self, host: str) -> str:
        """Who answers one request."""
        return ask(self.port, host).who

    def wait_ok(self, host: str, what: str = "") -> None:
        """Wait until a host is answered with 200."""
        self.wait(lambda: reached(self.port, host), what or f"{host} to answer")

    def wait_gone(self, host: str) -> None:
        """Wait until nobody answers for a host."""
        self.wait(lambda: self.status(host) >= 500, f"{host} to be gone")

    def wait(self, condition: Any, what: str, *, timeout: float = 90.0) -> None:
        """Wait for a condition."""
        self.children.wait_until(condition, what=what, timeout=timeout)

    def count(self, host: str, requests: int, **headers: str) -> Counter[str]:
        """Which instances answered so many requests; `_` in a header's name is `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        visitor = Visitor(self.port)
        try:
            return Counter(str(visitor.ask(host, headers=given).body.get("instance", "none")) for _ in range(requests))
        finally:
            visitor.close()

    def is_stale(self, name: str) -> bool:
        """Whether the API says that a service is only what was last known."""
        return bool(self.services().get(name, {}).get("stale"))

    def is_fresh(self, name: str) -> bool:
        """Whether the API knows a service as it is now."""
        return self.services().get(name, {}).get("stale") is False

    def sources(self, name: str) -> int:
        """From how many sources a service is known."""
        return len(self.services().get(name, {}).get("sources", ()))

    def services(self) -> dict[str, dict[str, Any]]:
        """The services as the API tells them, by name."""
        items = self.serving.client.get("/api/v1/discovered/services")["items"]
        return {item["name"]: item for item in items}

    def problems(self) -> dict[str, str]:
        """What is wrong, by code."""
        items = self.serving.client.get("/api/v1/problems")["items"]
        return {item["problem"]["code"]: item["problem"]["message"] for item in items}

    def metric(self, name: str) -> float:
        """A number of the metrics page, by its name with labels; 0 where it is not there."""
        page = self.serving.client.request("GET", "/metrics").body.decode()
        lines = dict(line.rpartition(" ")[::2] for line in page.splitlines() if line and line[0] != "#")
        return float(lines.get(name, 0))


def everything_arrives_within_limits(mesh: ConsulMesh, server: ConsulAgent, first: str) -> None:
    """Where `s0` to `s39` and `web` with one instance, `first`, are registered and Consul limits what is asked."""
    mesh.wait(lambda: len(mesh.services()) == 42, "all services", timeout=180)
    assert mesh.metric('fairlead_consul_failures_total{reason="RateLimited"}') > 0
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        server.register("web", start_backend(mesh.children, "web", number="2"))
        mesh.wait(lambda: traffic.answered("web-v1-2"), "a change", timeout=180)
        server.check(first, "fail")
        mesh.wait(lambda: traffic.silent_for("web-v1-1") > 0.5, "a critical one to leave", timeout=180)
        server.deregister("s7-9007")
        mesh.wait(lambda: "s7" not in mesh.services(), "a service to be gone", timeout=180)
    assert not traffic.failures
