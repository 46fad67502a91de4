"""What is understood of agents that are not here, by answers that were recorded or written after the documentation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from discovery.consul import intention_source, source
from discovery.consul.http import Consul, Target
from discovery.consul.intention_source import IntentionSource
from discovery.consul.source import ConsulSource, Plan
from mesh.authorization import AuthorizationKey, AuthorizationRule, Caller
from mesh.model import DISCOVERED_ENDPOINTS, DISCOVERED_SERVICES
from tests.support.consul_recorded import RecordedAgent, recorded_agent

SECONDS = 30.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "GIVE_UP_SECONDS", 0.2)
    monkeypatch.setattr(intention_source, "FIRST_WAIT_SECONDS", 0.2)


class Following:
    """A source, followed: its rows by table and key."""

    def __init__(self, source: ConsulSource | IntentionSource) -> None:
        self.source = source
        self.rows: dict[tuple[Any, Any], Any] = {}
        self._news = asyncio.Condition()

    async def run(self) -> None:
        async with contextlib.aclosing(cast("Any", self.source.batches())) as batches:
            async for batch in batches:
                async with self._news:
                    self.rows |= {(change.table, change.key): change.row for change in batch}
                    self._news.notify_all()

    def addresses(self) -> dict[tuple[str, str], list[str]]:
        """The endpoints of each service, by namespace and name."""
        return {
            (key.namespace, key.service): [each.address for each in row.endpoints]
            for (table, key), row in self.rows.items()
            if table is DISCOVERED_ENDPOINTS and row is not None
        }

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(condition)


@contextlib.asynccontextmanager
async def followed(source: ConsulSource | IntentionSource) -> AsyncIterator[Following]:
    made = Following(source)
    task = asyncio.get_running_loop().create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def client(agent: RecordedAgent, **where: str) -> AsyncIterator[Consul]:
    consul = Consul(Target(url=agent.url, **where))
    try:
        yield consul
    finally:
        await consul.close()


TEAM = {"namespace": "team", "partition": "east"}


async def test_a_consul_namespace_in_a_partition_is_the_namespace_of_its_services() -> None:
    async with (
        recorded_agent("enterprise-namespace") as agent,
        client(agent, **TEAM) as consul,
        followed(ConsulSource(consul, Plan())) as following,
    ):
        await following.until(lambda: following.addresses() == {("team", "web"): ["10.1.0.8"]})
        [service] = [key for table, key in following.rows if table is DISCOVERED_SERVICES]
        assert (service.namespace, service.name) == ("team", "web")
        agent.advance()
        await following.until(lambda: following.addresses()["team", "web"] == ["10.1.0.8", "10.1.0.9"])
        assert following.source.problems == ()
        assert not agent.unknown, "each question names namespace and partition"


async def test_intentions_of_a_namespace_in_a_partition_keep_whose_callers_they_are_about() -> None:
    async with (
        recorded_agent("enterprise-namespace") as agent,
        client(agent, **TEAM) as consul,
        followed(IntentionSource(consul)) as following,
    ):
        await following.until(lambda: following.rows)
        [row] = following.rows.values()
        assert [key for _, key in following.rows] == [AuthorizationKey("consul", "team", "web")]
        assert row.rules == (
            AuthorizationRule(Caller("api", "team", "east"), "ALLOW", 9),
            AuthorizationRule(Caller("*", "*", "west"), "DENY", 7),
        )


@pytest.mark.parametrize("place", [{"namespace": "team"}, {"partition": "east"}])
async def test_an_agent_without_namespaces_or_partitions_is_told_with_the_setting_to_leave_out(
    place: dict[str, str],
) -> None:
    async with recorded_agent("without-enterprise") as agent, client(agent, **place) as consul:
        for asking in (ConsulSource(consul, Plan(optional=True)), IntentionSource(consul)):
            async with followed(asking) as following:
                await following.until(lambda asking=asking: asking.problems)
                assert {problem.code for problem in asking.problems} == {"NotEnterprise"}
                assert all("--consul-query-namespace" in problem.fix for problem in asking.problems)
                assert following.addresses() == {}
    assert not agent.unknown
