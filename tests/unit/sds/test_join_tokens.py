"""Join tokens: good once, for one identity, for a while; and what is kept of them opens nothing."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from mesh.spiffe import SpiffeId
from sds.join_tokens import MAX_BYTES, MAX_TOKENS, MAX_TTL, BadToken, Grant, JoinTokens, is_join_token
from sds.keepers import BookChanged, BookUnavailable, UnreadableBook

REVIEWS = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/reviews")


class Place:
    """One document that replicas share, written by check-and-set alone; each of them looks at it with an `end`."""

    def __init__(self) -> None:
        self.document: bytes | None = None
        self.version = 0
        self.away = False

    def end(self) -> End:
        return End(self)


class End:
    where = "the place"

    def __init__(self, place: Place) -> None:
        self.place = place
        self.version = -1

    async def load(self) -> bytes | None:
        await asyncio.sleep(0)
        self.version = self.place.version
        return self.place.document

    async def save(self, document: bytes) -> None:
        await asyncio.sleep(0)
        if self.place.away:
            raise BookUnavailable("the disk is full")
        if self.version != self.place.version:
            raise BookChanged
        self.place.document = document
        self.place.version = self.version = self.version + 1


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_token_is_good_once(place: Place, clock: Clock) -> None:
    tokens = JoinTokens(place.end(), clock)
    token = await tokens.create(REVIEWS, 60)
    assert is_join_token(token)
    assert await tokens.use(token) == REVIEWS
    with pytest.raises(BadToken, match="unknown, was used"):
        await tokens.use(token)


async def test_of_many_who_use_it_at_once_one_gets_in(place: Place, clock: Clock) -> None:
    tokens = JoinTokens(place.end(), clock)
    token = await tokens.create(REVIEWS, 60)
    answers = await asyncio.gather(*(tokens.use(token) for _ in range(20)), return_exceptions=True)
    assert answers.count(REVIEWS) == 1
    assert sum(isinstance(answer, BadToken) for answer in answers) == 19


async def test_it_survives_a_restart_and_its_use_too(place: Place, clock: Clock) -> None:
    token = await JoinTokens(place.end(), clock).create(REVIEWS, 60)
    assert await JoinTokens(place.end(), clock).use(token) == REVIEWS
    with pytest.raises(BadToken):
        await JoinTokens(place.end(), clock).use(token)


async def test_of_many_replicas_at_which_it_is_used_at_once_one_lets_it_in(place: Place, clock: Clock) -> None:
    token = await JoinTokens(place.end(), clock).create(REVIEWS, 60)
    others = [await JoinTokens(place.end(), clock).create(REVIEWS, 60) for _ in range(3)]
    replicas = [JoinTokens(place.end(), clock) for _ in range(5)]
    uses = [replica.use(one) for one in (token, *others) for replica in replicas]
    answers = await asyncio.gather(*uses, return_exceptions=True)
    for start in range(0, len(answers), len(replicas)):
        each = answers[start : start + len(replicas)]
        assert each.count(REVIEWS) == 1
        assert sum(isinstance(answer, BadToken) for answer in each) == 4


async def test_it_ends(place: Place, clock: Clock) -> None:
    tokens = JoinTokens(place.end(), clock)
    token = await tokens.create(REVIEWS, 60)
    clock.now += 60
    with pytest.raises(BadToken, match="has ended"):
        await tokens.use(token)


async def test_what_is_kept_is_no_token_and_what_ended_is_swept(place: Place, clock: Clock) -> None:
    tokens = JoinTokens(place.end(), clock)
    token = await tokens.create(REVIEWS, 60)
    assert token.removeprefix("fljoin_") not in str(place.document)
    clock.now += 61
    await tokens.create(REVIEWS, 60)
    assert str(place.document).count(str(REVIEWS)) == 1


async def test_more_than_the_place_can_hold_are_not_made_and_all_fit_there(place: Place, clock: Clock) -> None:
    tokens = JoinTokens(place.end(), clock)
    place.document = msgspec.json.encode({f"{number:064}": Grant(str(REVIEWS), 2_000) for number in range(MAX_TOKENS)})
    with pytest.raises(ValueError, match="2000 unused join tokens"):
        await tokens.create(REVIEWS, 60)
    assert len(place.document) < 512_000
    long = SpiffeId.parse(f"spiffe://{'d' * 200}/ns/{'n' * 63}/sa/{'a' * 253}")
    grants = {f"{number:064}": Grant(str(long), 2_000.0) for number in range(1_000)}
    while len(msgspec.json.encode(grants)) > MAX_BYTES:
        grants.popitem()
    place.document = before = msgspec.json.encode(grants)
    with pytest.raises(ValueError, match="long names"):
        await tokens.create(long, 60)
    assert place.document == before
    assert MAX_BYTES < 512_000


async def test_a_token_whose_use_cannot_be_kept_opens_nothing(place: Place, clock: Clock) -> None:
    tokens = JoinTokens(place.end(), clock)
    token = await tokens.create(REVIEWS, 60)
    place.away = True
    with pytest.raises(BookUnavailable, match="disk"):
        await tokens.use(token)
    place.away = False
    assert await tokens.use(token) == REVIEWS


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"spiffe_id": "x"}}'])
async def test_garbage_in_their_place_is_told_and_not_written_over(place: Place, clock: Clock, document: bytes) -> None:
    place.document = document
    tokens = JoinTokens(place.end(), clock)
    with pytest.raises(UnreadableBook, match=r"no join tokens\. Fix: remove it"):
        await tokens.create(REVIEWS, 60)
    with pytest.raises(UnreadableBook):
        await tokens.use("fljoin_any")
    assert place.document == document


@pytest.mark.parametrize("ttl", [0, -1, MAX_TTL + 1, float("nan"), float("inf")])
async def test_a_life_that_is_none_is_refused(place: Place, clock: Clock, ttl: float) -> None:
    with pytest.raises(ValueError, match="lives from"):
        await JoinTokens(place.end(), clock).create(REVIEWS, ttl)
