"""What an Envoy refuses for the sake of an EnvoyPatch: which patch goes, when, and when it is tried again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fairlead.rejections import TRIAL_SECONDS, Rejections
from mesh.conditions import Condition
from mesh.model import AUDIENCES, DECLARED, MESH, Audience, Connected, DeclaredKey, MeshSettings, ObjectKey
from mesh.quarantine import QUARANTINE
from mesh.statuses import STATUSES
from mesh.tables import Change, Engine
from tests.support.model import declared, objects
from tests.support.routing import document, gateway, route, service
from xds.protocol.contents import Entry
from xds.protocol.rejections import NackReport
from xds.resources import ResourceKey
from xds.schema.type_urls import TYPE_CLUSTER
from xds.translate.tables import RESOURCE_TABLES, TABLES, VIEWS

EDGE = Audience("gateway", "default", "edge")
ONE, TWO = "gateway~default~edge~1", "gateway~default~edge~2"
CLUSTER = "default/s:80"
KEY = ResourceKey(TYPE_CLUSTER, CLUSTER)
CONFIG = gateway(80) + service("s", 8080) + route("\n  - backendRefs: [{name: s, port: 80}]")


class World:
    """An engine with a gateway, the rejections, and the store's documents."""

    def __init__(self, documents: Mapping[str, bytes] | None = None) -> None:
        self.engine = Engine(TABLES)
        self.documents = dict(documents or {})
        self.doubted: Mapping[tuple[Audience, str], Mapping[str, str]] = {}
        self.acked: dict[str, Entry] = {}
        self.now = 0.0
        self.todo: list[Change] = []
        self.rejections = Rejections(
            self.engine,
            self,
            tables=RESOURCE_TABLES,
            views=VIEWS,
            submit=self.todo.extend,
            save=self._save,
            clock=lambda: self.now,
        )
        self.rejections.load(self.documents)
        self.commit(
            Change(MESH, "", MeshSettings(envoy_patches=True)), Change(AUDIENCES, EDGE, Connected()), *_changes(CONFIG)
        )

    def _save(self, changes: Mapping[str, bytes | None]) -> None:
        for name, content in changes.items():
            if content is None:
                self.documents.pop(name, None)
            else:
                self.documents[name] = content

    def acknowledged(self, _audience: Audience, _type_url: str, _name: str) -> Mapping[str, Entry]:
        return dict(self.acked)

    def node_ids(self) -> set[str]:
        return {ONE, TWO}

    def commit(self, *changes: Change) -> None:
        todo = [*self.todo, *changes]
        while todo:
            self.todo.clear()
            self.rejections.committed(self.engine.commit(todo))
            todo = list(self.todo)

    def patch(self, name: str, timeout: str) -> None:
        self.commit(*_changes(patch(name, timeout)))

    @property
    def version(self) -> str:
        row = self.engine.get(RESOURCE_TABLES[TYPE_CLUSTER][0], KEY)
        assert row is not None
        return row.version

    def ack(self, node: str) -> None:
        self.acked[node] = Entry(CLUSTER, self.version, b"content")

    def nack(self, node: str, detail: str = "no good") -> None:
        report = NackReport(EDGE, node, TYPE_CLUSTER, {CLUSTER: self.version}, detail)
        self.rejections.refused(report, building=False)
        self.commit()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.rejections.sweep()
        self.commit()

    def programmed(self, name: str) -> Condition:
        status = self.engine.get(STATUSES, ObjectKey("EnvoyPatch", "default", name))
        assert status is not None
        return next(one for one in status.conditions if one.type == "Programmed")

    @property
    def out(self) -> list[str]:
        return sorted(key.name for key in self.engine.rows(QUARANTINE))


def patch(name: str, timeout: str) -> str:
    operation = {"op": "add", "path": "/connect_timeout", "value": timeout}
    return document("EnvoyPatch", name, {"targetRefs": [{"kind": "Service", "name": "s"}], "patch": [operation]})


def _changes(text: str) -> list[Change]:
    return [declared(each) for each in objects(text.rstrip().removesuffix("---"))]


def test_where_nothing_else_could_stand_the_patch_goes_at_once() -> None:
    world = World()
    before = world.version
    world.patch("p", "1s")
    assert world.version != before
    world.nack(ONE)
    assert (world.out, world.version) == (["p"], before)
    assert world.programmed("p").reason == "Rejected"
    assert world.programmed("p").message.startswith(f"{ONE} refused CDS {CLUSTER}: no good.")


def test_where_a_proxy_holds_another_version_there_is_a_trial_first() -> None:
    world = World()
    world.ack(ONE)
    before = world.version
    world.patch("p", "1s")
    world.nack(ONE)
    assert world.out == []
    world.wait(TRIAL_SECONDS)
    assert (world.out, world.version) == (["p"], before)


def test_what_another_proxy_has_taken_is_no_fault_of_the_patch() -> None:
    world = World()
    world.patch("p", "1s")
    world.ack(TWO)
    world.nack(ONE)
    world.wait(TRIAL_SECONDS)
    assert world.out == []


def test_trouble_of_the_machine_is_no_fault_of_the_patch() -> None:
    world = World()
    world.patch("p", "1s")
    world.nack(ONE, "cannot bind '[::]:80': Address already in use")
    world.wait(TRIAL_SECONDS)
    assert world.out == []


def test_only_the_patch_that_came_with_the_refused_version_goes() -> None:
    world = World()
    world.patch("a", "1s")
    world.ack(ONE)
    good = world.version
    world.patch("b", "2s")
    world.nack(ONE)
    world.wait(TRIAL_SECONDS)
    assert (world.out, world.version) == (["b"], good)
    assert world.programmed("a").status


def test_a_changed_or_removed_patch_is_tried_again_and_the_same_one_is_not() -> None:
    world = World()
    world.patch("p", "1s")
    refused = world.version
    world.nack(ONE)
    world.patch("p", "1s")
    assert world.out == ["p"]
    world.patch("p", "2s")
    assert (world.out, world.documents) == ([], {})
    assert world.programmed("p").status
    world.nack(ONE)
    assert world.out == ["p"]
    world.commit(Change(DECLARED, DeclaredKey("EnvoyPatch", "default", "p", "files"), None))
    assert world.out == []
    world.patch("p", "1s")
    assert world.version == refused


def test_a_refusal_is_kept_over_a_restart() -> None:
    world = World()
    before = world.version
    world.patch("p", "1s")
    world.nack(ONE)
    again = World(world.documents)
    again.patch("p", "1s")
    assert (again.out, again.version) == (["p"], before)
    again.patch("p", "2s")
    assert (again.out, again.version == before) == ([], False)


def test_a_document_that_cannot_be_read_is_removed() -> None:
    world = World()
    documents: dict[str, Any] = {
        "quarantine:EnvoyPatch/default/p": b"{",
        "quarantine:x": json.dumps({"object": 1}).encode(),
    }
    assert world.rejections.load(documents) == sorted(documents)
