"""The built-in authority: signs with keys of its own, and lets authorities follow each other (`sds/rotation.py`).

What a step changes is kept first and done then: a process that is killed between the two comes back in the new state,
one that is killed before in the old. Steps are one at a time; certificates are issued meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mesh.spiffe import SpiffeId, TrustDomain
from sds import rotation
from sds.authority import AuthorityUnavailable, Issued
from sds.bundle import REFRESH_HINT, JwtKey, TrustBundle
from sds.certificates import (
    Signer,
    UnusableAuthority,
    fingerprint,
    intermediate_request,
    new_root,
    read_signer,
    to_pem,
)
from sds.jwt_svid import DEFAULT_LIFE, sign
from sds.keepers import BookChanged, BookUnavailable, Keeper, MemoryKeeper, UnreadableBook, read_book, write_book
from sds.keys import KeyType, SigningKey, UnusableKey, new_key, read_key
from sds.lifetimes import Lifetimes, check_identity
from sds.rotation import Book, Gate, Policy, RefusedStep, Slot
from sds.sealing import Sealer, SealError

ROOT_LIFE: Final = dt.timedelta(days=365)
_ATTEMPTS: Final = 20
_log = logging.getLogger(__name__)


def utc_now() -> dt.datetime:
    """The time."""
    return dt.datetime.now(dt.UTC)


class Making(msgspec.Struct, frozen=True):
    """How authorities are made. `outside`: they are not, but taken from files that somebody else renews (`adopt`)."""

    key_type: KeyType = "ecdsa-p256"
    root_life: dt.timedelta = ROOT_LIFE
    refresh_hint: int = REFRESH_HINT
    policy: Policy = Policy()
    outside: bool = False


def new_slot(signer: Signer, trust_domain: TrustDomain, sealer: Sealer, now: dt.datetime) -> Slot:
    """An authority as it is kept, with a key of its own for JWT-SVIDs: one key signs one kind of document."""
    jwt = new_key("ecdsa-p256")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return Slot(
        id=signer.id,
        state="prepared",
        root=fingerprint(signer.root),
        chain=b"".join(to_pem(one) for one in (*signer.chain, signer.root)).decode(),
        key=sealer.seal(signer.key.pem().pem, _purpose(trust_domain, "x509", signer.id)),
        jwt_key=sealer.seal(jwt.pem().pem, _purpose(trust_domain, "jwt", signer.id)),
        jwt_public=jwt.public_key.public_bytes(serialization.Encoding.PEM, form).decode(),
        made_at=now,
        changed_at=now,
        begins_at=signer.certificate.not_valid_before_utc,
        ends_at=signer.ends_at,
    )


def _purpose(trust_domain: TrustDomain, what: str, name: str = "") -> str:
    return f"{trust_domain}/{what}/{name}"


class BuiltinAuthority:
    """See `sds.authority.Authority`; `open` comes first."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        keeper: Keeper,
        sealer: Sealer,
        *,
        making: Making = Making(),  # noqa: B008 - frozen
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - frozen
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._trust_domain = trust_domain
        self._keeper = keeper
        self._sealer = sealer
        self._making = making
        self._lifetimes = lifetimes
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._unsure = False
        self._roots: tuple[bytes, ...] = ()
        self._book: Book | None = None
        self._signer: Signer | None = None
        self._jwt: tuple[str, SigningKey] | None = None
        self._bundle: TrustBundle | None = None
        self.issued = 0

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
                await self._keep(rotation.first(self._self_signed(now), self._trust_domain.name, now))
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
        self._take(rotation.first(self._self_signed(now), self._trust_domain.name, now))

    # -- sds.authority.Authority ------------------------------------------------------------------------------------

    async def issue(
        self,
        public_key: Any,
        identity: SpiffeId,
        *,
        lifetime: dt.timedelta | None = None,
        dns_names: tuple[str, ...] = (),
        request: bytes | None = None,  # noqa: ARG002 - who asks has judged it; the key is all that is needed of it
    ) -> Issued:
        """See `Authority.issue`."""
        check_identity(identity, self._trust_domain)
        granted = self._lifetimes.granted(lifetime)
        now = self._clock()
        await self._reserve(now + granted)
        assert self._signer is not None
        # Nothing waits between the reservation and this: it is the active one's that signs.
        found = self._signer.issue(public_key, identity, now=now, lifetime=granted, dns_names=dns_names)
        self.issued += 1
        return found

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
        """See `Authority.bundle`."""
        assert self._bundle is not None
        return self._bundle

    def listen(self, changed: Callable[[], None]) -> None:
        """See `Authority.listen`."""
        self._listeners.append(changed)

    # -- rotation -----------------------------------------------------------------------------------------------

    @property
    def book(self) -> Book:
        """All authorities."""
        assert self._book is not None
        return self._book

    @property
    def policy(self) -> Policy:
        """What happens by itself."""
        return self._making.policy

    async def request(self) -> bytes:
        """A request for an intermediate, for an offline root to sign. Its key is kept; the latest request counts."""
        self._refuse_outside()
        key = new_key(self._making.key_type)
        sealed = self._sealer.seal(key.pem().pem, _purpose(self._trust_domain, "request"))
        await self._change(lambda book: msgspec.structs.replace(book, request_key=sealed))
        return intermediate_request(self._trust_domain, key)

    async def prepare(self, chain: bytes | None = None) -> Slot:
        """Spread a new authority: a self-signed one, or the chain that an offline root made for our latest `request`.

        Raises:
            RefusedStep: it cannot be; says why.
            BookUnavailable: it cannot be kept.
        """
        self._refuse_outside()
        now = self._clock()
        made = await asyncio.to_thread(self._self_signed, now) if chain is None else None

        def prepared(book: Book) -> Book:
            if made is not None and not book.active.self_signed:
                raise RefusedStep(
                    "the root's key is not here, so a new authority needs a chain that it signed:"
                    " `fairlead ca request`, `fairlead ca sign`, then `fairlead ca prepare --chain FILE`"
                )
            return rotation.prepare(book, made or self._from_chain(book, chain or b"", now), now)

        await self._change(prepared)
        slot = self.book.prepared
        assert slot is not None
        _log.info("authority %s is prepared, root %s", slot.id, slot.root)
        return slot

    def _refuse_outside(self) -> None:
        if self._making.outside:
            raise RefusedStep(
                "this authority is renewed by somebody else, as files: what is new there is prepared by itself"
            )

    async def adopt(self, signer: Signer, roots: tuple[bytes, ...]) -> None:
        """Follow an authority that somebody else renews: let it sign as soon as it may. `roots` are trusted too.

        Raises:
            RefusedStep: it cannot be.
        """
        async with self._step():
            now = self._clock()
            self._roots = roots
            if self._book is None:
                first = rotation.first(new_slot(signer, self._trust_domain, self._sealer, now), "", now)
                await self._keep(msgspec.structs.replace(first, trust_domain=self._trust_domain.name))
                return
            book, prepared = rotation.touched(self.book, now), self.book.prepared
            if any(slot.id == signer.id for slot in book.trusted()):
                await self._keep(book)
                return
            if prepared is not None:  # it never signed, and is not the newest any more
                book = rotation.revoke(book, prepared.id, now)
            book = rotation.prepare(book, new_slot(signer, self._trust_domain, self._sealer, now), now)
            await self._keep(rotation.ask(book, signer.id, now))

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
            prepared = self._opened(book)
            self._unsure = True
            await self._keeper.save(write_book(book))
            self._unsure = False
            self._apply(book, *prepared)

    def _take(self, book: Book) -> None:
        self._apply(book, *self._opened(book))

    def _opened(self, book: Book) -> tuple[Signer, tuple[str, SigningKey]]:
        """The keys of the active authority, opened before anything is changed."""
        slot = book.active
        if self._signer is not None and self._signer.id == slot.id and self._jwt is not None:
            return self._signer, self._jwt
        try:
            key = read_key(self._sealer.open(slot.key, _purpose(self._trust_domain, "x509", slot.id)))
            jwt = read_key(self._sealer.open(slot.jwt_key, _purpose(self._trust_domain, "jwt", slot.id)))
            signer = read_signer(slot.chain.encode(), key, self._trust_domain)
        except (SealError, UnusableKey, UnusableAuthority) as error:
            raise UnreadableBook(
                f"{self._keeper.where}: the key of authority {slot.id} cannot be used: {error}"
            ) from None
        return signer, (slot.id, jwt)

    def _apply(self, book: Book, signer: Signer, jwt: tuple[str, SigningKey]) -> None:
        self._book, self._signer, self._jwt = book, signer, jwt
        bundle = bundle_of(book, self._trust_domain, self._making.refresh_hint)
        bundle = msgspec.structs.replace(bundle, roots=tuple(dict.fromkeys((*bundle.roots, *self._roots))))
        if bundle != self._bundle:
            self._bundle = bundle
            for changed in self._listeners:
                changed()

    def _self_signed(self, now: dt.datetime) -> Slot:
        root = new_root(self._trust_domain, new_key(self._making.key_type), now=now, lifetime=self._making.root_life)
        return new_slot(root, self._trust_domain, self._sealer, now)

    def _from_chain(self, book: Book, chain: bytes, now: dt.datetime) -> Slot:
        if not book.request_key:
            raise RefusedStep("no intermediate was asked for. First, `fairlead ca request`")
        try:
            key = read_key(self._sealer.open(book.request_key, _purpose(self._trust_domain, "request")))
            return new_slot(read_signer(chain, key, self._trust_domain), self._trust_domain, self._sealer, now)
        except (SealError, UnusableKey, UnusableAuthority) as error:
            raise RefusedStep(f"the chain cannot be used: {error}") from None


def bundle_of(book: Book, trust_domain: TrustDomain, refresh_hint: int = REFRESH_HINT) -> TrustBundle:
    """What to trust by a book: every root once, oldest first."""
    roots: dict[bytes, None] = {}
    for slot in book.trusted():
        roots[to_pem(x509.load_pem_x509_certificates(slot.chain.encode())[-1])] = None
    return TrustBundle(
        trust_domain,
        tuple(roots),
        book.sequence,
        refresh_hint,
        tuple(JwtKey(slot.id, slot.jwt_public.encode()) for slot in book.trusted()),
        tuple(slot.id for slot in book.slots if slot.state == "tainted"),
    )


def in_memory(
    trust_domain: TrustDomain,
    *,
    making: Making = Making(),  # noqa: B008 - frozen
    lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - frozen
    clock: Callable[[], dt.datetime] = utc_now,
) -> BuiltinAuthority:
    """A self-signed authority that is forgotten with the process: for a laptop, and for tests."""
    sealer = Sealer(b"forgotten with the process")
    made = BuiltinAuthority(trust_domain, MemoryKeeper(), sealer, making=making, lifetimes=lifetimes, clock=clock)
    made.begin()
    return made
