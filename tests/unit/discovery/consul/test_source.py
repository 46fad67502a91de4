"""The source towards answers that no real agent gives on demand; real ones are in `tests/consul`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from discovery.consul import source, watching
from discovery.consul.http import Answer, Consul, ConsulError, UnreachableError
from discovery.consul.source import ConsulSource, Plan
from discovery.copies import Copies
from discovery.stores.sqlite import SqliteStore
from mesh.model import DISCOVERED_ENDPOINTS, DISCOVERED_SERVICES

DEADLINE = 10.0


def instance(address: str, **service: Any) -> dict[str, Any]:
    return {
        "Node": {"Address": "10.0.0.1", "Datacenter": "dc1"},
        "Service": {"Service": "x", "Address": address, "Port": 80, **service},
        "Checks": [{"Status": "passing"}],
    }


class Agent:
    """What a `Consul` answers: per datacenter (empty: its own) the services and their instances.

    `error` is for everything, `errors` for one path; `own` is the name of its own datacenter.
    """

    def __init__(self, **services: list[dict[str, Any]]) -> None:
        self.services: dict[str, dict[str, list[dict[str, Any]]]] = {"": dict(services)}
        self.index = 10
        self.error: Exception | None = None
        self.errors: dict[str, Exception] = {}
        self.headers: Mapping[str, str] = {}
        self.body: bytes | None = None
        self.own = "dc1"
        self.queries: list[Mapping[str, str]] = []
        self._changed = asyncio.Event()

    def change(self, *, index: int | None = None) -> None:
        self.index = index if index is not None else self.index + 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        index: int = 0,
        wait: float = 0.0,
        slack: float = 0.0,
    ) -> Answer:
        self.queries.append(query or {})
        self._fail(path)
        if index == self.index and wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
        self._fail(path)
        known = self.services.get((query or {}).get("dc", ""), {})
        found: Any
        if path == "/v1/catalog/services":
            found = {name: [] for name in known}
        elif path == "/v1/agent/self":
            found = {"Config": {"Datacenter": self.own}}
        elif path == "/v1/catalog/datacenters":
            found = [self.own, *(name for name in self.services if name)]
        else:
            found = known.get(path.rpartition("/")[2], [])
        return Answer(self.index, self.body or json.dumps(found).encode(), self.headers)

    def _fail(self, path: str) -> None:
        if (error := self.error or self.errors.get(path)) is not None:
            raise error


class Follower:
    def __init__(self, followed: ConsulSource) -> None:
        self.source = followed
        self.rows: dict[Any, Any] = {}
        self.batches = 0
        self._news = asyncio.Condition()

    async def follow(self) -> None:
        async with contextlib.aclosing(cast("Any", self.source.batches())) as batches:
            async for batch in batches:
                for change in batch:
                    self.rows[change.table, change.key] = change.row
                async with self._news:
                    self.batches += 1
                    self._news.notify_all()

    def addresses(self) -> dict[tuple[str, str], list[tuple[str, int]]]:
        return {
            (key.source, key.service): [(each.address, each.priority) for each in row.endpoints]
            for (table, key), row in self.rows.items()
            if table is DISCOVERED_ENDPOINTS and row is not None
        }

    def stale(self) -> set[str]:
        found = self.rows.items()
        return {key.name for (table, key), row in found if table is DISCOVERED_SERVICES and row and row.stale}

    def codes(self) -> set[str]:
        return {problem.code for problem in self.source.problems}

    async def until(self, holds: Callable[[], object], seconds: float = DEADLINE) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(holds)


@contextlib.asynccontextmanager
async def following(
    agent: Agent, *, copies: Callable[[str], Copies] | None = None, **plan: Any
) -> AsyncIterator[Follower]:
    follower = Follower(ConsulSource(cast("Consul", agent), Plan(**plan), copies=copies))
    task = asyncio.get_running_loop().create_task(follower.follow())
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "store.db")
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "GIVE_UP_SECONDS", 0.2)
    monkeypatch.setattr(source, "_TROUBLED_SECONDS", 0.05)
    monkeypatch.setattr(watching, "STALE_SECONDS", 0.1)


async def test_first_batch_has_every_service_and_changes_follow() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        assert follower.addresses() == {("consul", "consul"): [("10.1.0.1", 0)], ("consul", "web"): [("10.2.0.1", 0)]}
        agent.services[""]["web"] = [instance("10.2.0.2")]
        agent.services[""]["new"] = [instance("10.3.0.1")]
        agent.change()
        await follower.until(lambda: follower.addresses().get(("consul", "new")) == [("10.3.0.1", 0)])
        await follower.until(lambda: follower.addresses()["consul", "web"] == [("10.2.0.2", 0)])
        del agent.services[""]["web"]
        agent.change()
        await follower.until(lambda: ("consul", "web") not in follower.addresses())


async def test_while_the_agent_is_away_all_stands_marked_stale_and_then_it_is_fresh() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.error = UnreachableError("Connection refused")
        agent.change()
        await follower.until(lambda: follower.stale() == {"consul", "web"})
        assert follower.codes() == {"Unreachable"}
        assert follower.addresses()["consul", "web"] == [("10.2.0.1", 0)]
        assert follower.source.numbers()["stale"] == {"consul": 2}
        agent.error = None
        agent.services[""]["web"] = [instance("10.2.0.9")]
        await follower.until(lambda: not follower.stale())
        assert follower.addresses()["consul", "web"] == [("10.2.0.9", 0)]
        await follower.until(lambda: not follower.codes())


async def test_service_that_may_not_be_read_is_stale_alone_and_said() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.errors["/v1/health/service/web"] = ConsulError(403, "Permission denied")
        agent.change()
        await follower.until(lambda: follower.stale() == {"web"})
        assert follower.codes() == {"Forbidden"}


DEEP = b"[" * 100_000 + b"]" * 100_000
"""Nested deeper than any parser goes."""


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[" * 100_000, b'{"a": 1}', b"[{]", b'[{"Node": {}, "Service": {"Service": "x", "Z": %s}}]' % DEEP],
)
async def test_answer_that_is_not_consuls_loses_nothing_and_is_said(body: bytes) -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.body = body
        agent.change()
        await follower.until(lambda: "Unreadable" in follower.codes())
        assert len(follower.addresses()) == 2


async def test_hundred_thousand_instances_are_taken_in_and_the_loop_turns_meanwhile() -> None:
    many = [instance(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}") for n in range(100_000)]
    agent = Agent(consul=[], big=[])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.services[""]["big"] = many
        agent.change()
        turns = 0
        async with asyncio.timeout(60):
            while ("consul", "big") not in follower.addresses():
                turns += 1
                await asyncio.sleep(0.001)
        assert turns > 50
        assert len(follower.addresses()["consul", "big"]) == 100_000


async def test_without_copies_an_agent_that_is_away_keeps_the_server_from_being_ready_unless_optional() -> None:
    agent = Agent()
    agent.error = UnreachableError("Connection refused")
    async with following(agent) as follower:
        with pytest.raises(TimeoutError):
            await follower.until(lambda: follower.batches, 1.0)
        assert follower.codes() == {"Unreachable"}
    async with following(agent, optional=True) as follower:
        await follower.until(lambda: follower.batches == 1)


async def test_copies_of_an_earlier_run_stand_in_until_the_agent_answers(store: SqliteStore) -> None:
    def copies(name: str) -> Copies:
        return Copies(store, name, place="http://agent")

    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent, copies=copies) as follower:
        await follower.until(lambda: follower.batches == 1)
        for each in follower.source.copies:
            await each.flush()
    agent.error = UnreachableError("Connection refused")
    async with following(agent, copies=copies) as follower:
        await follower.until(lambda: follower.batches == 1)
        assert follower.stale() == {"consul", "web"}
        assert follower.addresses()["consul", "web"] == [("10.2.0.1", 0)]
        agent.error = None
        del agent.services[""]["web"]
        await follower.until(lambda: ("consul", "web") not in follower.addresses())
        await follower.until(lambda: not follower.stale())


async def test_other_datacenters_come_after_the_agents_own_in_their_order() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    agent.services |= {"west": {"web": [instance("10.3.0.1")]}, "east": {"web": [instance("10.4.0.1")]}}
    async with following(agent, datacenters=("west", "dc1", "east")) as follower:
        await follower.until(lambda: len(follower.addresses()) == 4)
        assert follower.addresses() == {
            ("consul", "consul"): [("10.1.0.1", 0)],
            ("consul", "web"): [("10.2.0.1", 0)],
            ("consul:west", "web"): [("10.3.0.1", 1)],
            ("consul:east", "web"): [("10.4.0.1", 3)],
        }
    async with following(agent, datacenters=("all",)) as follower:
        await follower.until(lambda: len(follower.addresses()) == 4)
        assert sorted(each[1] for ends in follower.addresses().values() for each in ends) == [0, 0, 1, 2]
        await follower.until(lambda: follower.addresses()["consul:east", "web"] == [("10.4.0.1", 1)])


async def test_datacenter_that_is_away_harms_nobody_else() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    agent.services["west"] = {"web": [instance("10.3.0.1")]}

    class Cut(Agent):
        cut = False

        async def get(self, path: str, query: Mapping[str, str] | None = None, **more: Any) -> Answer:
            if self.cut and (query or {}).get("dc") == "west":
                raise ConsulError(500, "No path to datacenter")
            return await super().get(path, query, **more)

    cut = Cut()
    cut.services = agent.services
    async with following(cut, datacenters=("west",)) as follower:
        await follower.until(lambda: len(follower.addresses()) == 3)
        cut.cut = True
        cut.change()
        await follower.until(lambda: follower.codes() == {"NoPath"})
        await follower.until(lambda: follower.source.numbers()["stale"] == {"consul": 0, "consul:west": 1})
        assert follower.addresses()["consul:west", "web"] == [("10.3.0.1", 1)]


async def test_too_many_requests_are_answered_with_fewer_and_said() -> None:
    agent = Agent(consul=[], **{f"s{n}": [instance(f"10.0.0.{n}")] for n in range(20)})
    async with following(agent, polls=10) as follower:
        await follower.until(lambda: follower.batches == 1)
        for number in range(20):
            agent.errors[f"/v1/health/service/s{number}"] = ConsulError(429, "too many", retry_after=0.5)
        agent.change()
        await follower.until(lambda: "RateLimited" in follower.codes())
        assert follower.source.numbers()["polls"]["allowed"] < 10
        agent.errors.clear()
        agent.change()
        await follower.until(lambda: "RateLimited" not in follower.codes())


async def test_server_that_knows_nothing_new_is_not_believed_with_stale_reads() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent, reads="stale", max_stale=5.0) as follower:
        await follower.until(lambda: follower.batches == 1)
        assert all("stale" in query for query in agent.queries)
        agent.services[""] = {"consul": []}
        agent.headers = CIMultiDict({"X-Consul-Lastcontact": "60000"})  # as Go spells it
        agent.change()
        await follower.until(lambda: "TooOld" in follower.codes())
        assert ("consul", "web") in follower.addresses()


async def test_index_that_goes_back_with_an_empty_catalog_removes_nothing_at_once() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    agent.index = 1000
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.services[""] = {"consul": [instance("10.1.0.1")]}
        agent.change(index=5)
        await follower.until(lambda: follower.stale() == {"web"})
        assert follower.addresses()["consul", "web"] == [("10.2.0.1", 0)]
        agent.services[""]["web"] = [instance("10.2.0.1"), instance("10.2.0.2")]
        agent.change()
        await follower.until(lambda: follower.addresses()["consul", "web"] == [("10.2.0.1", 0), ("10.2.0.2", 0)])
        await follower.until(lambda: not follower.stale())


async def test_token_that_lost_its_rights_removes_nothing_and_is_said() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        known, agent.services[""] = agent.services[""], {}
        agent.change()
        await follower.until(lambda: follower.codes() == {"RightsLost"})
        await follower.until(lambda: follower.stale() == {"consul", "web"})
        assert follower.addresses()["consul", "web"] == [("10.2.0.1", 0)]
        agent.services[""] = known
        agent.change()
        await follower.until(lambda: not follower.stale())
        assert not follower.codes()


async def kept(follower: Follower) -> None:
    for each in follower.source.copies:
        await each.flush()


@pytest.mark.parametrize("changed", [0, 1], ids=["nothing_else_changed", "something_changed"])
async def test_service_that_is_listed_without_an_instance_is_hidden_from_us_and_stands(changed: int) -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")], db=[instance("10.3.0.1")])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        known = dict(agent.services[""])
        agent.services[""] = {name: [] for name in known}  # as a token without `node:read` is told
        agent.change(index=agent.index + changed)
        await follower.until(lambda: follower.stale() == {"consul", "web", "db"})
        assert follower.codes() == {"Hidden"}
        assert follower.addresses()["consul", "web"] == [("10.2.0.1", 0)]
        agent.services[""] = {**known, "web": [instance("10.2.0.2")]}
        agent.change(index=agent.index)  # rights change no index
        await follower.until(lambda: not follower.stale())
        assert follower.addresses()["consul", "web"] == [("10.2.0.2", 0)]
        await follower.until(lambda: not follower.codes())


async def test_service_whose_last_instance_left_a_moment_before_the_list_says_so_is_gone_then() -> None:
    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.services[""]["web"] = []
        agent.change()
        await follower.until(lambda: follower.stale() == {"web"})
        del agent.services[""]["web"]
        agent.change()
        await follower.until(lambda: ("consul", "web") not in follower.addresses())
        await follower.until(lambda: not follower.codes())


async def test_instances_that_appear_or_disappear_at_one_index_are_our_rights_and_only_more_is_believed() -> None:
    one, two = instance("10.2.0.1"), instance("10.2.0.2")
    agent = Agent(consul=[instance("10.1.0.1")], web=[one])
    async with following(agent) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.services[""]["web"] = [one, two]
        agent.change(index=agent.index)
        await follower.until(lambda: len(follower.addresses()["consul", "web"]) == 2)
        agent.services[""] |= {"web": [one], "db": [instance("10.3.0.1")]}
        agent.change(index=agent.index)
        await follower.until(lambda: ("consul", "db") in follower.addresses())
        assert len(follower.addresses()["consul", "web"]) == 2


@pytest.mark.parametrize("seen", [{}, {"web": []}], ids=["nothing", "one_without_instances"])
async def test_token_that_sees_less_at_the_start_than_in_an_earlier_run_removes_nothing(
    store: SqliteStore, seen: dict[str, Any]
) -> None:
    def copies(name: str) -> Copies:
        return Copies(store, name, place="http://agent")

    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    known = dict(agent.services[""])
    async with following(agent, copies=copies) as follower:
        await follower.until(lambda: follower.batches == 1)
        await kept(follower)
    for _ in range(2):  # and the copies are not spoiled by that
        agent.services[""] = seen
        async with following(agent, copies=copies) as follower:
            await follower.until(lambda: follower.batches == 1)
            assert follower.stale() == {"consul", "web"}
            assert follower.addresses()["consul", "web"] == [("10.2.0.1", 0)]
            await follower.until(lambda: "RightsLost" in follower.codes())
            await kept(follower)
    async with following(agent, copies=copies) as follower:
        await follower.until(lambda: follower.batches == 1)
        agent.services[""] = known
        agent.change()
        await follower.until(lambda: not follower.stale())
        await follower.until(lambda: not follower.codes())


async def test_nodes_that_our_token_does_not_see_at_the_start_remove_nothing(store: SqliteStore) -> None:
    def copies(name: str) -> Copies:
        return Copies(store, name, place="http://agent")

    agent = Agent(consul=[instance("10.1.0.1")], web=[instance("10.2.0.1")])
    async with following(agent, copies=copies) as follower:
        await follower.until(lambda: follower.batches == 1)
        await kept(follower)
    agent.services[""] = {"consul": [], "web": []}
    async with following(agent, copies=copies) as follower:
        await follower.until(lambda: follower.batches == 1)
        assert follower.addresses()["consul", "web"] == [("10.2.0.1", 0)]
        assert follower.stale() == {"consul", "web"}
        await follower.until(lambda: follower.codes() == {"Hidden"})


async def test_datacenters_of_an_earlier_run_stand_in_where_all_are_asked_for_and_the_agent_is_away(
    store: SqliteStore,
) -> None:
    def copies(name: str) -> Copies:
        return Copies(store, name, place="http://agent")

    agent = Agent(consul=[instance("10.1.0.1")])
    agent.services |= {"west": {"far": [instance("10.3.0.1")]}, "north": {"far": [instance("10.4.0.1")]}}
    async with following(agent, copies=copies, datacenters=("all",)) as follower:
        await follower.until(lambda: len(follower.addresses()) == 3)
        await kept(follower)
    agent.error = UnreachableError("Connection refused")
    async with following(agent, copies=copies, datacenters=("all",)) as follower:
        await follower.until(lambda: follower.batches == 1)
        assert follower.addresses()["consul:west", "far"] == [("10.3.0.1", 2)]
        assert follower.addresses()["consul:north", "far"] == [("10.4.0.1", 1)]
        agent.error = None
        await follower.until(lambda: follower.stale() == set())


async def test_first_batch_has_all_datacenters_where_all_are_asked_for() -> None:
    class Slow(Agent):
        async def get(self, path: str, query: Mapping[str, str] | None = None, **more: Any) -> Answer:
            if "/catalog/datacenters" in path:
                await asyncio.sleep(0.5)
            return await super().get(path, query, **more)

    agent = Slow(consul=[instance("10.1.0.1")])
    agent.services["west"] = {"far": [instance("10.3.0.1")]}
    async with following(agent, datacenters=("all",)) as follower:
        await follower.until(lambda: follower.batches == 1)
        assert ("consul:west", "far") in follower.addresses()
