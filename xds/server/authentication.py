"""Who a connection has proved to be, and whether it may be the proxy that it says it is.

Over TLS a client certificate carries a SPIFFE URI `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; the
proxy's namespace must be that one, and its service account too where it names one. Without TLS nobody proves anything,
which is for loopback and demos.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from xds.server.node_identity import Proxy

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


def check(identity: Identity, proxy: Proxy) -> None:
    """Refuse a proxy that claims to be somebody else's.

    Raises `NotAuthenticatedError`.
    """
    if proxy.audience.namespace != identity.namespace:
        raise NotAuthenticatedError(
            f"{identity} may not be {proxy.node_id}: the certificate is for namespace {identity.namespace}"
        )
    if proxy.service_account and proxy.service_account != identity.service_account:
        raise NotAuthenticatedError(
            f"{identity} may not be {proxy.node_id}: it claims service account {proxy.service_account}"
        )
