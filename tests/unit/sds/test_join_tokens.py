"""Join tokens: good once, for one identity, for a while; and what is kept of them opens nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from mesh.spiffe import SpiffeId
from sds.join_tokens import MAX_TTL, BadToken, JoinTokens, is_join_token

REVIEWS = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/reviews")


class Memory:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.away = False

    async def documents(self) -> Mapping[str, bytes]:
        await asyncio.sleep(0)
        return dict(self.kept)

    async def write(self, documents: Mapping[str, bytes | None]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise OSError("the disk is full")
        for name, content in documents.items():
            if content is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = content


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_token_is_good_once(memory: Memory, clock: Clock) -> None:
    tokens = JoinTokens(memory, clock)
    token = await tokens.create(REVIEWS, 60)
    assert is_join_token(token)
    assert await tokens.use(token) == REVIEWS
    with pytest.raises(BadToken, match="unknown, or was used"):
        await tokens.use(token)


async def test_of_many_who_use_it_at_once_one_gets_in(memory: Memory, clock: Clock) -> None:
    tokens = JoinTokens(memory, clock)
    token = await tokens.create(REVIEWS, 60)
    answers = await asyncio.gather(*(tokens.use(token) for _ in range(20)), return_exceptions=True)
    assert answers.count(REVIEWS) == 1
    assert sum(isinstance(answer, BadToken) for answer in answers) == 19


async def test_it_survives_a_restart_and_its_use_too(memory: Memory, clock: Clock) -> None:
    token = await JoinTokens(memory, clock).create(REVIEWS, 60)
    assert await JoinTokens(memory, clock).use(token) == REVIEWS
    with pytest.raises(BadToken):
        await JoinTokens(memory, clock).use(token)


async def test_it_ends(memory: Memory, clock: Clock) -> None:
    tokens = JoinTokens(memory, clock)
    token = await tokens.create(REVIEWS, 60)
    clock.now += 60
    with pytest.raises(BadToken, match="has ended"):
        await tokens.use(token)
    assert memory.kept == {}


async def test_what_is_kept_is_no_token_and_what_ended_is_swept(memory: Memory, clock: Clock) -> None:
    tokens = JoinTokens(memory, clock)
    token = await tokens.create(REVIEWS, 60)
    assert token not in str(memory.kept)
    clock.now += 61
    await tokens.create(REVIEWS, 60)
    assert len(memory.kept) == 1


async def test_a_token_whose_use_cannot_be_kept_opens_nothing(memory: Memory, clock: Clock) -> None:
    tokens = JoinTokens(memory, clock)
    token = await tokens.create(REVIEWS, 60)
    memory.away = True
    with pytest.raises(OSError, match="disk"):
        await tokens.use(token)
    memory.away = False
    assert await tokens.use(token) == REVIEWS


@pytest.mark.parametrize("ttl", [0, -1, MAX_TTL + 1, float("nan"), float("inf")])
async def test_a_life_that_is_none_is_refused(memory: Memory, clock: Clock, ttl: float) -> None:
    with pytest.raises(ValueError, match="lives from"):
        await JoinTokens(memory, clock).create(REVIEWS, ttl)
