"""Two replicas with one authority in Consul's KV: a rotation that one begins waits for the other's agents and is ended
by the other when the first is killed; with Consul away, and with keys that nobody can read there.
"""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Child, Children
from tests.support.agents import Mesh
from tests.support.consul_server import ConsulServer

pytestmark = pytest.mark.slow

LIFE = 60
NAMES = ("one", "two")


class Pair:
    """A Consul, two replicas with a store in it, and an agent of each."""

    def __init__(self, children: Children, binary: Path) -> None:
        self.children = children
        self.consul = ConsulServer(children, binary).start()
        self.meshes = {name: self._mesh(name) for name in NAMES}
        self.agents: dict[str, Child] = {}
        for name, mesh in self.meshes.items():
            self.agents[name], _ = mesh.agent("web", name=f"agent-{name}")
        for name in NAMES:
            self.until(lambda name=name: self.follows(name), f"agent {name} to follow what to trust")

    def _mesh(self, name: str) -> Mesh:
        store = f"consul://127.0.0.1:{self.consul.port}/mesh/config"
        flags = ["--store", store, "--store-local", str(self.children.folder / f"{name}.db"), "--ca-settle-time", "1"]
        return Mesh(self.children, "", life=LIFE, arguments=flags, name=f"serve-{name}")

    def until(self, condition: Any, what: str, *, timeout: float = 120.0) -> None:
        self.children.wait_until(condition, what=what, timeout=timeout)

    def follows(self, name: str) -> bool:
        return "following what to trust" in self.agents[name].log.read_text()

    def certificates(self, name: str) -> int:
        return self.agents[name].log.read_text().count("certificate of spiffe")

    def status(self, name: str) -> Any:
        return self.meshes[name].serving.client.get("/api/v1/authority")

    def states(self, name: str) -> dict[str, str]:
        return {one["id"]: one["state"] for one in self.status(name)["authorities"]}

    def active(self, name: str) -> str:
        return next(one for one, state in self.states(name).items() if state == "active")

    def step(self, name: str, what: str) -> Any:
        return self.meshes[name].serving.client.request("POST", f"/api/v1/authority/{what}", body={}).json()

    def kill(self, name: str) -> None:
        child = self.meshes[name].serving.child
        child.signal_group(signal.SIGKILL)
        child.process.wait(60)
        self.children.started.remove(child)

    def stored(self) -> dict[str, bytes]:
        found = self.consul.client.request("GET", "/v1/kv/mesh/config/authority", query={"recurse": ""}).body
        return {pair["Key"]: base64.b64decode(pair["Value"]) for pair in json.loads(found)}


@pytest.fixture
def pair(children: Children, consul: Path) -> Pair:
    return Pair(children, consul)


def test_a_rotation_waits_for_the_agents_of_all_replicas_and_is_ended_by_the_one_that_lives(pair: Pair) -> None:
    old = pair.active("one")
    assert pair.states("two") == {old: "active"}
    pair.agents["two"].signal_group(signal.SIGSTOP)
    new = pair.step("one", "prepare")["id"]
    pair.step("one", f"{new}/activate")
    pair.until(lambda: pair.states("two").get(new) == "prepared", "the other replica to hear of it")
    waits = "agent spiffe://cluster.local/ns/default/sa/web"

    def waiting(name: str) -> bool:
        gate = pair.status(name)["gate"]
        return not gate["open"] and any(one.startswith(waits) for one in gate["waiting"])

    pair.until(lambda: waiting("one") and waiting("two"), "both to wait for the other's agent")
    pair.kill("one")
    assert pair.states("two") == {old: "active", new: "prepared"}
    pair.agents["two"].signal_group(signal.SIGCONT)
    pair.until(lambda: pair.active("two") == new, "the replica that lives to end the rotation")
    pair.meshes["one"].serve()
    assert pair.states("one") == pair.states("two") == {old: "old", new: "active"}
    had = {name: pair.certificates(name) for name in NAMES}
    for name in NAMES:
        pair.until(lambda name=name: pair.certificates(name) > had[name], f"agent {name} to renew under the new root")
    stored = pair.stored()
    assert len([key for key in stored if "/replicas/" in key]) == 3, "of each replica, and of the one that was killed"
    assert b"BEGIN CERTIFICATE" in stored["mesh/config/authority/book"]
    assert b"PRIVATE KEY" not in b"".join(stored.values())


def test_while_consul_is_away_certificates_are_renewed_also_by_a_replica_that_was_started_anew(pair: Pair) -> None:
    before = pair.active("one")
    assert pair.consul.child is not None
    pair.consul.child.stop()
    pair.children.started.remove(pair.consul.child)
    pair.kill("one")
    pair.meshes["one"].serve()
    log = pair.meshes["one"].serving.child.log
    assert "what was kept there last is used" in log.read_text()
    had = {name: pair.certificates(name) for name in NAMES}
    for name in NAMES:
        pair.until(lambda name=name: pair.certificates(name) > had[name], f"agent {name} to renew")
    pair.consul.start()
    new = pair.step("two", "prepare")["id"]
    pair.until(lambda: pair.states("one").get(new) == "prepared", "the replica to hear of what is done again")
    assert pair.active("one") == before
