"""Rollouts in a store that two replicas share in Consul's KV: judged by the proxies of both, moved by one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from discovery.board import BoardAwayError
from discovery.consul.http import Consul, Target
from discovery.stores.consul import ConsulStore
from discovery.stores.consul_board import ConsulBoard
from fairlead.client import RefusedError
from fairlead.processes import Children
from fairlead.rollouts.counts import COLLECTION
from tests.support.consul import ConsulAgent
from tests.support.consul_replicas import GATEWAYS, HOST, Scene, write
from tests.support.crowd import crowd
from tests.support.routing import Server, backend_server

PATH = "/api/v1/namespaces/default/rollouts/shop"
ANALYSIS = {"interval": "1s", "minRequests": 20, "successRate": 95, "failures": 2, "deadline": "2m"}


class Shop:
    """Two replicas with a gateway of its own at each, both of which send to a stable version of a service."""

    def __init__(self, scene: Scene, stable: Server, canary: Server) -> None:
        self.scene = scene
        self.stable, self.canary = stable, canary
        for name, server in (("shop", stable), ("shop-v2", canary)):
            endpoints = [{"address": "127.0.0.1", "ports": {"http": server.server_port}}]
            spec = {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}
            write(scene.replicas["one"], "Service", name, spec)
        scene.until(lambda: scene.leader() != "", "a leader")
        self.leader = scene.leader()
        (self.other,) = set(GATEWAYS) - {self.leader}
        scene.served(HOST)

    def roll_out(self, *steps: dict[str, Any], **spec: Any) -> None:
        """Tell the replica that does not lead."""
        body = {
            "targetRef": {"kind": "HTTPRoute", "name": "shop"},
            "stable": {"name": "shop"},
            "canary": {"name": "shop-v2", "port": 80},
            "steps": list(steps),
            "analysis": ANALYSIS,
            **spec,
        }
        write(self.scene.replicas[self.other], "Rollout", "shop", body)

    def state(self, replica: str) -> dict[str, Any]:
        found: dict[str, Any] = self.scene.replicas[replica].client.get(PATH).get("status", {}).get("rollout", {})
        return found

    def kept(self) -> int:
        """Which state Consul's KV holds, by its revision."""
        found = self.scene.consul.client.request("GET", "/v1/kv/mesh/config/documents/rollouts?recurse").json()
        revision: int = json.loads(base64.b64decode(found[0]["Value"]))["state"]["revision"]
        return revision

    def reaches(self, replica: str, **wanted: Any) -> dict[str, Any]:
        """Wait until a replica says so."""
        seen: dict[str, Any] = {}

        def so() -> bool:
            seen.clear()
            seen.update(self.state(replica))
            return all(seen.get(name) == value for name, value in wanted.items())

        self.scene.until(so, f"the rollout to be {wanted} at {replica}")
        return seen


@pytest.fixture
def shop(children: Children, consul: Path) -> Iterator[Shop]:
    with backend_server("stable") as stable, backend_server("canary") as canary:
        yield Shop(Scene(children, consul, "--load-report-interval", "0.5"), stable, canary)


@pytest.mark.envoy
def test_who_leads_judges_by_the_proxies_of_the_other_and_all_know_how_far_it_is(shop: Shop) -> None:
    with crowd(shop.scene.ports[shop.other], HOST):
        shop.canary.failing = True
        shop.roll_out({"weight": 30, "pause": "1s"})
        bad = shop.reaches(shop.other, phase="RolledBack")
        assert bad["reason"] == "CheckFailed"
        assert 40 <= bad["canary"]["failed"] <= len(shop.canary.seen)
        assert bad == shop.state(shop.leader)
        with crowd(shop.scene.ports[shop.leader], HOST):
            shop.canary.failing = False
            failed = shop.canary.failed
            shop.roll_out({"weight": 50, "pause": "6s"}, version="mended", analysis={**ANALYSIS, "minRequests": 200})
            good = shop.reaches(shop.other, phase="Promoted")
        assert 200 <= good["canary"]["succeeded"] <= len(shop.canary.seen) - failed, "each request counts once"
        assert good["canary"]["failed"] == 0
    logs = {name: replica.child.log.read_text() for name, replica in shop.scene.replicas.items()}
    assert all("RolledBack" in log for log in logs.values()), "both know"
    with pytest.raises(RefusedError, match="Another replica moves it"):
        shop.scene.replicas[shop.other].client.request("POST", f"{PATH}/abort")


@pytest.mark.envoy
def test_the_one_that_acts_is_killed_in_the_middle_and_the_other_goes_on(shop: Shop) -> None:
    with crowd(shop.scene.ports[shop.other], HOST) as visitors:
        shop.roll_out({"weight": 20, "pause": "1s"}, {"weight": 60, "pause": "1s", "approval": True})
        held = shop.reaches(shop.other, step=2, reason="AwaitingApproval")
        shop.scene.kill(shop.leader)
        seen = len(shop.canary.seen)
        shop.scene.until(lambda: len(shop.canary.seen) > seen + 20, "the canary to keep its share")
        shop.scene.until(lambda: shop.scene.leader() == shop.other, "the other to lead")
        now = shop.state(shop.other)
        assert (now["step"], now["weight"]) == (held["step"], held["weight"]) == (2, 60)

        def approved() -> bool:
            try:
                shop.scene.replicas[shop.other].client.request("POST", f"{PATH}/resume")
            except RefusedError:
                return False  # it does not know yet that it leads
            return True

        shop.scene.until(approved, "it to take the approval")
        shop.reaches(shop.other, phase="Promoted")
    assert set(visitors.statuses) == {200}


@pytest.mark.envoy
def test_while_consul_is_away_it_does_not_move_on_but_can_be_taken_back_and_that_holds(shop: Shop) -> None:
    with crowd(shop.scene.ports[shop.other], HOST) as visitors:
        shop.roll_out({"weight": 50, "pause": "10m"})
        shop.reaches(shop.other, step=1)
        shop.scene.until(lambda: len(shop.canary.seen) > 20, "the canary's share")
        shop.scene.consul.kill()
        shop.scene.until(lambda: shop.scene.problems(shop.leader) != [], "it to be noticed")
        assert shop.state(shop.leader)["weight"] == 50
        shop.scene.consul.start()
        shop.scene.until(lambda: shop.scene.leader() != "", "a leader again")

        def aborted() -> bool:
            try:
                shop.scene.replicas[shop.scene.leader()].client.request("POST", f"{PATH}/abort")
            except (RefusedError, KeyError):
                return False
            return True

        shop.scene.until(aborted, "it to be taken back")
        for name in GATEWAYS:
            shop.reaches(name, phase="RolledBack", weight=0)
    assert set(visitors.statuses) == {200}


@pytest.mark.envoy
@pytest.mark.faults
def test_the_one_that_acts_stands_still_until_the_other_leads_and_does_not_undo_what_that_one_did(shop: Shop) -> None:
    with crowd(shop.scene.ports[shop.other], HOST) as visitors:
        shop.roll_out({"weight": 20, "pause": "1s"}, {"weight": 60, "pause": "1s", "approval": True})
        shop.reaches(shop.other, step=2, reason="AwaitingApproval")
        still = shop.scene.replicas[shop.leader].child
        still.signal_group(signal.SIGSTOP)
        try:
            shop.scene.until(lambda: shop.scene.leader() == shop.other, "the other to lead")

            def aborted() -> bool:
                with contextlib.suppress(RefusedError):  # it does not know yet that it leads
                    shop.scene.replicas[shop.other].client.request("POST", f"{PATH}/abort")
                    return True
                return False

            shop.scene.until(aborted, "it to be taken back")
        finally:
            still.signal_group(signal.SIGCONT)
        done = shop.reaches(shop.leader, phase="RolledBack", weight=0)
        with pytest.raises(RefusedError, match="Another replica moves it"):
            shop.scene.replicas[shop.leader].client.request("POST", f"{PATH}/promote")
        assert shop.state(shop.other) == done
        assert shop.kept() == done["revision"]
    assert set(visitors.statuses) == {200}


# -- what carries the rows ------------------------------------------------------------------------------------------


@pytest.fixture
async def store(agent: ConsulAgent) -> AsyncIterator[Callable[[], ConsulStore]]:
    made: list[ConsulStore] = []

    def make() -> ConsulStore:
        made.append(ConsulStore(Consul(Target(url=f"http://127.0.0.1:{agent.port}")), "mesh"))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_who_watches_the_board_hears_of_each_row_that_comes_changes_and_goes(
    store: Callable[[], ConsulStore],
) -> None:
    one, two = ConsulBoard(store(), COLLECTION), ConsulBoard(store(), COLLECTION)
    async with asyncio.timeout(60), aclosing(two.watch()) as rows:  # type: ignore[type-var]
        assert await anext(rows) == {}
        for changes, wanted in (
            ({"a": b"1"}, {"a": b"1"}),
            ({"a": b"2"}, {"a": b"2"}),
            ({"b": b"3"}, {"a": b"2", "b": b"3"}),
            ({"a": None}, {"b": b"3"}),
            ({"b": None}, {}),
            ({"c": b"4"}, {"c": b"4"}),
        ):
            await one.write(changes)  # type: ignore[arg-type]
            assert await _next(rows) == wanted


async def _next(rows: AsyncIterator[Mapping[str, bytes]]) -> Mapping[str, bytes]:
    return await anext(rows)


async def test_a_board_that_rests_costs_a_question_now_and_then(
    store: Callable[[], ConsulStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = store()
    await watched.write_documents(COLLECTION, {"a": b"1"})
    asked = itertools.count()
    real = watched.kv.stirred

    async def stirred(*arguments: Any, **named: Any) -> int:
        next(asked)
        return await real(*arguments, **named)

    monkeypatch.setattr(watched.kv, "stirred", stirred)
    heard = asyncio.Event()

    async def watch() -> None:
        async with aclosing(ConsulBoard(watched, COLLECTION).watch()) as rows:  # type: ignore[type-var]
            async for found in rows:
                if found["a"] == b"2":
                    heard.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        other = store()
        for number in range(50):
            await other.write_documents("another", {"x": str(number).encode()})
        await other.write_documents(COLLECTION, {"a": b"2"})
        await heard.wait()
        watching.cancel()
    assert next(asked) <= 4, "what others write elsewhere wakes nobody"


async def test_a_board_that_is_away_says_so(store: Callable[[], ConsulStore], agent: ConsulAgent) -> None:
    board = ConsulBoard(store(), COLLECTION)
    agent.child.process.kill()
    agent.child.process.wait(20)
    with pytest.raises(BoardAwayError, match="does not answer"):
        await board.write({"a": b"1"})
    with pytest.raises(BoardAwayError, match="does not answer"):
        await anext(board.watch())
