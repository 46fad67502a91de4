"""Keys for JWT-SVIDs beside an authority that is not ours: shared, sealed, published before they sign, rotated."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import RefusedIssue
from sds.builtin import in_memory
from sds.bundle import TrustBundle, read_jwks, write_jwks
from sds.jwt_authority import KEY_LIFE, SPREAD, JwtAuthority, WithJwtKeys, spread_gate
from sds.jwt_svid import DEFAULT_LIFE, InvalidToken, JwtSvid, validate
from sds.keepers import MemoryKeeper, UnreadableBook
from sds.rotation import SKEW, RefusedStep
from sds.sealing import Sealer
from tests.unit.sds.test_shared_book import Clock, Place, Shared

TD = TrustDomain("example.org")
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")
HOUR = dt.timedelta(hours=1)


class Replicas:
    """Two, with one place for their keys."""

    def __init__(self) -> None:
        self.place, self.clock = Place(), Clock()
        self.one, self.two = (self.started() for _ in range(2))

    def started(self, passphrase: bytes = b"one passphrase for all") -> JwtAuthority:
        return JwtAuthority(TD, Shared(self.place), Sealer(passphrase), clock=self.clock)

    async def tick(self, at: JwtAuthority) -> str:
        await at.refresh()
        step = await at.tick(spread_gate(at.book, self.clock.now))
        return step.kind if step is not None else ""

    def judged(self, token: str, bundle: TrustBundle) -> JwtSvid:
        return validate(token, {TD: bundle}, audience="orders", now=self.clock.now)


@pytest.fixture
async def replicas() -> Replicas:
    made = Replicas()
    await asyncio.gather(made.one.open(), made.two.open())
    return made


async def test_a_token_that_one_replica_signs_is_judged_by_what_the_other_publishes(replicas: Replicas) -> None:
    token = await replicas.one.noted_jwt(REVIEWS, ("orders",))
    bundle = read_jwks(write_jwks(replicas.two.bundle()), TD)
    assert replicas.judged(token, bundle).identity == REVIEWS
    assert bundle.roots == ()
    with pytest.raises(RefusedIssue, match="not of the trust domain"):
        await replicas.one.noted_jwt(SpiffeId.parse("spiffe://another.org/ns/shop/sa/reviews"), ("orders",))


async def test_its_keys_are_sealed_and_useless_without_the_passphrase(replicas: Replicas) -> None:
    kept = replicas.place.document or b""
    assert b"PRIVATE KEY" not in kept
    assert b"PUBLIC KEY" in kept
    with pytest.raises(UnreadableBook, match="the passphrase is another one"):
        await replicas.started(b"another passphrase").open()


async def test_a_key_is_followed_by_one_that_was_published_for_days_and_goes_when_its_last_token_has_ended(
    replicas: Replicas,
) -> None:
    one, two = replicas.one, replicas.two
    first = one.book.active.id
    token = ""
    seen: list[tuple[str, dt.timedelta]] = []
    begin = replicas.clock.now
    while len(seen) < 4:
        kinds = [await replicas.tick(at) for at in (one, two)]
        seen += [(kind, replicas.clock.now - begin) for kind in kinds if kind]
        if seen and not token:
            token = await one.noted_jwt(REVIEWS, ("orders",))
        replicas.clock.now += HOUR
    assert [kind for kind, _ in seen] == ["prepare", "ask", "activate", "revoke"]
    prepared, asked, active, revoked = (at for _, at in seen)
    assert (prepared, asked, active) == (KEY_LIFE / 2, KEY_LIFE - KEY_LIFE / 6, KEY_LIFE - KEY_LIFE / 6)
    assert active + DEFAULT_LIFE + SKEW <= revoked <= active + 3 * HOUR
    replicas.clock.now = begin + active
    with pytest.raises(InvalidToken, match="is none of"):
        replicas.judged(token, two.bundle())
    assert [slot.state for slot in two.book.slots] == ["revoked", "active"]
    assert two.book.slots[0].jwt_key == b""
    assert first not in {key.kid for key in two.bundle().jwt_keys}


async def test_a_token_outlives_the_step_to_another_key(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    token = await one.noted_jwt(REVIEWS, ("orders",))
    new = await two.prepare()
    await two.activate(new.id, spread_gate(two.book, replicas.clock.now))
    assert two.book.active.id != new.id, "it is not published long enough"
    replicas.clock.now += SPREAD - dt.timedelta(seconds=1)
    assert await replicas.tick(two) == ""
    replicas.clock.now += dt.timedelta(seconds=1)
    token = await one.noted_jwt(REVIEWS, ("orders",))
    assert await replicas.tick(two) == "activate"
    await one.refresh()
    assert replicas.judged(token, one.bundle()).identity == REVIEWS
    by_new = await one.noted_jwt(REVIEWS, ("orders",))
    assert by_new != token
    assert [key.kid for key in one.bundle().jwt_keys][-1] == new.id
    only_new = TrustBundle(TD, (), 1, jwt_keys=one.bundle().jwt_keys[-1:])
    assert replicas.judged(by_new, only_new).identity == REVIEWS


async def test_a_key_that_was_stolen_is_out_of_the_bundle_at_once_where_an_operator_overrides(
    replicas: Replicas,
) -> None:
    one = replicas.one
    stolen = one.book.active.id
    token = await one.noted_jwt(REVIEWS, ("orders",))
    await one.activate((await one.prepare()).id, spread_gate(one.book, replicas.clock.now), override=True)
    with pytest.raises(RefusedStep, match="may be valid until"):
        await one.revoke(stolen)
    await one.revoke(stolen, override=True)
    await replicas.two.refresh()
    with pytest.raises(InvalidToken, match="is none of"):
        replicas.judged(token, replicas.two.bundle())


async def test_beside_an_authority_it_is_one_bundle_whose_number_grows_with_every_change_of_either() -> None:
    clock = Clock()
    certificates = in_memory(TD, clock=clock)
    keys = JwtAuthority(TD, MemoryKeeper(), Sealer(b"a passphrase of some length"), clock=clock)
    await keys.open()
    both = WithJwtKeys(certificates, keys)
    told: list[TrustBundle] = []
    both.listen(lambda: told.append(both.bundle()))
    first = both.bundle()
    assert (first.roots, first.jwt_keys) == (certificates.bundle().roots, keys.bundle().jwt_keys)
    for change in (keys.prepare, certificates.prepare, keys.prepare):
        slot = keys.book.prepared
        if slot is not None:
            await keys.revoke(slot.id)
        await change()
    numbers = [first.sequence, *(one.sequence for one in told)]
    assert numbers == sorted(set(numbers))
    assert len(told) == 4
    assert (both.bundle().roots, both.bundle().jwt_keys) == (certificates.bundle().roots, keys.bundle().jwt_keys)
    assert len(both.bundle().roots) == 2
