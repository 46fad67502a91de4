from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fairlead.acknowledged import Acknowledgements
from mesh.model import ACKNOWLEDGED, AUDIENCES, AcknowledgedKey, Audience, Connected
from mesh.tables import Change
from tests.support.model import Model
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_LISTENER
from xds.server.states import Progress

EDGE = Audience("gateway", "default", "edge")
ZONE = EDGE._replace(zone="b")
ONE = "{name: one, port: 80, protocol: HTTP}"
TWO = "{name: two, port: 81, protocol: HTTP}"
SET = """
kind: ListenerSet
metadata: {name: more, generation: 5}
spec: {parentRef: {name: edge}, listeners: [{name: three, port: 82, protocol: HTTP}]}
"""
ALL, BEHIND, NONE = Progress(True, False), Progress(True, True), Progress(False, False)


class Fleet:
    """Proxies, and how far those of each audience have come."""

    def __init__(self) -> None:
        self.on_heard: Callable[[Audience, str], None] = lambda _audience, _type: None
        self.states: dict[Audience, Progress] = {}
        self.asked = 0

    def audiences(self) -> list[Audience]:
        return sorted(self.states)

    def progress(self, audience: Audience, type_url: str) -> Progress:
        assert type_url == TYPE_LISTENER
        self.asked += 1
        return self.states[audience]


class Documents:
    """A store that keeps documents and nothing else."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def documents(self, _collection: str) -> Mapping[str, bytes]:
        return self.kept

    async def write_documents(self, _collection: str, changes: Mapping[str, bytes | None]) -> None:
        for name, content in changes.items():
            self.kept.pop(name, None)
            if content is not None:
                self.kept[name] = content


class World:
    """A model whose commits are told, and which takes what comes of it."""

    def __init__(self, store: Any = None) -> None:
        self.model, self.fleet, self.building = Model(), Fleet(), False
        self.writes: list[Change] = []
        self.told = Acknowledgements(
            self.model.engine,
            self.fleet,
            store or Documents(),
            submit=self.submit,
            building=lambda: self.building,
        )

    def submit(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        self.writes += changes
        self.model.engine.commit(changes)

    def commit(self, *changes: Change) -> None:
        self.told.committed(self.model.engine.commit(list(changes)))

    def apply(self, text: str) -> None:
        self.told.committed(self.model.apply(text))

    def gateway(self, generation: int, listeners: str = ONE) -> None:
        spec = f"gatewayClassName: fairlead, allowedListeners: {{namespaces: {{from: All}}}}, listeners: [{listeners}]"
        self.apply(f"kind: Gateway\nmetadata: {{name: edge, generation: {generation}}}\nspec: {{{spec}}}")

    async def proxies(self, progress: Progress | None, audience: Audience = EDGE) -> None:
        """Proxies of an audience come, say something of their listeners, or (None) go for good."""
        if progress is None:
            self.fleet.states.pop(audience, None)
            self.commit(Change(AUDIENCES, audience, None))
        else:
            self.fleet.states[audience] = progress
            self.commit(Change(AUDIENCES, audience, Connected()))
        self.fleet.on_heard(audience, TYPE_LISTENER)
        await asyncio.sleep(0)

    @property
    def gateways(self) -> dict[AcknowledgedKey, tuple[dict[str, int], tuple[str, ...]]]:
        """What is known of Gateways: generations by name, and listeners."""
        return {
            key: ({at.name: generation for at, generation in row.generations}, row.listeners)
            for key, row in self.model.engine.rows(ACKNOWLEDGED).items()
            if key.name
        }

    def told_of(self, name: str = "Gateway/edge") -> tuple[str, str, int]:
        """The condition Programmed: status, reason and of which generation."""
        kind, _, name = name.partition("/")
        conditions = self.model.status(kind, name).to_json()["conditions"]
        (found,) = (one for one in conditions if one["type"] == "Programmed")
        return found["status"], found["reason"], found["observedGeneration"]

    def listeners(self) -> dict[str, tuple[str, str, int]]:
        """The same of each listener of the Gateway."""
        return {
            each["name"]: next(
                (one["status"], one["reason"], one["observedGeneration"])
                for one in each["conditions"]
                if one["type"] == "Programmed"
            )
            for each in self.model.status("Gateway", "edge").to_json()["listeners"]
        }


async def test_a_gateway_is_programmed_once_a_proxy_has_taken_its_listeners() -> None:
    world = World()
    world.gateway(1)
    assert world.told_of() == ("True", "Programmed", 1), "offline nobody knows of proxies"
    await world.told.load()
    assert world.told_of() == ("False", "Pending", 1)
    assert world.listeners() == {"one": ("False", "Pending", 1)}
    await world.proxies(NONE)
    assert world.told_of()[0] == "False", "connected, and has said nothing yet"
    await world.proxies(ALL)
    assert world.told_of() == ("True", "Programmed", 1)
    assert world.listeners() == {"one": ("True", "Programmed", 1)}


async def test_while_a_change_is_on_its_way_the_status_says_which_generation_is_served() -> None:
    world = World()
    await world.told.load()
    world.gateway(1)
    await world.proxies(ALL)
    world.fleet.states[EDGE] = BEHIND
    world.gateway(2, f"{ONE}, {TWO}")
    assert world.told_of() == ("True", "Programmed", 1)
    assert world.listeners() == {"one": ("True", "Programmed", 1), "two": ("False", "Pending", 2)}
    await world.proxies(BEHIND)
    assert world.told_of()[2] == 1
    await world.proxies(ALL)
    assert world.told_of() == ("True", "Programmed", 2)
    assert set(world.listeners().values()) == {("True", "Programmed", 2)}


async def test_all_audiences_of_a_gateway_count_and_newcomers_do_not_hold_it_up() -> None:
    world = World()
    await world.told.load()
    world.gateway(1)
    await world.proxies(ALL)
    await world.proxies(BEHIND, ZONE)
    world.gateway(2)
    assert world.told_of()[2] == 1
    await world.proxies(NONE, ZONE)
    assert world.told_of()[2] == 2


async def test_listener_sets_are_taken_with_their_gateway_and_have_a_generation_of_their_own() -> None:
    world = World()
    await world.told.load()
    world.gateway(1)
    await world.proxies(ALL)
    world.fleet.states[EDGE] = BEHIND
    world.apply(SET)
    assert world.told_of("ListenerSet/more") == ("False", "Pending", 5)
    assert world.told_of() == ("True", "Programmed", 1)
    await world.proxies(ALL)
    assert world.told_of("ListenerSet/more") == ("True", "Programmed", 5)
    world.fleet.states[EDGE] = BEHIND
    world.apply(SET.replace("generation: 5", "generation: 6"))
    assert world.told_of("ListenerSet/more") == ("True", "Programmed", 5)


async def test_what_leaves_the_generations_as_they_are_costs_no_row_and_asks_no_proxy() -> None:
    world = World()
    await world.told.load()
    world.gateway(1)
    await world.proxies(ALL)
    writes, asked = len(world.writes), world.fleet.asked
    for _ in range(10):
        world.fleet.on_heard(EDGE, TYPE_LISTENER)
        world.fleet.on_heard(EDGE, TYPE_CLUSTER)
        await asyncio.sleep(0)
    world.told.committed(world.model.discover("reviews", "10.0.0.1"))
    assert (len(world.writes), world.fleet.asked) == (writes, asked)


async def test_nothing_is_looked_at_in_the_middle_of_a_build() -> None:
    world = World()
    await world.told.load()
    world.gateway(1)
    world.fleet.states[EDGE] = ALL
    world.building = True
    world.fleet.on_heard(EDGE, TYPE_LISTENER)
    await asyncio.sleep(0)
    assert world.gateways == {}
    world.building = False
    world.commit(Change(AUDIENCES, EDGE, Connected()))
    assert list(world.gateways) == [AcknowledgedKey("default", "edge")]


async def test_a_gateway_that_its_proxies_have_left_for_good_is_pending_again() -> None:
    world = World()
    await world.told.load()
    world.gateway(1)
    await world.proxies(ALL)
    world.fleet.states.clear()
    world.fleet.on_heard(EDGE, "")
    await asyncio.sleep(0)
    assert world.told_of()[0] == "True", "their replacement may come at any moment"
    await world.proxies(None)
    assert world.told_of()[:2] == ("False", "Pending")
    assert world.gateways == {}


async def test_what_was_known_is_known_after_a_restart_and_garbage_is_not() -> None:
    store = Documents()
    world = World(store)
    await world.told.load()
    world.gateway(1)
    await world.proxies(ALL)
    await world.told.flush()
    store.kept["garbage"] = b"{"

    again = World(store)
    await again.told.load()
    again.model.engine.commit([Change(AUDIENCES, EDGE, Connected())])
    again.gateway(1)
    assert again.told_of() == ("True", "Programmed", 1)
    await again.told.flush()
    assert list(store.kept) == ["default/edge"]
    again.told.committed(again.model.delete("Gateway", "edge"))
    await again.told.flush()
    assert store.kept == {}
