"""The built-in authority: signs certificates with keys of its own, or with keys from files that somebody else renews.

How its authorities are kept and follow each other, and JWT-SVIDs, are `jwt_authority.py`'s.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any, Final

import msgspec
from cryptography import x509

from mesh.spiffe import SpiffeId, TrustDomain
from sds import rotation
from sds.authority import Issued
from sds.bundle import REFRESH_HINT, TrustBundle
from sds.certificates import (
    Signer,
    UnusableAuthority,
    fingerprint,
    intermediate_request,
    new_root,
    read_signer,
    to_pem,
)
from sds.jwt_authority import JwtAuthority, new_jwt_key, purpose
from sds.keepers import Keeper, MemoryKeeper
from sds.keys import KeyType, UnusableKey, new_key, read_key
from sds.lifetimes import Lifetimes, check_identity, utc_now
from sds.rotation import Book, Policy, RefusedStep, Slot
from sds.sealing import Sealer, SealError

ROOT_LIFE: Final = dt.timedelta(days=365)


class Making(msgspec.Struct, frozen=True):
    """How authorities are made. `outside`: they are not, but taken from files that somebody else renews (`adopt`)."""

    key_type: KeyType = "ecdsa-p256"
    root_life: dt.timedelta = ROOT_LIFE
    refresh_hint: int = REFRESH_HINT
    policy: Policy = Policy()
    outside: bool = False


def new_slot(signer: Signer, trust_domain: TrustDomain, sealer: Sealer, now: dt.datetime) -> Slot:
    """An authority as it is kept, with a key of its own for JWT-SVIDs: one key signs one kind of document."""
    _, jwt = new_jwt_key(trust_domain, sealer, signer.id)
    return Slot(
        id=signer.id,
        state="prepared",
        root=fingerprint(signer.root),
        chain=b"".join(to_pem(one) for one in (*signer.chain, signer.root)).decode(),
        key=sealer.seal(signer.key.pem().pem, purpose(trust_domain, "x509", signer.id)),
        jwt_key=jwt.key,
        jwt_public=jwt.public,
        made_at=now,
        changed_at=now,
        begins_at=signer.certificate.not_valid_before_utc,
        ends_at=signer.ends_at,
    )


class BuiltinAuthority(JwtAuthority):
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
        super().__init__(
            trust_domain, keeper, sealer, policy=making.policy, refresh_hint=making.refresh_hint, clock=clock
        )
        self._making = making
        self._lifetimes = lifetimes
        self._roots: tuple[bytes, ...] = ()
        self._signer: Signer | None = None
        self.issued = 0

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

    # -- rotation -----------------------------------------------------------------------------------------------

    async def request(self) -> bytes:
        """A request for an intermediate, for an offline root to sign. Its key is kept; the latest request counts."""
        self._refuse_outside()
        key = new_key(self._making.key_type)
        sealed = self._sealer.seal(key.pem().pem, purpose(self._trust_domain, "request"))
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
        made = await asyncio.to_thread(self._made, now) if chain is None else None

        def prepared(book: Book) -> Book:
            if made is not None and not book.active.self_signed:
                raise RefusedStep(
                    "the root's key is not here, so a new authority needs a chain that it signed:"
                    " `fairlead ca request`, `fairlead ca sign`, then `fairlead ca prepare --chain FILE`"
                )
            return rotation.prepare(book, made or self._from_chain(book, chain or b"", now), now)

        return await self._prepared(prepared)

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

    # -- what is kept -----------------------------------------------------------------------------------------------

    def _opened(self, book: Book) -> Callable[[], None]:
        use_jwt = super()._opened(book)
        slot = book.active
        if self._signer is not None and self._signer.id == slot.id:
            return use_jwt
        try:
            key = read_key(self._sealer.open(slot.key, purpose(self._trust_domain, "x509", slot.id)))
            signer = read_signer(slot.chain.encode(), key, self._trust_domain)
        except (SealError, UnusableKey, UnusableAuthority) as error:
            raise self._unusable(slot, error) from None

        def use() -> None:
            use_jwt()
            self._signer = signer

        return use

    def _published(self, book: Book) -> TrustBundle:
        """Every root once, oldest first. Keys for tokens only where they are kept: all replicas have the same then."""
        bundle = super()._published(book)
        roots = (to_pem(x509.load_pem_x509_certificates(slot.chain.encode())[-1]) for slot in book.trusted())
        return msgspec.structs.replace(
            bundle,
            roots=tuple(dict.fromkeys((*roots, *self._roots))),
            jwt_keys=() if self._making.outside else bundle.jwt_keys,
            tainted=tuple(slot.id for slot in book.slots if slot.state == "tainted"),
        )

    def _made(self, now: dt.datetime) -> Slot:
        root = new_root(self._trust_domain, new_key(self._making.key_type), now=now, lifetime=self._making.root_life)
        return new_slot(root, self._trust_domain, self._sealer, now)

    def _from_chain(self, book: Book, chain: bytes, now: dt.datetime) -> Slot:
        if not book.request_key:
            raise RefusedStep("no intermediate was asked for. First, `fairlead ca request`")
        try:
            key = read_key(self._sealer.open(book.request_key, purpose(self._trust_domain, "request")))
            return new_slot(read_signer(chain, key, self._trust_domain), self._trust_domain, self._sealer, now)
        except (SealError, UnusableKey, UnusableAuthority) as error:
            raise RefusedStep(f"the chain cannot be used: {error}") from None


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
