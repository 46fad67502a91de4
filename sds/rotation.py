"""How authorities follow each other without a moment in which somebody trusts too little: the decisions, without I/O.

An authority is *prepared* (others learn to trust it; it signs nothing), then *active* (it signs, and it alone), then
*old* (it signs no more; what it signed lives on), perhaps *tainted* (what it signed should be replaced now), and in the
end *revoked* (nobody trusts it; its keys are gone). Two steps can break traffic, and each has a gate:

- active, when a proxy does not yet trust what would be signed: it waits until every proxy that is connected, or was a
  moment ago, has acknowledged the bundle that holds the root. An operator may override that, and after a bound it goes
  on with an alarm;
- revoked, when a certificate that it signed is still valid: it waits until the last of them has ended.

A root leaves the bundle with the last authority under it, so a new intermediate of the same root passes the first gate
at once. A `Book` is all there is to know, and is kept before what it says is done. Time and what is known of the
proxies are arguments; keys are opaque here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

State = Literal["prepared", "active", "old", "tainted", "revoked"]
TRUSTED: Final = ("prepared", "active", "old", "tainted")
# Clocks differ: a certificate that has ended here may be valid elsewhere for a little while.
SKEW: Final = dt.timedelta(minutes=5)
_REMEMBERED: Final = 10
_NEW_EVERY: Final = dt.timedelta(hours=1)


class RefusedStep(Exception):  # noqa: N818 - errors are named by what is true
    """A step that may not be taken now; says why and what may."""


class Slot(msgspec.Struct, frozen=True):
    """One authority. `id` is the fingerprint of the certificate that signs, `root` that of the one that is trusted.

    `chain` is PEM, from the one that signs to the root. `key` and `jwt_key` are sealed, and gone once it is revoked.
    `issued_until`: no certificate that it signed is valid after that. `asked_at`: since when it is to become active.
    """

    id: str
    state: State
    root: str
    chain: str
    key: bytes
    jwt_key: bytes
    jwt_public: str
    made_at: dt.datetime
    changed_at: dt.datetime
    begins_at: dt.datetime
    ends_at: dt.datetime
    asked_at: dt.datetime | None = None
    issued_until: dt.datetime | None = None

    def __repr__(self) -> str:
        return f"Slot({self.id}, {self.state})"

    @property
    def self_signed(self) -> bool:
        """Whether the root itself signs: then a next one can be made without anybody's help."""
        return self.id == self.root

    def living_until(self, now: dt.datetime) -> dt.datetime | None:
        """Until when a certificate of its may be valid; None if none is."""
        if self.issued_until is None or self.issued_until + SKEW <= now:
            return None
        return self.issued_until + SKEW


class Book(msgspec.Struct, frozen=True):
    """All authorities of a trust domain. `request_key` is the sealed key of an intermediate that was asked for."""

    trust_domain: str
    sequence: int
    slots: tuple[Slot, ...]
    request_key: bytes = b""

    def __repr__(self) -> str:
        return f"Book({self.trust_domain}, {self.sequence}, {self.slots})"

    @property
    def active(self) -> Slot:
        """The one that signs; there always is one."""
        return next(slot for slot in self.slots if slot.state == "active")

    @property
    def prepared(self) -> Slot | None:
        """The one that will sign."""
        return next((slot for slot in self.slots if slot.state == "prepared"), None)

    def trusted(self) -> Iterator[Slot]:
        """Those whose roots are in the bundle, oldest first."""
        return (slot for slot in self.slots if slot.state in TRUSTED)

    def slot(self, name: str) -> Slot:
        """The one that an operator names: by its fingerprint or the beginning of it.

        Raises:
            RefusedStep: none, or several.
        """
        found = [slot for slot in self.slots if slot.id == name]
        found = found or [slot for slot in self.slots if name and slot.id.startswith(name)]
        if len(found) != 1:
            known = ", ".join(f"{slot.id} ({slot.state})" for slot in self.slots)
            raise RefusedStep(f"{'no' if not found else 'more than one'} authority is {name!r}; there are {known}")
        return found[0]


class Gate(msgspec.Struct, frozen=True):
    """What is known of the proxies: who has not acknowledged the bundle with the prepared root, as names of nodes.

    `known=False`: it cannot be told yet, since the server has just started, or the bundle is not out yet, or for the
    reason `why`.
    """

    waiting: tuple[str, ...] = ()
    known: bool = True
    why: str = ""

    @property
    def open(self) -> bool:
        """Whether all have it."""
        return self.known and not self.waiting


class Policy(msgspec.Struct, frozen=True):
    """What happens by itself.

    `bound` is how long an authority that is to become active waits for proxies at most. `renew`: whether a self-signed
    one is followed by another before it ends.
    """

    bound: dt.timedelta = dt.timedelta(hours=24)
    renew: bool = True


class Step(msgspec.Struct, frozen=True):
    """What is due. `alarm`: it goes on although proxies are missing, and says which."""

    kind: Literal["prepare", "ask", "activate", "revoke"]
    id: str = ""
    alarm: str = ""


def first(slot: Slot, trust_domain: str, now: dt.datetime) -> Book:
    """The book with its first authority, which is active at once: nobody trusts another one yet."""
    return Book(trust_domain, int(now.timestamp()), (msgspec.structs.replace(slot, state="active", changed_at=now),))


def prepare(book: Book, slot: Slot, now: dt.datetime) -> Book:
    """Spread a new authority.

    Raises:
        RefusedStep: one is prepared already, or this one is known.
    """
    if book.prepared is not None:
        raise RefusedStep(f"{book.prepared.id} is prepared already. Activate it, or revoke it first")
    if any(one.id == slot.id for one in book.slots):
        raise RefusedStep(f"{slot.id} is in the book already")
    if slot.ends_at <= now:
        raise RefusedStep(f"{slot.id} ended at {slot.ends_at.isoformat()}")
    added = msgspec.structs.replace(slot, state="prepared", changed_at=now)
    return _changed(msgspec.structs.replace(book, slots=(*book.slots, added), request_key=b""), now)


def ask(book: Book, name: str, now: dt.datetime) -> Book:
    """Note that an authority is to become active as soon as it may."""
    slot = _prepared(book, name)
    return book if slot.asked_at is not None else _with(book, msgspec.structs.replace(slot, asked_at=now))


def activate(book: Book, name: str, now: dt.datetime, gate: Gate, *, override: bool = False) -> Book:
    """Let a prepared authority sign, and the active one no more.

    Raises:
        RefusedStep: it is not prepared, or its gate is not open and nobody overrides that.
    """
    slot = _prepared(book, name)
    if slot.ends_at <= now:
        raise RefusedStep(f"{slot.id} ended at {slot.ends_at.isoformat()}")
    if not same_root(book, slot) and not gate.open and not override:
        raise RefusedStep(waits_for(gate))
    old = msgspec.structs.replace(book.active, state="old", changed_at=now)
    new = msgspec.structs.replace(slot, state="active", changed_at=now, asked_at=None)
    return _with(_with(book, old), new)


def taint(book: Book, name: str, now: dt.datetime) -> Book:
    """Say that what an authority signed should be replaced now.

    Raises:
        RefusedStep: it is not old. One that is active would go on signing: another has to be activated first.
    """
    slot = book.slot(name)
    if slot.state == "tainted":
        return book
    if slot.state != "old":
        fix = "activate another one first" if slot.state == "active" else "revoke it: it has signed nothing"
        raise RefusedStep(f"{slot.id} is {slot.state}; only an old authority can be tainted. Instead, {fix}")
    return _changed(_with(book, msgspec.structs.replace(slot, state="tainted", changed_at=now)), now)


def revoke(book: Book, name: str, now: dt.datetime, *, override: bool = False) -> Book:
    """Trust an authority no more, and forget its keys.

    Raises:
        RefusedStep: it is active, or a certificate that it signed may still be valid and nobody overrides that.
    """
    slot = book.slot(name)
    if slot.state == "revoked":
        return book
    if slot.state == "active":
        raise RefusedStep(f"{slot.id} is active: revoked, it would leave nobody to sign. Activate another one first")
    living = slot.living_until(now)
    if living is not None and not override and not _root_stays(book, slot):
        raise RefusedStep(
            f"what {slot.id} signed may be valid until {living.isoformat(timespec='seconds')}:"
            " its holder would be refused by everybody. Wait, or taint it so that it is replaced"
        )
    gone = msgspec.structs.replace(slot, state="revoked", changed_at=now, key=b"", jwt_key=b"", asked_at=None)
    return _changed(_forgetting(_with(book, gone)), now)


def reserve(book: Book, end: dt.datetime) -> Book:
    """Note that the active authority will have signed a certificate which is valid until `end`, before it does.

    Notes an hour more than is asked for, so that it is written once an hour and not with each certificate; the same
    book if it says that already.
    """
    slot = book.active
    end = min(end, slot.ends_at)
    if slot.issued_until is not None and slot.issued_until >= end:
        return book
    return _with(book, msgspec.structs.replace(slot, issued_until=min(end + _NEW_EVERY, slot.ends_at)))


def due(book: Book, now: dt.datetime, gate: Gate, policy: Policy) -> Step | None:
    """What is to be done now without anybody asking; one step, so that each is kept before the next."""
    for slot in book.slots:
        if slot.state in {"old", "tainted"} and (slot.living_until(now) is None or slot.ends_at + SKEW <= now):
            return Step("revoke", slot.id)
    active, prepared = book.active, book.prepared
    life = active.ends_at - active.begins_at
    if prepared is None:
        near = now >= active.ends_at - min(life / 2, dt.timedelta(days=30))
        return Step("prepare") if near and active.self_signed and policy.renew else None
    if prepared.asked_at is None:
        near = now >= active.ends_at - min(life / 6, dt.timedelta(days=7))
        return Step("ask", prepared.id) if near and policy.renew else None
    if gate.open or same_root(book, prepared):
        return Step("activate", prepared.id)
    latest = min(prepared.asked_at + policy.bound, active.ends_at - life / 12)
    return Step("activate", prepared.id, waits_for(gate)) if now >= latest else None


def same_root(book: Book, slot: Slot) -> bool:
    """Whether everybody trusts its root already, because the active authority has the same one."""
    return book.active.root == slot.root


def waits_for(gate: Gate) -> str:
    """For people: what a gate waits for."""
    if not gate.known:
        return (
            gate.why
            or "it is not known yet which proxies trust the new root: the bundle goes out, or proxies are coming back"
        )
    shown = ", ".join(gate.waiting[:5])
    more = f" and {len(gate.waiting) - 5} more" if len(gate.waiting) > 5 else ""
    return f"{len(gate.waiting)} proxies have not acknowledged the new root: {shown}{more}"


def _prepared(book: Book, name: str) -> Slot:
    slot = book.slot(name)
    if slot.state != "prepared":
        raise RefusedStep(f"{slot.id} is {slot.state}; only a prepared authority can become active")
    return slot


def _root_stays(book: Book, slot: Slot) -> bool:
    return any(other.root == slot.root and other.id != slot.id for other in book.trusted())


def _with(book: Book, slot: Slot) -> Book:
    return msgspec.structs.replace(book, slots=tuple(slot if one.id == slot.id else one for one in book.slots))


def _forgetting(book: Book) -> Book:
    gone = [slot.id for slot in book.slots if slot.state == "revoked"]
    forgotten = set(gone[:-_REMEMBERED])
    return msgspec.structs.replace(book, slots=tuple(slot for slot in book.slots if slot.id not in forgotten))


def touched(book: Book, now: dt.datetime) -> Book:
    """The same, where what is trusted beside its authorities has changed: the bundle is another one."""
    return _changed(book, now)


def _changed(book: Book, now: dt.datetime) -> Book:
    """The bundle is another one. Its number grows with the time, so that a book from a backup does not repeat one."""
    return msgspec.structs.replace(book, sequence=max(book.sequence + 1, int(now.timestamp())))
