"""Replicas over one store in Consul's KV, with real Envoys: what one is told all serve, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fairlead.client import Client, RefusedError
from fairlead.demo.traffic import Background
from fairlead.processes import Children
from tests.support.consul_replicas import GATEWAYS, HOST, Scene
from tests.support.consul_server import MANAGEMENT, ConsulServer
from tests.support.programs import Serving, reached, start_serve

pytestmark = pytest.mark.envoy


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


def test_a_token_without_sessions_keeps_a_server_from_leading_and_that_is_told(
    children: Children, consul: Path
) -> None:
    acl = {"acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": MANAGEMENT}}}
    server = ConsulServer(children, consul, config=acl).start()
    admin = Client(server.url, timeout=30, token=MANAGEMENT)

    def made(path: str, body: object) -> Any:
        return admin.request("PUT", path, body=body).json()

    def knows_acls() -> bool:
        try:
            return bool(admin.request("GET", "/v1/acl/token/self").json())
        except RefusedError:
            return False

    children.wait_until(knows_acls, what="it to know its own ACLs", timeout=60)
    rules = 'key_prefix "mesh/" { policy = "write" }'
    which = made("/v1/acl/policy", {"Name": "mesh", "Rules": rules})["ID"]
    token = children.folder / "token"
    token.write_text(made("/v1/acl/token", {"Policies": [{"ID": which}]})["SecretID"])
    place = ("--store", f"consul://127.0.0.1:{server.port}/mesh", "--store-local", str(children.folder / "local.db"))
    serving = start_serve(children, *place, "--store-token-file", str(token))

    def codes() -> list[str]:
        return [item["problem"]["code"] for item in serving.client.get("/api/v1/problems")["items"]]

    children.wait_until(lambda: codes() == ["CannotLead"], what="it to be told", timeout=60)
    made(f"/v1/acl/policy/{which}", {"Name": "mesh", "Rules": f'{rules} session_prefix "" {{ policy = "write" }}'})
    children.wait_until(lambda: not codes(), what="nothing to be wrong", timeout=60)

    def leads() -> bool:
        return b"fairlead_store_leading 1.0" in serving.client.request("GET", "/metrics").body

    children.wait_until(leads, what="it to lead", timeout=60)
