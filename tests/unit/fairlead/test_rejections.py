from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fairlead.rejections import ABSENT_SECONDS, TRIAL_SECONDS, Rejections, refusal_words
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
from xds.protocol.contents import Entry
from xds.protocol.rejections import NackReport
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema.type_urls import TYPE_CLUSTER

EDGE = Audience("gateway", "default", "edge")
OTHER = Audience("gateway", "default", "other")
ONE, TWO = "gateway~default~edge~1", "gateway~default~edge~2"
BUSY = "cannot bind '[::]:80': Address already in use"


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


def test_the_log_names_the_type_of_what_was_refused_and_the_resources_where_they_are_known() -> None:
    assert refusal_words(NackReport(EDGE, ONE, TYPE_CLUSTER, {}, "ADS must …")) == f"{ONE} refused CDS: ADS must …"
    named = NackReport(EDGE, ONE, TYPE_CLUSTER, {"b": "1", "a": "1"}, BUSY)
    assert refusal_words(named) == f"{ONE} refused CDS a, b: {BUSY}"


def declared(name: str, content: str | None) -> Change:
    key = DeclaredKey("Service", "default", name, "store")
    if content is None:
        return Change(DECLARED, key, None)
    metadata = ObjectMeta(name=name, namespace="default", labels={"content": content})
    return Change(DECLARED, key, Declared(Namespace(api_version="v1", kind="Namespace", metadata=metadata)))


class Fleet:
    """The proxies of EDGE that are connected, and what each has acknowledged."""

    def __init__(self) -> None:
        self.doubted: Mapping[tuple[Audience, str], Mapping[str, str]] = {}
        self.acked: dict[str, dict[str, Entry]] = {ONE: {}}

    def acknowledged(self, audience: Audience, type_url: str, name: str) -> Mapping[str, Entry]:
        if audience != EDGE or type_url != TYPE_CLUSTER:
            return {}
        return {node: entries[name] for node, entries in self.acked.items() if name in entries}

    def node_ids(self) -> set[str]:
        return set(self.acked)

    def have(self, node: str, name: str, content: str, **fields: Any) -> None:
        """A proxy acknowledges a version."""
        version = fields.pop("version", f"v-{content}")
        self.acked.setdefault(node, {})[name] = Entry(name, version, content.encode(), **fields)


class World:
    """An engine, the rejections under test, and the store's documents."""

    def __init__(self, documents: Mapping[str, bytes] | None = None, *first: Change) -> None:
        self.engine = Engine([*INPUTS, CLUSTERS, VIEWS])
        self.proxies = Fleet()
        self.documents: dict[str, bytes] = dict(documents or {})
        self.todo: list[Change] = []
        self.now = 1_000.0
        self.rejections = Rejections(
            self.engine,
            self.proxies,
            tables={TYPE_CLUSTER: (CLUSTERS,)},
            views=VIEWS,
            submit=self.todo.extend,
            save=self._save,
            clock=lambda: self.now,
        )
        self.superfluous = self.rejections.load(self.documents)
        self.commit(*(Change(AUDIENCES, audience, Connected()) for audience in (EDGE, OTHER)), *first)

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

    def nack(
        self,
        name: str,
        version: str,
        audience: Audience = EDGE,
        *,
        node: str = ONE,
        detail: str = "no good",
        building: bool = False,
    ) -> None:
        self.rejections.refused(NackReport(audience, node, TYPE_CLUSTER, {name: version}, detail), building=building)
        if not building:
            self.commit()

    def ack(self, node: str, name: str, content: str) -> None:
        """A proxy takes a version; the hub tells if it is in doubt."""
        self.proxies.have(node, name, content)
        version = f"v-{content}"
        if self.proxies.doubted.get((EDGE, TYPE_CLUSTER), {}).get(name) == version:
            self.rejections.took(EDGE, TYPE_CLUSTER, {name: version})
            self.commit()

    def wait(self, seconds: float) -> None:
        """Let time pass, second by second."""
        end = self.now + seconds
        while self.now < end:
            self.now += min(1.0, end - self.now)
            self.rejections.sweep()
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
    made.proxies.have(ONE, "a", "one", needs=("c",))
    made.commit(declared("a", "two"))
    return made


def test_what_the_proxy_had_acknowledged_stands(world: World) -> None:
    world.nack("a", "v-two")
    key, row = world.only()
    assert key == RejectionKey(EDGE, TYPE_CLUSTER, "a", "v-two")
    assert (row.last_good, row.last_good_version, row.detail) == (b"one", "v-one", "no good")
    assert row.last_good_needs == ("c",)


def test_what_was_merely_present_before_and_acknowledged_by_nobody_does_not_stand(world: World) -> None:
    world.commit(declared("a", "three"))
    world.nack("a", "v-three")
    assert world.only()[1].last_good_version == "v-one"


def test_a_new_proxy_that_refuses_gets_what_another_has(world: World) -> None:
    world.nack("a", "v-two", node=TWO)
    assert world.only()[1].last_good == b"one"


def test_what_was_never_good_is_withheld(world: World) -> None:
    world.nack("b", "v-one")
    world.wait(TRIAL_SECONDS)
    row = world.only()[1]
    assert (row.last_good, row.everywhere) == (None, True)


def test_a_version_that_another_proxy_has_taken_is_good(world: World) -> None:
    world.ack(TWO, "a", "two")
    world.nack("a", "v-two")
    assert world.rows == {}
    assert world.documents == {}


def test_for_a_while_other_proxies_are_given_what_one_refused(world: World) -> None:
    world.nack("a", "v-two")
    world.wait(TRIAL_SECONDS - 1)
    assert not world.only()[1].everywhere
    world.wait(1)
    assert world.only()[1].everywhere


def test_a_proxy_that_takes_it_after_all_ends_the_rejection_in_the_trial_or_later(world: World) -> None:
    for seconds in (0, TRIAL_SECONDS + 1):
        world.nack("a", "v-two")
        world.wait(seconds)
        assert world.rows
        world.ack(TWO, "a", "two")
        assert world.rows == {}
        assert world.documents == {}
        assert world.proxies.doubted == {}
        del world.proxies.acked[TWO]


def test_what_is_the_matter_with_one_proxy_never_binds_the_others_and_is_told(world: World) -> None:
    world.nack("a", "v-two", detail=BUSY)
    world.wait(10 * TRIAL_SECONDS)
    row = world.only()[1]
    assert (row.detail, row.everywhere) == (BUSY, False)
    assert row.objects == (ObjectKey("Service", "default", "a"),)


def test_what_proxies_hold_and_the_server_no_longer_has_is_not_taken_from_them(world: World) -> None:
    world.proxies.acked = {ONE: {"a": Entry("a", "v-zero")}}
    world.nack("a", "v-two")
    world.wait(10 * TRIAL_SECONDS)
    assert not world.only()[1].everywhere


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
    world.nack("a", "v-two", node=TWO)
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
    assert world.proxies.doubted == {}


def test_after_two_bad_versions_the_good_one_still_stands(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(declared("a", "three"))
    world.nack("a", "v-three")
    assert world.only()[1].last_good_version == "v-one"


def test_a_last_good_version_that_all_refuse_now_is_no_good(world: World) -> None:
    world.nack("a", "v-two")
    world.wait(TRIAL_SECONDS)
    world.nack("a", "v-one", node=TWO)
    assert world.only()[1].last_good is not None, "the other proxy still has it"
    world.proxies.acked = {TWO: {}}
    world.nack("a", "v-one", node=TWO, detail=BUSY)
    assert world.only()[1].last_good is not None, "that proxy's own trouble"
    world.nack("a", "v-one", node=TWO)
    assert world.only()[1].last_good is None


def test_a_resource_that_goes_takes_its_rejections_along(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(declared("a", None))
    assert world.rows == {}


def test_a_rejection_whose_proxies_are_gone_for_long_is_lifted(world: World) -> None:
    world.nack("a", "v-two")
    world.nack("a", "v-two", node=TWO)
    world.proxies.acked = {TWO: {}}
    world.wait(ABSENT_SECONDS + 10)
    assert world.rows, "one of them is still there"
    world.proxies.acked = {"gateway~default~edge~3": {}}
    world.wait(ABSENT_SECONDS - 10)
    assert world.rows
    world.wait(11)
    assert world.rows == {}
    assert world.documents == {}


def test_a_proxy_that_comes_back_in_time_keeps_the_last_good_version(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(Change(AUDIENCES, EDGE, None))
    world.proxies.acked = {}
    world.wait(ABSENT_SECONDS - 10)
    world.commit(Change(AUDIENCES, EDGE, Connected()))
    world.proxies.acked = {ONE: {}}
    world.wait(20)
    assert world.only()[1].last_good_version == "v-one"


def test_rejections_survive_a_restart(world: World) -> None:
    world.nack("a", "v-two")
    world.wait(TRIAL_SECONDS)
    again = World(world.documents, declared("a", "two"), declared("b", "one"))
    assert again.rows == world.rows
    assert again.proxies.doubted == {(EDGE, TYPE_CLUSTER): {"a": "v-two"}}


def test_a_trial_that_a_restart_interrupts_begins_anew_and_knows_what_was_good(world: World) -> None:
    world.nack("a", "v-two")
    again = World(world.documents, declared("a", "two"), declared("b", "one"))
    assert not again.only()[1].everywhere
    again.wait(TRIAL_SECONDS)
    assert (again.only()[1].last_good, again.only()[1].everywhere) == (b"one", True)


def test_a_restart_with_other_content_forgets_them(world: World) -> None:
    world.nack("a", "v-two")
    again = World(world.documents, declared("a", "three"))
    assert again.rows == {}
    assert again.documents == {}


def test_a_proxy_that_comes_back_to_other_content_finds_them_gone(world: World) -> None:
    world.nack("a", "v-two")
    world.commit(Change(AUDIENCES, EDGE, None))
    world.commit(declared("a", "three"))
    assert world.rows, "whether it concerns that audience is not known while it is away"
    world.commit(Change(AUDIENCES, EDGE, Connected()))
    assert world.rows == {}


def test_documents_that_cannot_be_read_are_named(world: World) -> None:
    assert World({"x": b"garbage", "y": b"{}"}).superfluous == ["x", "y"]


def test_a_nack_during_a_large_build_waits_for_its_end(world: World) -> None:
    world.nack("a", "v-two", building=True)
    assert world.rows == {}
    world.commit(declared("c", "one"))
    world.commit()
    assert world.only()[0].version == "v-two"


def test_a_rejection_that_an_older_version_kept_is_kept_under_its_present_name() -> None:
    before = World(None, declared("a", "1"))
    before.nack("a", "v-1")
    [(name, content)] = before.documents.items()
    older = name.replace(',"",false,"",[]]', "]")
    world = World({older: content.replace(b',"",false,"",[]]', b"]")}, declared("a", "1"))
    assert older != name
    assert world.superfluous == [older]
    assert world.documents[name] == content
    assert list(world.engine.rows(REJECTIONS)) == list(before.engine.rows(REJECTIONS))
