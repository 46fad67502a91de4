"""Join tokens in the KV of a real Consul: made at one replica, good at the other, and once among both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from discovery.consul.http import Consul, Target
from discovery.stores.consul_kv import Kv
from fairlead.identities.authority_places import tokens_in_kv
from fairlead.processes import Children
from mesh.spiffe import SpiffeId
from sds.join_tokens import BadToken, JoinTokens
from tests.consul.test_shared_authority import NAMES, Pair
from tests.support.consul import ConsulAgent

REVIEWS = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/reviews")


@pytest.fixture
async def replicas(agent: ConsulAgent) -> AsyncIterator[list[JoinTokens]]:
    """Four, each with a connection of its own."""
    consuls = [Consul(Target(url=agent.url)) for _ in range(4)]
    yield [JoinTokens(tokens_in_kv(Kv(consul), "mesh/config"), lambda: 1_000.0) for consul in consuls]
    for consul in consuls:
        await consul.close()


async def test_of_many_uses_at_once_at_several_replicas_one_succeeds(replicas: list[JoinTokens]) -> None:
    tokens = [await replicas[number % 4].create(REVIEWS, 60) for number in range(6)]
    uses = [replica.use(token) for token in tokens for replica in replicas for _ in range(2)]
    answers: list[Any] = await asyncio.gather(*uses, return_exceptions=True)
    for start in range(0, len(answers), 8):
        each = answers[start : start + 8]
        assert each.count(REVIEWS) == 1, each
        assert sum(isinstance(answer, BadToken) for answer in each) == 7, each


@pytest.mark.slow
def test_two_agents_with_one_token_at_two_replicas_and_one_of_them_gets_in(children: Children, consul: Any) -> None:
    pair = Pair(children, consul)
    token = pair.meshes["one"].join_token("web")
    thieves = {name: pair.meshes[name].agent("web", token=token, name=f"other-{name}")[0] for name in NAMES}

    def refused(name: str) -> bool:
        return "refused: the control plane's log says why" in thieves[name].log.read_text()

    def has(name: str) -> bool:
        return pair.meshes[name].has_identity(thieves[name])

    pair.until(lambda: all(refused(name) or has(name) for name in NAMES), "both to be answered")
    assert sorted(has(name) for name in NAMES) == [False, True]
    [loser] = [name for name in NAMES if refused(name)]
    said = pair.meshes[loser].serving.child.log
    assert "the join token is unknown, was used, or has ended" in said.read_text()
    assert token.encode() not in b"".join(pair.stored().values())
