"""Who SPIFFE's Workload API says we are (SPIFFE_Workload_API.md §5): a certificate, its key, whom to believe. Pure.

It comes over a socket of this machine from a program that the operator named, SPIRE's agent say; it is judged all the
same, so that a wrong entry there is told here and not by every proxy.
"""

from __future__ import annotations

from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from google.protobuf.message import DecodeError

from mesh.certificates import KeyPair, PrivateKey
from mesh.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain
from sds.certificates import to_pem
from sds.lint import MALFORMED, lint_svid
from sds.tls import server_context
from xds.schema import message

_Response: Final = message("fairlead.workload.v1.X509SvidResponse")
_MOST_CERTIFICATES: Final = 100


class UnusableSvid(ValueError):  # noqa: N818 - errors are named by what is true
    """What came cannot be who we are; says why."""


class Svid:
    """An identity with its certificate chain, its key, and the authorities of its trust domain (PEM)."""

    def __init__(self, identity: SpiffeId, pair: KeyPair, roots: bytes, leaf: x509.Certificate) -> None:
        self.identity = identity
        self.pair = pair
        self.roots = roots
        self.leaf = leaf


def read_svid(answer: bytes, trust_domain: TrustDomain) -> Svid:
    """The identity in an answer to FetchX509SVID, the first if there are several.

    Raises:
        UnusableSvid: there is none, or none of our trust domain with its own key and certificate.
    """
    try:
        found = _Response.FromString(answer)
    except DecodeError:
        raise UnusableSvid("the answer cannot be decoded") from None
    if not found.svids:
        raise UnusableSvid("it has no identity for this program. Fix: an entry for it")
    first = found.svids[0]
    try:
        identity = SpiffeId.parse(first.spiffe_id)
        chain, roots = _certificates(first.x509_svid), _certificates(first.bundle)
        key = load_der_private_key(first.x509_svid_key, None)
        own = {_spki(one.public_key()) for one in chain[:1]} == {_spki(key.public_key())}
    except (*MALFORMED, InvalidSpiffeId) as error:
        raise UnusableSvid(f"what it has for {first.spiffe_id[:100]!r} cannot be read: {str(error)[:100]}") from None
    if identity.trust_domain != trust_domain:
        raise UnusableSvid(f"{identity} is not of our trust domain, {trust_domain}. Fix: --trust-domain")
    if not chain or not roots:
        raise UnusableSvid(f"there is no certificate for {identity}, or nobody to believe")
    problems = lint_svid(chain[0], identity)
    if not own:
        problems.append("its key is another one's")
    if problems:
        raise UnusableSvid(f"the certificate of {identity} is none: {'; '.join(problems)}")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair = KeyPair(b"".join(map(to_pem, chain)), PrivateKey(pem))
    try:
        server_context(pair)  # a library that reads more strictly has the last word
    except OSError as error:
        raise UnusableSvid(f"the certificate of {identity} cannot be used: {error}") from None
    return Svid(identity, pair, b"".join(map(to_pem, roots)), chain[0])


def _certificates(ders: bytes) -> list[x509.Certificate]:
    """Certificates that stand one after the other."""
    found: list[x509.Certificate] = []
    while ders:
        length = _length(ders)
        if length > len(ders) or len(found) >= _MOST_CERTIFICATES:
            raise ValueError("no certificates, one after the other")
        found.append(x509.load_der_x509_certificate(ders[:length]))
        ders = ders[length:]
    return found


def _length(der: bytes) -> int:
    """How many bytes the first value takes (X.690 §8.1.3), its tag and length included. Only says where to cut."""
    if len(der) < 2:
        raise ValueError("it ends too soon")
    more = der[1] & 0x7F if der[1] & 0x80 else 0
    return 2 + more + (int.from_bytes(der[2 : 2 + more]) if more else der[1])


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
