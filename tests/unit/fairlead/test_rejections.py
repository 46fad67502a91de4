from __future__ import annotations

from collections.abc import Mapping

import pytest

from fairlead.rejections import Rejections
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.namespace import Namespace
from mesh.model import (
    AUDIENCES,
    DECLARED,
    INPUTS,
    REJECTIONS,
    Audience,
    Connected,
    Declared,
    DeclaredKey,
    ObjectKey,
    Rejection,
    RejectionKey,
)
from mesh.tables import Change, Engine, Look, derived, each
from xds.protocol.rejections import NackReport
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema.type_urls import TYPE_CLUSTER

EDGE = Audience("gateway", "default", "edge")
OTHER = Audience("gateway", "default", "other")


@derived("clusters", each(DECLARED, lambda key, _: (ResourceKey(TYPE_CLUSTER, key.name),)))
def CLUSTERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """A cluster for each object; its label `content` is the content, and so the version."""
    row = look(DECLARED, DeclaredKey("Service", "default", key.name, "store"))
    if row is None:
        return None
    content = row.object.metadata.labels["content"]
    return Resource(TYPE_CLUSTER, key.name, f"v-{content}", content.encode())


CLUSTER_KEYS = CLUSTERS.index("all", lambda _key, _row: ("all",))


@derived("views", each(AUDIENCES, lambda key, _: (ViewKey(key, TYPE_CLUSTER),)))
def VIEWS(_: ViewKey, look: Look) -> View | None:  # noqa: N802
    """Everybody sees everything."""
    return View(look.keys(CLUSTER_KEYS, "all"))


def declared(name: str, content: str | None) -> Change:
    key = DeclaredKey("Service", "default", name, "store")
    if content is None:
        return Change(DECLARED, key, None)
    metadata = ObjectMeta(name=name, namespace="default", labels={"content": content})
    return Change(DECLARED, key, Declared(Namespace(api_version="v1", kind="Namespace", metadata=metadata)))


class World:
    """An engine, the rejections under test, and the store's documents."""

    def __init__(self, documents: Mapping[str, bytes] | None = None) -> None:
        self.engine = Engine([*INPUTS, CLUSTERS, VIEWS])
        self.documents: dict[str, bytes] = dict(documents or {})
        self.todo: list[Change] = []
        self.rejections = Rejections(
            self.engine,
            tables={TYPE_CLUSTER: (CLUSTERS,)},
            views=VIEWS,
            submit=self.todo.extend,
            save=self._save,
        )
        self.unreadable = self.rejections.load(self.documents)
        self.commit(*(Change(AUDIENCES, audience, Connected()) for audience in (EDGE, OTHER)))

    def _save(self, changes: Mapping[str, bytes | None]) -> None:
        for name, content in changes.items():
            if content is None:
                self.documents.pop(name, None)
            else:
                self.documents[name] = content

    def commit(self, *changes: Change) -> None:
        """Commit changes, and what the rejections make of each commit, until there is nothing more."""
        todo = [*self.todo, *changes]
        while todo:
            self.todo.clear()
            self.rejections.committed(self.engine.commit(todo))
            todo = list(self.todo)

    def nack(self, name: str, version: str, audience: Audience = EDGE, *, building: bool = False) -> None:
        report = NackReport(audience, "gateway~default~edge~1", TYPE_CLUSTER, {name: version}, "no good")
        self.rejections.refused(report, building=building)
        if not building:
            self.commit()

    @property
    def rows(self) -> dict[RejectionKey, Rejection]:
        return dict(self.engine.rows(REJECTIONS))

    def only(self) -> tuple[RejectionKey, Rejection]:
        [(key, row)] = self.rows.items()
        return key, row


@pytest.fixture
def world() -> World:
    made = World()
    made.commit(declared("a", "one"), declared("b", "one"))
    made.commit(declared("a", "two"))
    return made


def test_the_version_before_the_rejected_one_stands(world: World) -> None:
    world.nack("a", "v-two")
    key, row = world.only()
    assert key == RejectionKey(EDGE, TYPE_CLUSTER, "a", "v-two")
    assert (row.last_good, row.last_good_version, row.detail) == (b"one", "v-one", "no good")


def test_what_was_never_good_is_withheld(world: World) -> None:
    world.nack("b", "v-one")
    assert world.only()[1].last_good is None


def test_the_object_that_changed_is_to_blame(world: World) -> None:
    world.nack("a", "v-two")
    assert world.only()[1].objects == (ObjectKey("Service", "default", "a"),)


def test_a_rejection_of_a_version_that_is_not_present_is_nothing_to_keep(world: World) -> None:
    world.nack("a", "v-one")
    world.nack("gone", "v-one")
    assert world.rows == {}


def test_two_proxies_that_refuse_the_same_make_one_row(world: World) -> None:
    world.nack("a", "v-two")
    before = dict(world.documents)
    world.nack("a", "v-two")
    assert len(world.rows) == 1
    assert world.documents == before


def test_audiences_are_judged_apart(world: World) -> None:
    world.nack("a", "v-two", EDGE)
    world.nack("a", "v-two", OTHER)
    assert {key.audience for key in world.rows} == {EDGE, OTHER}


def test_new_content_gets_its_own_trial(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(declared("a", "three"))
    assert world.rows == {}
    assert world.documents == {}


def test_after_two_bad_versions_the_good_one_still_stands(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(declared("a", "three"))
    world.nack("a", "v-three")
    assert world.only()[1].last_good_version == "v-one"


def test_a_last_good_version_that_is_refused_too_is_no_good(world: World) -> None:
    world.nack("a", "v-two")
    world.nack("a", "v-one")
    assert world.only()[1].last_good is None


def test_a_resource_that_goes_takes_its_rejections_along(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(declared("a", None))
    assert world.rows == {}


def test_an_audience_that_goes_takes_its_rejections_along(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(Change(AUDIENCES, EDGE, None))
    assert world.rows == {}


def test_rejections_survive_a_restart(world: World) -> None:
    world.nack("a", "v-two")
    again = World(world.documents)
    again.commit(declared("a", "two"), declared("b", "one"))
    assert again.rows == world.rows


def test_a_restart_with_other_content_forgets_them(world: World) -> None:
    world.nack("a", "v-two")
    again = World(world.documents)
    again.commit(declared("a", "three"))
    assert again.rows == {}
    assert again.documents == {}


def test_documents_that_cannot_be_read_are_named(world: World) -> None:
    assert World({"x": b"garbage", "y": b"{}"}).unreadable == ["x", "y"]


def test_a_nack_during_a_large_build_waits_for_its_end(world: World) -> None:
    world.nack("a", "v-two", building=True)
    assert world.rows == {}
    world.commit(declared("c", "one"))
    world.commit()
    assert world.only()[0].version == "v-two"
