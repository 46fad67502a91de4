"""A Consul, replicas that keep their store in its KV, and a real Envoy at each of them."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.client import RefusedError
from fairlead.processes import Children, free_port
from tests.support.consul_server import ConsulServer
from tests.support.programs import RunningEnvoy, Serving, reached, start_backend, start_envoy, start_serve

GATEWAYS = ("one", "two")
HOST = "shop.example.com"


class Scene:
    """A Consul, two replicas, and an Envoy of a gateway of its own at each."""

    def __init__(self, children: Children, binary: Path, *settings: str) -> None:
        self.children = children
        self._settings = settings
        self.consul = ConsulServer(children, binary).start()
        self.ports = {name: free_port() for name in GATEWAYS}
        self.backend = start_backend(children, "shop")
        self.replicas: dict[str, Serving] = {}
        self.envoys: dict[str, RunningEnvoy] = {}
        for name in GATEWAYS:
            self.start(name)
        write(self.replicas["one"], "Service", "shop", self._service())
        for name, port in self.ports.items():
            listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
            spec = {"gatewayClassName": "fairlead", "listeners": listeners}
            write(self.replicas["one"], "Gateway", name, spec)
        self.route("one", "shop", HOST)
        for name in GATEWAYS:
            self.envoys[name] = start_envoy(children, "gateway", name, xds=self.replicas[name].xds)
        self.served(HOST)

    def _service(self) -> dict[str, Any]:
        endpoints = [{"address": "127.0.0.1", "ports": {"http": self.backend}}]
        return {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}

    def start(self, name: str, *, ready: bool = True) -> Serving:
        """A replica, also again, at its own addresses and with its own local store."""
        before = self.replicas.get(name)
        store = f"consul://127.0.0.1:{self.consul.port}/mesh/config"
        local = self.children.folder / f"{name}.db"
        ports = {"xds": before.xds, "api": before.api} if before is not None else {"xds": free_port()}
        arguments = ("--store", store, "--store-local", str(local), *self._settings)
        self.replicas[name] = start_serve(self.children, *arguments, name=f"serve-{name}", ready=ready, **ports)
        return self.replicas[name]

    def kill(self, name: str) -> None:
        """A replica dies."""
        child = self.replicas[name].child
        child.signal_group(signal.SIGKILL)
        child.process.wait(60)
        self.children.started.remove(child)

    def route(self, replica: str, name: str, host: str) -> None:
        """Tell one replica of a route of both gateways."""
        rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
        parents = [{"name": gateway} for gateway in GATEWAYS]
        write(self.replicas[replica], "HTTPRoute", name, {"parentRefs": parents, "hostnames": [host], "rules": rules})

    def served(self, host: str) -> None:
        """Wait until both gateways answer for a host."""
        for name, port in self.ports.items():
            self.until(lambda port=port: reached(port, host), f"gateway {name} to answer for {host}")

    def until(self, condition: Callable[[], bool], what: str, *, timeout: float = 120.0) -> None:
        self.children.wait_until(condition, what=what, timeout=timeout)

    def leader(self) -> str:
        """The replica that leads; empty while nobody does."""
        try:
            lock = json.loads(self.consul.client.request("GET", "/v1/kv/mesh/config/leader").body)[0]
        except RefusedError:
            return ""
        if not lock.get("Session"):
            return ""
        number = int(base64.b64decode(lock["Value"]).decode().rpartition(":")[2])
        return next((name for name, at in self.replicas.items() if at.child.process.pid == number), "")

    def metrics(self, name: str) -> str:
        return self.replicas[name].client.request("GET", "/metrics").body.decode()

    def problems(self, name: str) -> list[str]:
        """What a replica says is wrong with the store."""
        items = self.replicas[name].client.get("/api/v1/problems")["items"]
        return [item["problem"]["message"] for item in items if item["source"] == "store"]


def write(serving: Serving, kind: str, name: str, spec: dict[str, Any]) -> None:
    """Write an object to a replica."""
    group = "fairlead.dev/v1alpha1" if kind in ("Service", "Rollout") else "gateway.networking.k8s.io/v1"
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
    serving.client.request("PUT", f"/api/v1/namespaces/default/{kind.lower()}s/{name}", body=body)
