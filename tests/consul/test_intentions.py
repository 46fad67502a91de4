"""Intentions of a real agent: read, followed, and judged as the agent itself judges them."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from discovery.consul.http import Consul, Target
from discovery.consul.intention_source import IntentionSource
from fairlead.processes import Children
from mesh.all_tables import TABLES
from mesh.authorization import AUTHORIZATIONS, Caller, deciding
from mesh.model import DISCOVERED_SERVICES, DiscoveredService, DiscoveredServiceKey, ServiceKey, ServicePort
from mesh.tables import Change, Engine
from tests.support.consul import ConsulAgent
from tests.support.consul_server import ConsulServer
from tests.support.programs import FAIRLEAD, start_serve

NAMES = ("web", "api", "db", "cache")


def intend(agent: ConsulAgent | ConsulServer, caller: str, called: str, action: str) -> str:
    body = {"SourceName": caller, "DestinationName": called, "SourceType": "consul", "Action": action}
    return str(json.loads(agent.client.request("POST", "/v1/connect/intentions", body=body).body)["ID"])


class Following:
    """A source whose batches are committed as they come."""

    def __init__(self, url: str) -> None:
        self._consul = Consul(Target(url=url))
        self.source = IntentionSource(self._consul)
        self.engine = Engine(TABLES)
        service = DiscoveredService(ports=(ServicePort("", 80, "HTTP"),))
        self.engine.commit(
            [Change(DISCOVERED_SERVICES, DiscoveredServiceKey("consul", "default", name), service) for name in NAMES]
        )
        self._batches = self.source.batches()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self.engine.commit(await asyncio.wait_for(anext(self._batches), 90))
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async for batch in self._batches:
            self.engine.commit(batch)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = asyncio.get_running_loop().time() + 60
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, what
            await asyncio.sleep(0.02)

    def allows(self, caller: str, called: str, *, otherwise: bool) -> bool:
        row = self.engine.get(AUTHORIZATIONS, ServiceKey("default", called))
        rule = deciding(row, Caller(caller)) if row is not None else None
        return rule.action == "ALLOW" if rule is not None else otherwise

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consul.close()


@pytest.fixture
async def follow() -> AsyncIterator[Callable[[str], Following]]:
    made: list[Following] = []

    def begin(url: str) -> Following:
        made.append(Following(url))
        return made[-1]

    yield begin
    for each in made:
        await each.stop()


async def test_rules_decide_as_the_agent_does_for_every_pair(
    agent: ConsulAgent, follow: Callable[[str], Following]
) -> None:
    intend(agent, "web", "db", "allow")
    intend(agent, "*", "db", "deny")
    intend(agent, "api", "*", "deny")
    intend(agent, "web", "*", "allow")
    intend(agent, "api", "cache", "allow")
    following = follow(agent.url)
    await following.begin()
    for caller, called in itertools.product(NAMES, NAMES):
        answer = agent.client.request("GET", f"/v1/connect/intentions/check?source={caller}&destination={called}")
        allowed = json.loads(answer.body)["Allowed"]
        assert following.allows(caller, called, otherwise=True) == allowed, (caller, called)


async def test_a_change_is_followed_and_a_removal_too(agent: ConsulAgent, follow: Callable[[str], Following]) -> None:
    following = follow(agent.url)
    await following.begin()
    assert following.allows("web", "db", otherwise=True)
    made = intend(agent, "web", "db", "deny")
    await following.until(lambda: not following.allows("web", "db", otherwise=True), "the intention")
    agent.client.request("DELETE", f"/v1/connect/intentions/{made}")
    await following.until(lambda: following.allows("web", "db", otherwise=True), "its removal")
    assert following.source.problems == ()


async def test_while_consul_is_away_the_last_rules_stand_and_it_is_told(
    agent: ConsulAgent, follow: Callable[[str], Following]
) -> None:
    intend(agent, "web", "db", "deny")
    following = follow(agent.url)
    await following.begin()
    await asyncio.to_thread(agent.child.stop)
    await following.until(lambda: following.source.problems != (), "the problem")
    assert not following.allows("web", "db", otherwise=True)


async def test_nothing_waits_for_a_consul_that_is_away(follow: Callable[[str], Following]) -> None:
    following = follow("http://127.0.0.1:1")
    await following.begin()
    assert [problem.code for problem in following.source.problems] == ["Unreachable"]


def test_intentions_are_shown_by_the_api_and_the_command_line(agent: ConsulAgent, children: Children) -> None:
    agent.client.request("PUT", "/v1/agent/service/register", body={"Name": "db", "Port": 5432})
    intend(agent, "web", "db", "allow")
    intend(agent, "*", "db", "deny")
    serving = start_serve(children, "--consul", agent.url)

    def told(**query: str) -> list[Any]:
        return list(serving.client.get("/api/v1/authorizations", **query)["items"])

    children.wait_until(lambda: len(told(service="db")) == 1, what="the intentions to be told")
    [item] = told(service="db", caller="api")
    assert [rule["action"] for rule in item["rules"]] == ["DENY"]
    command = [*FAIRLEAD, "get", "authorizations", "db", "--server", f"http://127.0.0.1:{serving.api}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert [line.split() for line in printed.splitlines()[1:]] == [
        ["default", "db", "web", "ALLOW", "9"],
        ["default", "db", "*", "DENY", "8"],
    ]
    agent.child.stop()
    children.started.remove(agent.child)

    def problems() -> str:
        items = serving.client.get("/api/v1/problems")["items"]
        return " ".join(item["problem"]["message"] for item in items if item["source"] == "consul:intentions")

    children.wait_until(lambda: "intentions" in problems(), what="it to be told that Consul is away")
    assert len(told(service="db")) == 1, "the last rules stand"
