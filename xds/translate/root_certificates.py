"""What proxies trust, over SDS: `ROOTCA` for our trust domain, `ROOTCA:<trust domain>` for each other one.

Public, so every audience may have them; who asks for none is sent none. A trust domain that has taken all its
authorities back trusts nobody: Envoy takes an empty list for "do not verify", so it is given an authority whose key
nobody has, and whose day is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from mesh.model import TRUST_BUNDLES, TrustBundleRow
from mesh.tables import Look, derived, each
from xds.resources import Resource, ResourceKey
from xds.schema import encode
from xds.schema.type_urls import TYPE_SECRET
from xds.schema.types import Secret
from xds.translate.framing import resource
from xds.translate.names import ROOTCA, root_name

NOBODY: Final = b"""\
-----BEGIN CERTIFICATE-----
MIIBOTCB4KADAgECAhR8c/I+6tpHzwT88eiqlYjMaLEwBDAKBggqhkjOPQQDAjAR
MQ8wDQYDVQQDDAZub2JvZHkwHhcNMjYwMTAxMDAwMDAwWhcNMjYwMTAyMDAwMDAw
WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR9
3DHvsZAC5vMovng4Bl4mgVGL6bEE4OQ8mbkXoCcOLd2ZGQRpCJmrpWPNe76n0UHu
O/RT1wq5giSRuBnPB5PHoxYwFDASBgNVHRMBAf8ECDAGAQH/AgEAMAoGCCqGSM49
BAMCA0gAMEUCIAnnZV6PEW+gbleeqyzDFDPpzdM7VTDL18v+h3mJRti5AiEAu3aX
MDyrIaj6wX30OTZpu0j6soKdN/918jLIJjjAhQg=
-----END CERTIFICATE-----
"""

ALL_ROOTS = TRUST_BUNDLES.index("all", lambda _key, _row: ("",))


def _key(trust_domain: str, row: TrustBundleRow) -> ResourceKey:
    return ResourceKey(TYPE_SECRET, ROOTCA if row.own else root_name(trust_domain))


def _secrets(trust_domain: str, row: TrustBundleRow) -> Iterable[ResourceKey]:
    return (_key(trust_domain, row),)


_BUNDLES_BY_SECRET = TRUST_BUNDLES.index("secret", _secrets)


@derived("root_certificates", each(TRUST_BUNDLES, _secrets))
def ROOT_CERTIFICATES(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The authorities of each trust domain that is known."""
    for trust_domain in look.keys(_BUNDLES_BY_SECRET, key):
        row = look(TRUST_BUNDLES, trust_domain)
        if row is not None:
            return resource(key.type_url, key.name, encode(root_secret(key.name, row.roots)))
    return None


def root_secret(name: str, roots: bytes) -> Any:
    """The secret that says whom to believe (PEM); nobody where there are no roots."""
    secret = Secret()
    secret.name = name
    secret.validation_context.trusted_ca.inline_bytes = roots or NOBODY
    return secret


def root_keys(look: Look) -> tuple[ResourceKey, ...]:
    """Those that there are, sorted."""
    rows = ((name, look(TRUST_BUNDLES, name)) for name in look.keys(ALL_ROOTS, ""))
    return tuple(sorted(_key(name, row) for name, row in rows if row is not None))
