"""Who a connection has proved to be, and whether it may be the proxy that it says it is.

Over TLS a client certificate carries a SPIFFE URI `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. Its
trust domain must be ours, its namespace the proxy's, and its account one that proxies of that audience run as: what an
audience sees (a gateway's private keys) is only for those. Without TLS nobody proves anything, which is for loopback
and demos.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mesh.model import Audience
from xds.server.node_identity import Proxy

TRUST_DOMAIN: Final = "cluster.local"

_SPIFFE: Final = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]+)/ns/(?P<namespace>[^/]+)/sa/(?P<account>[^/]+)")


class NotAuthenticatedError(Exception):
    """The connection proves no identity, or another one than the proxy claims."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload identity (the SPIFFE ID of a certificate)."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def identity_of(auth_context: Mapping[str, Sequence[bytes]]) -> Identity:
    """The identity that a TLS client proved, from gRPC's authentication context.

    Raises `NotAuthenticatedError`.
    """
    found = [value.decode("utf-8", "replace") for value in auth_context.get("peer_spiffe_id", ())]
    if len(found) != 1:
        raise NotAuthenticatedError(
            "the client certificate must carry exactly one SPIFFE ID (spiffe://<trust domain>/ns/<ns>/sa/<account>)"
        )
    match = _SPIFFE.fullmatch(found[0])
    if match is None:
        raise NotAuthenticatedError(f"{found[0]} is not of the form spiffe://<trust domain>/ns/<ns>/sa/<account>")
    return Identity(match["domain"], match["namespace"], match["account"])


def named_alike(audience: Audience) -> frozenset[str]:
    """The accounts of an audience where no model says more: a gateway's proxies run as the account of its name."""
    return frozenset({audience.name}) if audience.kind == "gateway" else frozenset()


@dataclass(frozen=True, slots=True)
class Authentication:
    """Checks clients that came over TLS.

    `accounts` tells the service accounts that proxies of an audience run as, as far as the model knows; where it knows
    none, the namespace decides, and what the node claims must be true.
    """

    trust_domain: str = TRUST_DOMAIN
    accounts: Callable[[Audience], frozenset[str]] = named_alike

    def identity(self, auth_context: Mapping[str, Sequence[bytes]]) -> Identity:
        """The identity that a client proved, which is of our trust domain.

        Raises `NotAuthenticatedError`.
        """
        identity = identity_of(auth_context)
        if identity.trust_domain != self.trust_domain:
            raise NotAuthenticatedError(
                f"{identity} is of trust domain {identity.trust_domain}; this server's is {self.trust_domain}"
                " (setting trust_domain)"
            )
        return identity

    def check(self, identity: Identity, proxy: Proxy) -> None:
        """Refuse a proxy that claims to be somebody else's.

        Raises `NotAuthenticatedError`.
        """
        may_not = f"{identity} may not be {proxy.node_id}"
        if proxy.audience.namespace != identity.namespace:
            raise NotAuthenticatedError(f"{may_not}: the certificate is for namespace {identity.namespace}")
        account = identity.service_account
        if proxy.service_account and proxy.service_account != account:
            raise NotAuthenticatedError(f"{may_not}: it claims service account {proxy.service_account}")
        allowed = self.accounts(proxy.audience)
        if allowed and account not in allowed:
            raise NotAuthenticatedError(
                f"{may_not}: its service account {account} is none that proxies of {proxy.audience.kind}"
                f" {proxy.audience.namespace}/{proxy.audience.name} run as ({', '.join(sorted(allowed))})"
            )
