"""The session-based leader with real agents: one leads, another follows when it goes, stops or is cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from discovery.consul.http import Consul, Target
from discovery.consul.leader import Leader
from discovery.leading import RENEW_DEADLINE
from discovery.stores.consul import ConsulStore
from discovery.stores.store import StoreNotLed
from tests.support.consul import ConsulAgent

KEY = "fairlead/leader"


class Replica:
    """A leader's loop that can be ended as a replica ends, or as one that dies."""

    def __init__(self, url: str, name: str) -> None:
        self.consul = Consul(Target(url=url))
        self.told: list[bool] = []
        self.leader = Leader(self.consul, KEY, identity=name, changed=self.told.append)
        self.task = asyncio.get_running_loop().create_task(self.leader.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.consul.close()

    async def die(self) -> None:
        """No word to Consul, and no renewal."""
        self.consul.target = Target(url="http://127.0.0.1:1")
        await self.stop()


@pytest.fixture
async def replica(agent: ConsulAgent) -> AsyncIterator[Callable[[str], Replica]]:
    made: list[Replica] = []

    def make(name: str) -> Replica:
        made.append(Replica(agent.url, name))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + 90
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.02)


async def test_one_leads_and_the_next_leads_as_soon_as_it_lets_go(replica: Callable[[str], Replica]) -> None:
    one = replica("one")
    await until(lambda: one.leader.leading, "the first to lead")
    two = replica("two")
    await until(lambda: two.leader.holder == "one", "the second to know who leads")
    assert not two.leader.leading
    await one.stop()
    assert one.told == [True, False]
    await until(lambda: two.leader.leading, "the second to lead")
    assert two.told == [True]


async def test_one_that_dies_is_followed_when_its_session_has_ended_and_never_before_it_stops_believing(
    replica: Callable[[str], Replica],
) -> None:
    one = replica("one")
    await until(lambda: one.leader.leading, "the first to lead")
    two = replica("two")
    await until(lambda: two.leader.holder == "one", "the second to know who leads")
    died = asyncio.get_running_loop().time()
    await one.die()
    await until(lambda: two.leader.leading, "the second to lead")
    assert asyncio.get_running_loop().time() - died >= RENEW_DEADLINE


async def test_a_lock_that_an_operator_takes_away_is_had_again(
    agent: ConsulAgent, replica: Callable[[str], Replica]
) -> None:
    one = replica("one")
    await until(lambda: one.leader.leading, "it to lead")
    sessions = json.loads(agent.client.request("GET", "/v1/session/list").body)
    agent.client.request("PUT", f"/v1/session/destroy/{sessions[0]['ID']}")
    await until(
        lambda: (
            [each["ID"] for each in json.loads(agent.client.request("GET", "/v1/session/list").body)]
            not in ([], [sessions[0]["ID"]])
        ),
        "a new session",
    )
    await until(lambda: one.leader.leading, "it to lead again")


async def test_what_one_writes_as_leader_after_another_took_over_is_not_written_and_later_leaders_have_higher_terms(
    agent: ConsulAgent, replica: Callable[[str], Replica]
) -> None:
    stores = {name: ConsulStore(Consul(Target(url=agent.url)), "fairlead") for name in ("one", "two")}

    async def write(who: Replica, name: str) -> None:
        await stores[name].write_documents_as_leader("rollouts", {"shop": name.encode()}, lambda: who.leader.session)

    try:
        with pytest.raises(StoreNotLed):
            await stores["one"].write_documents_as_leader("rollouts", {"shop": b"nobody leads"}, lambda: "")
        one = replica("one")
        await until(lambda: one.leader.leading, "the first to lead")
        await write(one, "one")
        late = one.leader.session
        await one.stop()
        two = replica("two")
        await until(lambda: two.leader.leading, "the second to lead")
        assert two.leader.term > one.leader.term > 0
        await write(two, "two")
        for session in (late, "", "00000000-0000-0000-0000-000000000000", two.leader.session.upper()):
            with pytest.raises(StoreNotLed, match="does not lead"):
                await stores["one"].write_documents_as_leader("rollouts", {"shop": b"late"}, lambda: session)  # noqa: B023
        assert await stores["one"].documents("rollouts") == {"shop": b"two"}
    finally:
        for store in stores.values():
            await store.close()
