"""Replicas over one store in Consul's KV, with real Envoys: what one is told all serve, whoever dies meanwhile."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.client import RefusedError
from fairlead.demo.traffic import Background
from fairlead.processes import Children, free_port
from tests.support.consul_server import ConsulServer
from tests.support.programs import RunningEnvoy, Serving, reached, start_backend, start_envoy, start_serve

pytestmark = pytest.mark.envoy

GATEWAYS = ("one", "two")
HOST = "shop.example.com"


class Scene:
    """A Consul, two replicas, and an Envoy of a gateway of its own at each."""

    def __init__(self, children: Children, binary: Path) -> None:
        self.children = children
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
        arguments = ("--store", store, "--store-local", str(local))
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
    group = "fairlead.dev/v1alpha1" if kind == "Service" else "gateway.networking.k8s.io/v1"
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
    serving.client.request("PUT", f"/api/v1/namespaces/default/{kind.lower()}s/{name}", body=body)


def objects(serving: Serving) -> dict[str, str]:
    """The routes and gateways, each with its revision."""
    kinds = ("httproutes", "gateways", "services")
    return {
        f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for kind in kinds
        for item in serving.client.get(f"/api/v1/namespaces/default/{kind}")["items"]
    }


def kept(scene: Scene, name: str) -> int:
    """How many objects of the store a replica has kept locally."""
    with contextlib.closing(sqlite3.connect(scene.children.folder / f"{name}.db")) as local:
        question = "SELECT count(*) FROM documents WHERE collection = 'store' AND name LIKE 'object/%'"
        return int(local.execute(question).fetchone()[0])


@pytest.fixture
def scene(children: Children, consul: Path) -> Scene:
    return Scene(children, consul)


def test_what_is_written_to_one_replica_is_served_by_the_other(scene: Scene) -> None:
    scene.route("two", "late", "late.example.com")
    scene.served("late.example.com")
    assert objects(scene.replicas["one"]) == objects(scene.replicas["two"])
    scene.replicas["one"].client.request("DELETE", "/api/v1/namespaces/default/httproutes/late")
    for port in scene.ports.values():
        scene.until(lambda port=port: not reached(port, "late.example.com"), "the route to be gone")
    scene.served(HOST)


def test_when_the_leader_is_killed_the_other_leads_and_no_request_fails(scene: Scene) -> None:
    scene.until(lambda: scene.leader() != "", "a leader")
    dead = scene.leader()
    (alive,) = set(GATEWAYS) - {dead}
    with Background(scene.ports[dead], HOST) as visitors:
        scene.kill(dead)
        scene.route(alive, "late", "late.example.com")
        scene.until(lambda: reached(scene.ports[alive], "late.example.com"), "the write to be served meanwhile")
        scene.until(lambda: scene.leader() == alive, "the other to lead")
        scene.until(lambda: "fairlead_store_leading 1.0" in scene.metrics(alive), "it to say so")
        scene.start(dead)
        scene.served("late.example.com")
    assert visitors.failures == []
    assert objects(scene.replicas[dead]) == objects(scene.replicas[alive])


def test_consul_killed_and_back_loses_nothing_and_refuses_writes_meanwhile(scene: Scene) -> None:
    before = objects(scene.replicas["one"])
    with Background(scene.ports["one"], HOST) as visitors:
        scene.consul.kill()
        for name in GATEWAYS:
            with pytest.raises(RefusedError, match=r"Consul at .* does not answer") as refused:
                scene.route(name, "late", "late.example.com")
            assert refused.value.status == 503
            scene.until(lambda name=name: scene.problems(name) != [], f"{name} to tell of it")
        assert objects(scene.replicas["one"]) == before, "what was known can be read"
        scene.until(lambda: kept(scene, "two") >= 4, "it to have kept what it knows")
        # A replica that starts now knows what it knew, and says that it is old.
        scene.kill("two")
        again = scene.start("two")
        assert objects(again) == before
        scene.until(lambda: "does not answer" in " ".join(scene.problems("two")), "it to tell of it")
        scene.consul.start()
        for name in GATEWAYS:
            scene.until(lambda name=name: scene.problems(name) == [], f"{name} to have it back")
        assert objects(scene.replicas["one"]) == objects(scene.replicas["two"]) == before
        scene.route("two", "late", "late.example.com")
        scene.served("late.example.com")
        scene.route("one", "later", "later.example.com")
        scene.served("later.example.com")
    assert visitors.failures == []


def test_a_first_start_without_consul_waits_for_it_and_says_so(children: Children, consul: Path) -> None:
    server = ConsulServer(children, consul)
    arguments = ("--store", f"consul://127.0.0.1:{server.port}/mesh", "--store-local", str(children.folder / "l.db"))
    serving = start_serve(children, *arguments, ready=False)
    children.wait_until(lambda: "does not answer" in serving.child.log.read_text(), what="the log to tell of it")
    with pytest.raises(RefusedError):
        serving.client.get("/readyz")
    server.start()

    def ready() -> bool:
        try:
            serving.client.get("/readyz")
        except RefusedError:
            return False
        return True

    children.wait_until(ready, what="it to be ready")
