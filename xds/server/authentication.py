"""Who a connection has proved to be, and whether it may be the proxy that it says it is.

Over TLS a client certificate carries a SPIFFE URI `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, or a
stream carries a bearer token that a `Reviewer` (a platform) vouches for. The trust domain must be ours, the namespace
the proxy's, and the account one that proxies of that audience run as: what an audience sees (a gateway's private keys)
is only for those. Without TLS nobody proves anything, which is for loopback and demos. A token is never logged, kept
or shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from mesh.model import Audience
from mesh.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain, workload
from xds.server.node_identity import Proxy

TRUST_DOMAIN: Final = "cluster.local"

# A projected service account token has about 1 kB; signed by a large key with long names, a few.
_TOKEN_LENGTH: Final = 16_384
# RFC 6750 §2.1: the scheme, and the characters of a token.
_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9._~+/-]+=*)")


class NotAuthenticatedError(Exception):
    """The connection proves no identity, or another one than the proxy claims."""


class CannotReviewError(Exception):
    """Whether a token is good cannot be told now: nobody is there who could, or too many ask."""


@dataclass(frozen=True, slots=True)
class Proof:
    """An identity and how long it is proved: until `expires_at`, in seconds since the epoch.

    `zone` and `node` are where the proxy runs, as far as who vouches for it knows. `chain` is what it was proved with
    (PEM), empty for a token.
    """

    identity: SpiffeId
    expires_at: float
    chain: bytes = b""
    by_token: bool = False
    zone: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What a platform says of a good token, and of where it is shown. The trust domain is not its to say."""

    namespace: str
    service_account: str
    expires_at: float
    zone: str = ""
    node: str = ""


class Reviewer(Protocol):
    """Tells whose a token is."""

    async def review(self, token: str, *, caller: str) -> Vouched:
        """Whose it is; `caller` is the address that showed it.

        Raises:
            NotAuthenticatedError: nobody's, or not meant for us; the text is for the log.
            CannotReviewError: it cannot be told now.
        """


def over_tls(auth_context: Mapping[str, Sequence[bytes]]) -> bool:
    """Whether a connection is encrypted, from gRPC's authentication context."""
    return list(auth_context.get("transport_security_type", ())) == [b"ssl"]


def bearer_token(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """The token in a stream's metadata; empty where it has none.

    Raises:
        NotAuthenticatedError: several, or something else than a bearer token.
    """
    found = [value for key, value in metadata if key == "authorization"]
    if not found:
        return ""
    value = found[0]
    if len(found) > 1 or not isinstance(value, str):
        raise NotAuthenticatedError("a stream may carry one `authorization`")
    match = _BEARER.fullmatch(value) if len(value) <= _TOKEN_LENGTH else None
    if match is None:
        raise NotAuthenticatedError(
            f"`authorization` is no bearer token of at most {_TOKEN_LENGTH} characters (it has {len(value)})"
        )
    return match[1]


def identity_of(auth_context: Mapping[str, Sequence[bytes]]) -> SpiffeId:
    """The identity that a TLS client proved, from gRPC's authentication context.

    Raises `NotAuthenticatedError`.
    """
    found = [value.decode("utf-8", "replace") for value in auth_context.get("peer_spiffe_id", ())]
    if len(found) != 1:
        raise NotAuthenticatedError(
            "the client certificate must carry exactly one SPIFFE ID (spiffe://<trust domain>/ns/<ns>/sa/<account>)"
        )
    try:
        identity = SpiffeId.parse(found[0])
    except InvalidSpiffeId as error:
        raise NotAuthenticatedError(f"the client certificate carries no SPIFFE ID: {error}") from None
    if identity.namespace is None:
        raise NotAuthenticatedError(f"{identity} is not of the form spiffe://<trust domain>/ns/<ns>/sa/<account>")
    return identity


def ends_at(auth_context: Mapping[str, Sequence[bytes]]) -> float:
    """When the certificate ends that a TLS client showed, in seconds since the epoch.

    Raises `NotAuthenticatedError`.
    """
    from cryptography import x509  # not for servers in plaintext

    try:
        [pem] = auth_context.get("x509_pem_cert", ())
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except ValueError:
        raise NotAuthenticatedError("the client showed no certificate that can be read") from None


def chain_of(auth_context: Mapping[str, Sequence[bytes]]) -> bytes:
    """What a TLS client showed (PEM): its certificate, and those above it that it sent."""
    return b"".join(auth_context.get("x509_pem_cert_chain") or auth_context.get("x509_pem_cert", ()))


def as_tls_did(_chain: bytes) -> bool:
    """Believe a client for as long as its certificate lives, since TLS did when its connection was made."""
    return True


def named_alike(audience: Audience) -> frozenset[str]:
    """The accounts of an audience where no model says more: a gateway's proxies run as the account of its name."""
    return frozenset({audience.name}) if audience.kind == "gateway" else frozenset()


@dataclass(frozen=True, slots=True)
class Authentication:
    """Checks clients that came over TLS; with a `reviewer` they may show a token instead of a certificate.

    `accounts` tells the service accounts that proxies of an audience run as, as far as the model knows; where it knows
    none, the namespace decides, and what the node claims must be true. `believes` tells of a client's chain (PEM)
    whether it still leads to an authority that is trusted.
    """

    trust_domain: str = TRUST_DOMAIN
    accounts: Callable[[Audience], frozenset[str]] = named_alike
    reviewer: Reviewer | None = None
    believes: Callable[[bytes], bool] = as_tls_did
    clock: Callable[[], float] = time.time

    async def proof(
        self,
        auth_context: Mapping[str, Sequence[bytes]],
        metadata: Sequence[tuple[str, str | bytes]],
        *,
        caller: str = "",
    ) -> Proof:
        """What a TLS client proved, by its certificate or, where it showed none, by its token.

        Raises:
            NotAuthenticatedError: nothing; the text is for the log.
            CannotReviewError: it cannot be told now.
        """
        if self.reviewer is None or "x509_pem_cert" in auth_context:
            return Proof(self.identity(auth_context), ends_at(auth_context), chain_of(auth_context))
        token = bearer_token(metadata)
        if not token:
            raise NotAuthenticatedError("neither a client certificate nor a token (`authorization: Bearer …`)")
        vouched = await self.reviewer.review(token, caller=caller)
        return Proof(self.named(vouched), vouched.expires_at, by_token=True, zone=vouched.zone, node=vouched.node)

    def named(self, vouched: Vouched) -> SpiffeId:
        """The identity, in our trust domain, of an account that a platform vouches for.

        Raises `NotAuthenticatedError`.
        """
        try:
            return workload(TrustDomain(self.trust_domain), vouched.namespace, vouched.service_account)
        except InvalidSpiffeId as error:
            raise NotAuthenticatedError(f"the token is of an account that can have no identity: {error}") from None

    def identity(self, auth_context: Mapping[str, Sequence[bytes]]) -> SpiffeId:
        """The identity that a client proved, which is of our trust domain, by a certificate that is still good.

        TLS saw to that when the connection was made, and a connection may live for longer.

        Raises `NotAuthenticatedError`.
        """
        identity = identity_of(auth_context)
        if identity.trust_domain.name != self.trust_domain:
            raise NotAuthenticatedError(
                f"{identity} is of trust domain {identity.trust_domain}; this server's is {self.trust_domain}"
                " (setting trust_domain)"
            )
        if ends_at(auth_context) <= self.clock():
            raise NotAuthenticatedError(f"the certificate of {identity} has ended since this connection was made")
        if not self.believes(chain_of(auth_context)):
            raise NotAuthenticatedError(f"who signed the certificate of {identity} is trusted no more")
        return identity

    def check(self, identity: SpiffeId, proxy: Proxy) -> None:
        """Refuse a proxy that claims to be somebody else's.

        Raises `NotAuthenticatedError`.
        """
        may_not = f"{identity} may not be {proxy.node_id}"
        if proxy.audience.namespace != identity.namespace:
            raise NotAuthenticatedError(f"{may_not}: it is for namespace {identity.namespace}")
        account = identity.account
        if proxy.service_account and proxy.service_account != account:
            raise NotAuthenticatedError(f"{may_not}: it claims service account {proxy.service_account}")
        allowed = self.accounts(proxy.audience)
        if allowed and account not in allowed:
            raise NotAuthenticatedError(
                f"{may_not}: its service account {account} is none that proxies of {proxy.audience.kind}"
                f" {proxy.audience.namespace}/{proxy.audience.name} run as ({', '.join(sorted(allowed))})"
            )
