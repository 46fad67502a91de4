"""The client against a real agent: blocking queries, errors, and what the answers mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from discovery.consul import catalog, wire
from discovery.consul.http import Consul, ConsulError, Target, UnreachableError
from discovery.consul.reading import Reading
from discovery.consul.trouble import trouble
from discovery.consul.watch_state import Ask
from mesh.model import Endpoint
from tests.support.consul import ConsulAgent


def registration(name: str, state: str, **more: object) -> bytes:
    check = {"TTL": "600s", "Status": state}
    return json.dumps({"Name": name, "ID": f"{name}-1", "Port": 8080, "Check": check, **more}).encode()


async def test_blocking_query_wakes_and_instance_follows_its_check(agent: ConsulAgent) -> None:
    consul = Consul(Target(url=agent.url))

    async def until(holds: Callable[[tuple[Endpoint, ...]], bool], index: int) -> tuple[int, tuple[Endpoint, ...]]:
        """Follow the service from an index on. An agent tells its servers of parts of a change one by one."""
        while True:
            answer = await consul.get("/v1/health/service/reviews", index=index, wait=60)
            made = catalog.rows(wire.entries(answer.body)).get("default")
            index = answer.index
            if made is not None and holds(made[1].endpoints):
                return index, made[1].endpoints

    try:
        more = {"Tags": ["canary", "version=v2"], "Weights": {"Passing": 9, "Warning": 2}}
        await consul.put("/v1/agent/service/register", registration("reviews", "passing", **more))
        first, (one,) = await until(lambda found: [each.weight for each in found] == [9], 0)
        assert (one.address, one.ports, one.weight) == ("127.0.0.1", (("", 8080),), 9)
        assert dict(one.labels) == {"canary": "true", "version": "v2"}

        warned = lambda found: [each.weight for each in found] == [2]  # noqa: E731
        waiting = asyncio.get_running_loop().create_task(until(warned, first))
        await consul.put("/v1/agent/check/warn/service:reviews-1")
        second, _ = await asyncio.wait_for(waiting, 50)  # less than a query that nothing wakes
        assert second > first

        waiting = asyncio.get_running_loop().create_task(until(lambda found: not found, second))
        await consul.put("/v1/agent/service/maintenance/reviews-1", query={"enable": "true"})
        await asyncio.wait_for(waiting, 50)
    finally:
        await consul.close()


async def test_error_has_its_status_and_agent_away_is_told(agent: ConsulAgent) -> None:
    consul = Consul(Target(url=agent.url))
    try:
        with pytest.raises(ConsulError) as refused:
            await consul.get("/v1/kv/not-there")
        assert refused.value.status == 404
        agent.child.stop()
        with pytest.raises(UnreachableError):
            await consul.get("/v1/catalog/services")
    finally:
        await consul.close()


async def test_agent_that_knows_no_namespaces_is_told_apart(agent: ConsulAgent) -> None:
    consul = Consul(Target(url=agent.url, namespace="team"))
    try:
        with pytest.raises(ConsulError) as refused:
            await consul.get("/v1/catalog/services")
        assert trouble(refused.value).code == "NotEnterprise"
    finally:
        await consul.close()


async def test_cached_question_is_answered_from_the_agents_cache_and_wakes_when_it_changes(agent: ConsulAgent) -> None:
    consul = Consul(Target(url=agent.url))
    reading = Reading(consul, reads="cached")
    path = "/v1/health/service/reviews"
    try:
        await consul.put("/v1/agent/service/register", registration("reviews", "passing"))
        await reading.ask(path, "", Ask(0, 1))
        first = await reading.ask(path, "", Ask(0, 1))
        assert first.headers["X-Cache"] == "HIT"
        waiting = asyncio.get_running_loop().create_task(reading.ask(path, "", Ask(first.index, 60)))
        await consul.put("/v1/agent/check/fail/service:reviews-1")
        second = await asyncio.wait_for(waiting, 30)
        assert second.index > first.index
        assert catalog.rows(wire.entries(second.body))["default"][1].endpoints == ()
    finally:
        await consul.close()
