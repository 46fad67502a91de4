"""Authorities kept in a book, of which the active one signs JWT-SVIDs; they follow each other by `sds/rotation.py`.

The built-in authority (`builtin.py`) is this with certificates beside. Where somebody else signs certificates, this is
all of it (`WithJwtKeys` puts the two together): each key is published for days before it signs.

What a step changes is kept first and done then: a process that is killed between the two comes back in the new state,
one that is killed before in the old. Steps are one at a time; what is signed meanwhile waits for none.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization

from mesh.spiffe import SpiffeId, TrustDomain
from sds import rotation
from sds.authority import Authority, AuthorityUnavailable, Issued
from sds.bundle import REFRESH_HINT, JwtKey, TrustBundle
from sds.jwt_svid import DEFAULT_LIFE, sign
from sds.keepers import BookChanged, BookUnavailable, Keeper, UnreadableBook, read_book, write_book
from sds.keys import SigningKey, UnusableKey, new_key, read_key
from sds.lifetimes import check_identity, utc_now
from sds.rotation import Book, Gate, Policy, RefusedStep, Slot
from sds.sealing import Sealer, SealError

KEY_LIFE: Final = dt.timedelta(days=30)
"""Of a key that signs JWT-SVIDs alone. The next one is made after half of it, and signs five days before its end."""
SPREAD: Final = 2 * dt.timedelta(seconds=REFRESH_HINT)
"""How long such a key is published before it signs, also where an operator is in a hurry."""
_ATTEMPTS: Final = 20
_log = logging.getLogger(__name__)


def purpose(trust_domain: TrustDomain, what: str, name: str = "") -> str:
    """What a key is sealed for."""
    return f"{trust_domain}/{what}/{name}"


class SealedKey(msgspec.Struct, frozen=True):
    """A new key for JWT-SVIDs as a slot holds it: the private half sealed, the public half PEM."""

    key: bytes
    public: str


def new_jwt_key(trust_domain: TrustDomain, sealer: Sealer, name: str = "") -> tuple[str, SealedKey]:
    """A new key for JWT-SVIDs, for the authority of a name or, without one, one that is named after its public half."""
    key = new_key("ecdsa-p256")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key.public_bytes(serialization.Encoding.PEM, form)
    name = name or hashlib.sha256(public).hexdigest()[:16]
    return name, SealedKey(sealer.seal(key.pem().pem, purpose(trust_domain, "jwt", name)), public.decode())


class JwtAuthority:
    """`open` comes first."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        keeper: Keeper,
        sealer: Sealer,
        *,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        refresh_hint: int = REFRESH_HINT,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._trust_domain = trust_domain
        self._keeper = keeper
        self._sealer = sealer
        self._policy = policy
        self._refresh_hint = refresh_hint
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._unsure = False
        self._book: Book | None = None
        self._jwt: tuple[str, SigningKey] | None = None
        self._bundle: TrustBundle | None = None

    async def open(self, *, may_begin: bool = True) -> None:
        """Read what is kept; make the first authority where nothing is, if that may be.

        Raises:
            UnreadableBook: it is damaged, or its passphrase is another one.
            BookUnavailable: the place is away.
        """
        document = await self._keeper.load()
        now = self._clock()
        if document is None and may_begin:
            try:
                await self._keep(rotation.first(self._made(now), self._trust_domain.name, now))
            except BookChanged:
                document = await self._keeper.load()  # another replica was first, and its authority is everybody's
                self._unsure = False
            else:
                return
        if document is None:
            raise UnreadableBook(
                f"{self._keeper.where}: no authority is kept there. Fix: make one with `fairlead ca init`"
            )
        self._take(read_book(document, self._keeper.where, self._trust_domain))

    async def refresh(self) -> None:
        """Take what another replica has kept since; put back what somebody removed.

        Raises:
            UnreadableBook: it was damaged; what was known stands.
            BookUnavailable: the place is away.
        """
        async with self._lock:
            self._unsure = True
            document = await self._keeper.load()
            if document is None:
                with contextlib.suppress(BookChanged):
                    await self._keeper.save(write_book(self.book))
                    _log.warning("%s: the authorities kept there were removed, and are put back", self._keeper.where)
                return
            book = read_book(document, self._keeper.where, self._trust_domain)
            if book != self._book:
                self._take(book)
            self._unsure = False

    def begin(self) -> None:
        """Make the first authority without keeping it."""
        now = self._clock()
        self._take(rotation.first(self._made(now), self._trust_domain.name, now))

    # -- tokens, and what vouches for them --------------------------------------------------------------------------

    def issue_jwt(self, identity: SpiffeId, audiences: tuple[str, ...], lifetime: dt.timedelta = DEFAULT_LIFE) -> str:
        """A JWT-SVID; see `sds.jwt_svid.sign`."""
        check_identity(identity, self._trust_domain)
        assert self._jwt is not None
        kid, key = self._jwt
        return sign(key, kid, identity, audiences, now=self._clock(), lifetime=lifetime)

    async def noted_jwt(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:
        """The same, and its end noted first, so that its authority is not revoked before.

        Raises:
            RefusedIssue: as there.
            AuthorityUnavailable: it cannot be noted now.
        """
        await self._reserve(self._clock() + DEFAULT_LIFE)
        return self.issue_jwt(identity, audiences)

    def bundle(self) -> TrustBundle:
        """What vouches for what is signed here; see `sds.authority.Authority.bundle`."""
        assert self._bundle is not None
        return self._bundle

    def listen(self, changed: Callable[[], None]) -> None:
        """See `sds.authority.Authority.listen`."""
        self._listeners.append(changed)

    # -- rotation -----------------------------------------------------------------------------------------------------

    @property
    def book(self) -> Book:
        """All authorities."""
        assert self._book is not None
        return self._book

    @property
    def policy(self) -> Policy:
        """What happens by itself."""
        return self._policy

    async def prepare(self) -> Slot:
        """Spread a new authority.

        Raises:
            RefusedStep: it cannot be; says why.
            BookUnavailable: it cannot be kept.
        """
        now = self._clock()
        made = await asyncio.to_thread(self._made, now)
        return await self._prepared(lambda book: rotation.prepare(book, made, now))

    async def _prepared(self, step: Callable[[Book], Book]) -> Slot:
        await self._change(step)
        slot = self.book.prepared
        assert slot is not None
        _log.info("authority %s is prepared, root %s", slot.id, slot.root)
        return slot

    async def activate(self, name: str, gate: Gate, *, override: bool = False) -> Slot:
        """Let a prepared authority sign; where its gate is closed, note that it is to, as soon as it may.

        `sds.rotation` says what is refused; what is returned says by its state whether it signs.
        """

        def turned(book: Book) -> Book:
            slot = book.slot(name)
            if slot.state == "prepared" and not override and not gate.open and not rotation.same_root(book, slot):
                return rotation.ask(book, name, self._clock())
            return rotation.activate(book, name, self._clock(), gate, override=override)

        whole = self.book.slot(name).id
        await self._change(turned)
        slot = self.book.slot(whole)
        if slot.state == "active" and override and not gate.open:
            _log.warning("authority %s signs now, by override, although %s", slot.id, rotation.waits_for(gate))
        return slot

    async def taint(self, name: str) -> Slot:
        """See `sds.rotation.taint`."""
        await self._change(lambda book: rotation.taint(book, name, self._clock()))
        return self.book.slot(name)

    async def revoke(self, name: str, *, override: bool = False) -> Slot:
        """See `sds.rotation.revoke`."""
        whole = self.book.slot(name).id
        await self._change(lambda book: rotation.revoke(book, whole, self._clock(), override=override))
        _log.info("authority %s is revoked", whole)
        return self.book.slot(whole)

    async def tick(self, gate: Gate) -> rotation.Step | None:
        """Do what is due by itself: one step. Gives what was done."""
        book = self.book
        step = rotation.due(book, self._clock(), gate, self.policy)
        if step is None:
            return None
        try:
            await self._take_step(step, gate)
        except RefusedStep:
            if self.book == book:
                raise
            # Another replica took it, or another one, meanwhile: what is due now is asked anew.
        return step

    async def _take_step(self, step: rotation.Step, gate: Gate) -> None:
        match step.kind:
            case "prepare":
                await self.prepare()
            case "ask":
                await self._change(lambda book: rotation.ask(book, step.id, self._clock()))
            case "activate":
                if step.alarm:
                    _log.error("authority %s signs now although %s: it has waited long enough", step.id, step.alarm)
                await self.activate(step.id, gate, override=bool(step.alarm))
            case "revoke":
                await self.revoke(step.id)

    # -- what is kept ---------------------------------------------------------------------------------------------

    async def _reserve(self, end: dt.datetime) -> None:
        """Keep note that a certificate lives until `end`, before it is signed."""
        if rotation.reserve(self.book, end) is not self.book:
            try:
                await self._change(lambda book: rotation.reserve(book, end))
            except (BookUnavailable, UnreadableBook) as error:
                raise AuthorityUnavailable(f"what is signed has to be noted, and cannot be: {error}") from None

    @contextlib.asynccontextmanager
    async def _step(self) -> AsyncIterator[None]:
        """One step at a time. After one of which it is not known whether it was kept, what is kept counts."""
        async with self._lock:
            if self._unsure:
                document = await self._keeper.load()
                if document is not None:
                    self._take(read_book(document, self._keeper.where, self._trust_domain))
                self._unsure = False
            yield

    async def _change(self, step: Callable[[Book], Book]) -> None:
        """Take a step from the present book; where another replica was first, from the one that it made.

        Raises:
            RefusedStep: as the step.
            BookUnavailable, UnreadableBook: it cannot be kept.
        """
        for _ in range(_ATTEMPTS):
            async with self._step():
                with contextlib.suppress(BookChanged):
                    await self._keep(step(self.book))
                    return
        raise BookUnavailable(f"{self._keeper.where}: others change the authorities faster than this one can")

    async def _keep(self, book: Book) -> None:
        """Keep a book, and from then on do as it says."""
        if book is not self._book:
            use = self._opened(book)
            self._unsure = True
            await self._keeper.save(write_book(book))
            self._unsure = False
            self._apply(book, use)

    def _take(self, book: Book) -> None:
        self._apply(book, self._opened(book))

    def _opened(self, book: Book) -> Callable[[], None]:
        """Open the keys of the active authority, before anything is changed; what is given puts them to use.

        Raises:
            UnreadableBook: one cannot be opened.
        """
        slot = book.active
        if self._jwt is not None and self._jwt[0] == slot.id:
            return lambda: None
        try:
            jwt = read_key(self._sealer.open(slot.jwt_key, purpose(self._trust_domain, "jwt", slot.id)))
        except (SealError, UnusableKey) as error:
            raise self._unusable(slot, error) from None

        def use() -> None:
            self._jwt = slot.id, jwt

        return use

    def _unusable(self, slot: Slot, error: Exception) -> UnreadableBook:
        return UnreadableBook(f"{self._keeper.where}: the key of authority {slot.id} cannot be used: {error}")

    def _apply(self, book: Book, use: Callable[[], None]) -> None:
        self._book = book
        use()
        bundle = self._published(book)
        if bundle != self._bundle:
            self._bundle = bundle
            for changed in self._listeners:
                changed()

    def _published(self, book: Book) -> TrustBundle:
        """What to trust by a book."""
        keys = tuple(JwtKey(slot.id, slot.jwt_public.encode()) for slot in book.trusted())
        return TrustBundle(self._trust_domain, (), book.sequence, self._refresh_hint, keys)

    def _made(self, now: dt.datetime) -> Slot:
        """A new authority: of a key for JWT-SVIDs and nothing else."""
        name, jwt = new_jwt_key(self._trust_domain, self._sealer)
        return Slot(
            id=name,
            state="prepared",
            root=name,
            chain="",
            key=b"",
            jwt_key=jwt.key,
            jwt_public=jwt.public,
            made_at=now,
            changed_at=now,
            begins_at=now,
            ends_at=now + KEY_LIFE,
        )


def spread_gate(book: Book, now: dt.datetime) -> Gate:
    """The gate of a key that signs JWT-SVIDs alone: whoever judges tokens has had the time to look at the bundle."""
    known = book.prepared is None or now >= book.prepared.changed_at + SPREAD
    return Gate(known=known, why=f"a key for JWT-SVIDs is published for {SPREAD} before it signs")


class WithJwtKeys:
    """An authority that signs certificates and vouches for none but these, with our keys for JWT-SVIDs in its bundle.

    See `sds.authority.Authority`. Both are open.
    """

    def __init__(self, certificates: Authority, keys: JwtAuthority) -> None:
        self._certificates = certificates
        self._keys = keys
        self._listeners: list[Callable[[], None]] = []
        self._bundle = self._joined(0)
        certificates.listen(self._changed)
        keys.listen(self._changed)

    async def issue(
        self,
        public_key: Any,
        identity: SpiffeId,
        *,
        lifetime: dt.timedelta | None = None,
        dns_names: tuple[str, ...] = (),
        request: bytes | None = None,
    ) -> Issued:
        """See `Authority.issue`."""
        return await self._certificates.issue(
            public_key, identity, lifetime=lifetime, dns_names=dns_names, request=request
        )

    def bundle(self) -> TrustBundle:
        """See `Authority.bundle`."""
        return self._bundle

    def listen(self, changed: Callable[[], None]) -> None:
        """See `Authority.listen`."""
        self._listeners.append(changed)

    def _changed(self) -> None:
        self._bundle = self._joined(self._bundle.sequence + 1)
        for changed in self._listeners:
            changed()

    def _joined(self, least: int) -> TrustBundle:
        """Both bundles in one, whose number grows with every change of either."""
        own, keys = self._certificates.bundle(), self._keys.bundle()
        sequence = max(own.sequence, keys.sequence, least)
        return msgspec.structs.replace(own, sequence=sequence, jwt_keys=keys.jwt_keys)
