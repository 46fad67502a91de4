"""What the rest of the program asks of an authority, whoever it is: certificates for identities, and what to trust.

Whether a caller may have an identity was decided before anybody comes here. An authority decides about form: which
keys, how long, which names. `fairlead/` chooses which one there is; nothing else needs to know.
"""

# ruff: noqa: N818 - errors are named by what is true: `raise RefusedIssue`

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.spiffe import SpiffeId
from sds.bundle import TrustBundle

# An elliptic curve's or RSA's, of `cryptography`; `sds.keys.check_public_key` says which are taken.
PublicKey = Any


class AuthorityError(Exception):
    """Base of what authorities raise on purpose; the text is for the operator and holds no secret."""


class RefusedIssue(AuthorityError):
    """The request is not one that this authority grants: too long a life, a weak key, a name of no valid form."""


class AuthorityUnavailable(AuthorityError):
    """It cannot sign now. Nothing was lost; try again."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as it was issued. `chain` is PEM: the leaf first, then intermediates, without the root.

    `authority` identifies who signed (`sds.certificates.fingerprint` of the signing certificate).
    """

    chain: bytes
    not_before: dt.datetime
    not_after: dt.datetime
    serial: int
    authority: str = ""


class Authority(Protocol):
    """Signs X.509-SVIDs and says what to trust."""

    async def issue(
        self,
        public_key: PublicKey,
        identity: SpiffeId,
        *,
        lifetime: dt.timedelta | None = None,
        dns_names: tuple[str, ...] = (),
        request: bytes | None = None,
    ) -> Issued:
        """A certificate for an identity of our trust domain, with a path.

        `lifetime=None` is the default life. `dns_names` are further names for servers: DNS names and IP addresses.
        `request` is the caller's certificate request (DER), signed with its key: authorities that are not built in need
        it, and some take the names from it, so that it should ask for the identity and nothing else.
        The certificate begins a little in the past, because clocks differ, and never outlives whoever signs it.

        Raises:
            RefusedIssue: the request has to be another one.
            AuthorityUnavailable: the same request may be granted later.
        """
        ...

    def bundle(self) -> TrustBundle:
        """What to trust for our trust domain now."""
        ...

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` from the event loop whenever `bundle()` has become another one."""
        ...
