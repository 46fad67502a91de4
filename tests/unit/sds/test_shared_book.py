"""Several replicas with one book: each step is taken once, whoever takes it, and what one signs all trust."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from cryptography import x509

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable
from sds.builtin import BuiltinAuthority
from sds.certificates import fingerprint
from sds.keepers import BookChanged, BookUnavailable, UnreadableBook
from sds.keys import new_key
from sds.outer import leads_to
from sds.rotation import SKEW, Gate, RefusedStep
from sds.sealing import Sealer

TD = TrustDomain("example.org")
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")
OPEN = Gate()
DAY = dt.timedelta(days=1)


class Place:
    """What all share."""

    def __init__(self) -> None:
        self.document: bytes | None = None
        self.version = 0
        self.away = False
        self.writes = 0


class Shared:
    """One replica's keeper of a shared place."""

    where = "the shared place"

    def __init__(self, place: Place) -> None:
        self._place = place
        self._version = 0

    async def load(self) -> bytes | None:
        await asyncio.sleep(0)
        if self._place.away:
            raise BookUnavailable("away")
        self._version = self._place.version if self._place.document is not None else 0
        return self._place.document

    async def save(self, document: bytes) -> None:
        await asyncio.sleep(0)
        if self._place.away:
            raise BookUnavailable("away")
        present = self._place.version if self._place.document is not None else 0
        if present != self._version:
            raise BookChanged(self.where)
        self._place.writes += 1
        self._place.document, self._place.version = document, self._place.writes
        self._version = self._place.version


class Clock:
    def __init__(self) -> None:
        self.now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now


class Replicas:
    def __init__(self, number: int, *, passphrases: tuple[bytes, ...] = ()) -> None:
        self.place, self.clock = Place(), Clock()
        given = passphrases or (b"one passphrase for all",) * number
        self.all = [
            BuiltinAuthority(TD, Shared(self.place), Sealer(passphrase), clock=self.clock) for passphrase in given
        ]

    async def open(self) -> list[BuiltinAuthority]:
        await asyncio.gather(*(one.open() for one in self.all))
        return self.all


async def signer_of(authority: BuiltinAuthority) -> str:
    return (await authority.issue(new_key().public_key, REVIEWS)).authority


async def test_replicas_that_start_together_have_one_authority() -> None:
    replicas = Replicas(5)
    await replicas.open()
    assert len({one.book.active.id for one in replicas.all}) == 1
    assert len({await signer_of(one) for one in replicas.all}) == 1
    assert len({one.bundle().pem() for one in replicas.all}) == 1


async def test_a_rotation_that_one_began_and_did_not_live_to_end_is_ended_by_another() -> None:
    replicas = Replicas(2)
    one, two = await replicas.open()
    old = one.book.active.id
    new = (await one.prepare()).id
    await one.activate(new, Gate(("proxy",)))  # it is asked for; and now the first replica is killed
    await two.refresh()
    assert [slot.id for slot in two.book.trusted()] == [old, new]
    assert await two.tick(Gate(("proxy",))) is None
    step = await two.tick(OPEN)
    assert step is not None
    assert (step.kind, two.book.active.id) == ("activate", new)
    assert await signer_of(two) == new


async def test_steps_that_all_take_at_once_are_taken_once() -> None:
    replicas = Replicas(4)
    await replicas.open()
    replicas.clock.now += dt.timedelta(days=340)  # a next one is due
    for one in replicas.all:
        await one.refresh()
    await asyncio.gather(*(one.tick(OPEN) for one in replicas.all))
    for one in replicas.all:
        await one.refresh()
    assert {tuple((slot.id, slot.state) for slot in one.book.slots) for one in replicas.all} == {
        tuple((slot.id, slot.state) for slot in replicas.all[0].book.slots)
    }
    assert [slot.state for slot in replicas.all[0].book.slots] == ["active", "prepared"]


async def test_an_operators_step_at_one_replica_is_taken_from_what_another_did_meanwhile() -> None:
    one, two = await Replicas(2).open()
    new = (await one.prepare()).id
    await one.activate(new, OPEN)
    newer = (await two.prepare()).id  # it has heard of neither step
    assert [(slot.id, slot.state) for slot in two.book.slots][1:] == [(new, "active"), (newer, "prepared")]
    await one.refresh()
    assert one.book == two.book
    with pytest.raises(RefusedStep, match=r"is active; only an old authority can be tainted"):
        await one.taint(new)


async def test_what_one_signs_with_an_authority_that_another_replaced_lives_no_longer_than_is_known() -> None:
    """The second has not heard of the rotation: it may go on only with what was noted before the rotation."""
    replicas = Replicas(2)
    one, two = await replicas.open()
    await signer_of(two)
    old, new = two.book.active.id, (await one.prepare()).id
    await one.activate(new, OPEN)
    late = await two.issue(new_key().public_key, REVIEWS)
    assert late.authority == old
    known = one.book.slot(old).issued_until
    assert known is not None
    assert late.not_after <= known
    replicas.clock.now += dt.timedelta(hours=2)  # beyond what was noted
    assert await signer_of(two) == new
    # The first, which would revoke it, must wait for that very certificate.
    await one.refresh()
    replicas.clock.now = late.not_after
    assert await one.tick(OPEN) is None
    replicas.clock.now = known + SKEW
    await one.tick(OPEN)
    assert one.book.slot(old).state == "revoked"


async def test_all_certificates_of_all_replicas_are_trusted_by_all_through_rotations_in_any_order() -> None:
    replicas = Replicas(3)
    await replicas.open()
    signed: list[Any] = []
    for turn in range(60):
        actor = replicas.all[turn % 3]
        signed.append(await actor.issue(new_key().public_key, REVIEWS, lifetime=DAY))
        if turn % 5 == 0 and actor.book.prepared is None:
            await actor.refresh()
            if actor.book.prepared is None:
                await actor.prepare()
        for one in replicas.all:  # a bundle goes out before anything is activated: that is what the gate is for
            await one.refresh()
        await replicas.all[(turn + 1) % 3].tick(OPEN)
        if turn % 5 == 2 and (prepared := actor.book.prepared) is not None:
            await actor.activate(prepared.id, OPEN)
        replicas.clock.now += dt.timedelta(hours=1)
        living = [one for one in signed if one.not_after > replicas.clock.now]
        for replica in replicas.all:
            assert all(leads_to(one.chain, replica.bundle().roots) for one in living), turn
    assert len({one.authority for one in signed}) > 5


async def test_while_the_place_is_away_what_was_noted_is_signed_and_no_more() -> None:
    replicas = Replicas(2)
    one, _ = await replicas.open()
    await signer_of(one)
    replicas.place.away = True
    assert await signer_of(one) == one.book.active.id
    with pytest.raises(BookUnavailable):
        await one.prepare()
    replicas.clock.now += dt.timedelta(hours=2)
    with pytest.raises(AuthorityUnavailable, match="has to be noted"):
        await signer_of(one)
    replicas.place.away = False
    assert await signer_of(one) == one.book.active.id


async def test_a_book_that_somebody_removed_is_put_back_and_one_that_was_damaged_is_told_of_and_left() -> None:
    replicas = Replicas(2)
    one, two = await replicas.open()
    kept = replicas.place.document
    replicas.place.document = None
    await asyncio.gather(one.refresh(), two.refresh())
    assert replicas.place.document == kept
    replicas.place.document = b"damaged"
    replicas.place.version += 100
    with pytest.raises(UnreadableBook, match="damaged"):
        await one.refresh()
    with pytest.raises(UnreadableBook, match="damaged"):
        await one.prepare()
    assert replicas.place.document == b"damaged"
    assert one.bundle() == two.bundle()


async def test_a_replica_with_another_passphrase_is_told_and_changes_nothing() -> None:
    replicas = Replicas(2, passphrases=(b"one passphrase for all", b"another passphrase"))
    await replicas.all[0].open()
    with pytest.raises(UnreadableBook, match="the passphrase is another one"):
        await replicas.all[1].open()
    assert replicas.place.writes == 1
    root = x509.load_pem_x509_certificate(replicas.all[0].bundle().roots[0])
    assert fingerprint(root) == replicas.all[0].book.active.id
