"""The built-in authority: signs with a key of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import Issued
from sds.bundle import TrustBundle
from sds.certificates import Signer, new_root, to_pem
from sds.keys import KeyType, new_key
from sds.lifetimes import Lifetimes, check_identity

ROOT_LIFE: Final = dt.timedelta(days=3650)


def utc_now() -> dt.datetime:
    """The time."""
    return dt.datetime.now(dt.UTC)


class BuiltinAuthority:
    """An `Authority` around a signer in memory."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        signer: Signer,
        *,
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - frozen
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._trust_domain = trust_domain
        self._signer = signer
        self._lifetimes = lifetimes
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []

    async def issue(
        self,
        public_key: Any,
        identity: SpiffeId,
        *,
        lifetime: dt.timedelta | None = None,
        dns_names: tuple[str, ...] = (),
    ) -> Issued:
        """See `Authority.issue`."""
        check_identity(identity, self._trust_domain)
        granted = self._lifetimes.granted(lifetime)
        return self._signer.issue(public_key, identity, now=self._clock(), lifetime=granted, dns_names=dns_names)

    def bundle(self) -> TrustBundle:
        """See `Authority.bundle`."""
        return TrustBundle(self._trust_domain, (to_pem(self._signer.root),), sequence=1)

    def listen(self, changed: Callable[[], None]) -> None:
        """See `Authority.listen`."""
        self._listeners.append(changed)


def in_memory(
    trust_domain: TrustDomain,
    *,
    key_type: KeyType = "ecdsa-p256",
    lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - frozen
    clock: Callable[[], dt.datetime] = utc_now,
) -> BuiltinAuthority:
    """A self-signed authority that is forgotten with the process: for a laptop, and for tests."""
    root = new_root(trust_domain, new_key(key_type), now=clock(), lifetime=ROOT_LIFE)
    return BuiltinAuthority(trust_domain, root, lifetimes=lifetimes, clock=clock)
