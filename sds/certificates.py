"""Makes certificates: roots, intermediates and leaves of the X.509-SVID profile. Pure, apart from serials and keys.

What is made here is judged by `sds/lint.py` before it leaves. Times are arguments.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable, Issued, RefusedIssue
from sds.keys import SigningKey, UnusableKey, check_public_key
from sds.lint import MALFORMED, lint_authority, lint_svid

# Clocks differ.
BACKDATE: Final = dt.timedelta(minutes=2)
MAX_DNS_NAMES: Final = 50
_NO_SUBJECT: Final = x509.Name([])
_DNS: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")


class UnusableAuthority(ValueError):  # noqa: N818 - errors are named by what is true
    """Certificates and a key that are no authority; says what is wrong and shows no key."""


def fingerprint(certificate: x509.Certificate) -> str:
    """By which people and files name a certificate: the first 16 hex digits of its SHA-256."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]


def to_pem(certificate: x509.Certificate) -> bytes:
    """PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Signer:
    """A certificate that signs, its key, and its way up: `chain` is what a leaf's chain has above the leaf.

    `chain` begins with `certificate` and leaves out the root; it is empty where the root itself signs.
    """

    certificate: x509.Certificate
    key: SigningKey
    chain: tuple[x509.Certificate, ...]
    root: x509.Certificate

    @cached_property
    def id(self) -> str:
        """The fingerprint of the signing certificate."""
        return fingerprint(self.certificate)

    @cached_property
    def _chain_pem(self) -> bytes:
        return b"".join(to_pem(one) for one in self.chain)

    @cached_property
    def ends_at(self) -> dt.datetime:
        """When the first of the certificates above a leaf ends."""
        return min(one.not_valid_after_utc for one in (self.certificate, self.root, *self.chain))

    @cached_property
    def _fixed(self) -> tuple[tuple[x509.ExtensionType, bool], ...]:
        """What all leaves of a signer have in common."""
        try:
            identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        except x509.ExtensionNotFound:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key)
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        return (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (key_usage(authority=False), True),
            (purposes, False),
            (issuer, False),
        )

    def issue(
        self,
        public_key: Any,
        identity: SpiffeId,
        *,
        now: dt.datetime,
        lifetime: dt.timedelta,
        dns_names: Sequence[str] = (),
    ) -> Issued:
        """The leaf of an identity, linted. It ends with the signer where that ends before `lifetime`.

        Raises:
            RefusedIssue: the key is weak, or a name is none.
            AuthorityUnavailable: the signer has ended, or what it signed does not pass the linter.
        """
        try:
            check_public_key(public_key)
        except UnusableKey as error:
            raise RefusedIssue(f"the public key cannot be certified: {error}") from None
        now = now.replace(microsecond=0)
        if now >= self.ends_at:
            raise AuthorityUnavailable(f"the authority {self.id} ended at {self.ends_at.isoformat()}")
        end = min(now + lifetime, self.ends_at)
        names = [x509.UniformResourceIdentifier(str(identity)), *general_names(dns_names)]
        builder = x509.CertificateBuilder(
            issuer_name=self.certificate.subject,
            subject_name=_NO_SUBJECT,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - BACKDATE,
            not_valid_after=end,
            # RFC 5280 §4.2.1.6: critical where the subject is empty.
            extensions=[x509.Extension(x509.SubjectAlternativeName.oid, True, x509.SubjectAlternativeName(names))],
        )
        for value, critical in self._fixed:
            builder = builder.add_extension(value, critical)
        made = builder.sign(self.key.key, self.key.digest)
        pem = to_pem(made)
        return checked(pem, self._chain_pem, identity, self.certificate)


def checked(leaf: bytes, above: bytes, identity: SpiffeId, signer: x509.Certificate | None) -> Issued:
    """A leaf that somebody signed, read again from its bytes and linted.

    Raises:
        AuthorityUnavailable: it is no X.509-SVID of the identity. That is the authority's fault, not the caller's.
    """
    try:
        certificate = x509.load_pem_x509_certificate(leaf)
        problems = lint_svid(certificate, identity, signer)
    except MALFORMED:
        raise AuthorityUnavailable(f"what was signed for {identity} is no certificate") from None
    if problems:
        raise AuthorityUnavailable(f"what was signed for {identity} is no X.509-SVID of it: {'; '.join(problems)}")
    return Issued(
        chain=leaf + above,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial=certificate.serial_number,
        authority=fingerprint(signer) if signer is not None else "",
    )


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """DNS names and addresses for a certificate.

    Raises:
        RefusedIssue: one is neither. A name with a NUL or a wildcard in it never reaches a certificate.
    """
    if len(names) > MAX_DNS_NAMES:
        raise RefusedIssue(f"{len(names)} names are asked for; at most {MAX_DNS_NAMES} go into a certificate")
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if not _DNS.fullmatch(name):
                raise RefusedIssue(f"{name[:200]!r} is neither a DNS name nor an address") from None
            found.append(x509.DNSName(name))
    return found


def new_root(
    trust_domain: TrustDomain, key: SigningKey, *, now: dt.datetime, lifetime: dt.timedelta, above: int = 0
) -> Signer:
    """A self-signed authority; `above` is how many intermediates may stand between it and a leaf."""
    name = _authority_name(trust_domain, "root")
    made = _authority(name, name, key.public_key, trust_domain, now, now + lifetime, above).sign(key.key, key.digest)
    return Signer(made, key, (), made)


def intermediate_request(trust_domain: TrustDomain, key: SigningKey) -> bytes:
    """What an offline root is asked to sign (PKCS #10, PEM)."""
    name = _authority_name(trust_domain, "intermediate")
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    return request.sign(key.key, key.digest).public_bytes(serialization.Encoding.PEM)


def sign_intermediate(
    root: Signer, request: bytes, trust_domain: TrustDomain, *, now: dt.datetime, lifetime: dt.timedelta
) -> bytes:
    """The chain for such a request: the intermediate and the root, PEM. Only name and key are taken from the request.

    Raises:
        UnusableAuthority: the request is none, or its key is weak.
    """
    try:
        asked = x509.load_pem_x509_csr(request)
        public = asked.public_key()
        check_public_key(public)
        if not asked.is_signature_valid:
            raise UnusableAuthority("the request is not signed with its own key")
    except (*MALFORMED, InvalidSignature) as error:
        words = str(error) if isinstance(error, UnusableAuthority | UnusableKey) else "it is no certificate request"
        raise UnusableAuthority(words) from None
    end = min(now + lifetime, root.ends_at)
    name = _authority_name(trust_domain, "intermediate")
    made = _authority(name, root.certificate.subject, public, trust_domain, now, end, 0)
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key), critical=False)
    return to_pem(made.sign(root.key.key, root.key.digest)) + to_pem(root.root)


def read_signer(chain: bytes, key: SigningKey, trust_domain: TrustDomain) -> Signer:
    """An authority from its chain (PEM: the one that signs first, the self-signed root last) and key.

    Raises:
        UnusableAuthority: they do not fit each other, or are of another trust domain.
    """
    try:
        certificates = tuple(x509.load_pem_x509_certificates(chain))
    except MALFORMED:
        raise UnusableAuthority("it is no chain of PEM certificates") from None
    for one in certificates:
        if problems := lint_authority(one, trust_domain):
            raise UnusableAuthority(f"a certificate in the chain cannot be an authority's: {'; '.join(problems)}")
    for below, above in zip(certificates, (*certificates[1:], certificates[-1]), strict=True):
        try:
            below.verify_directly_issued_by(above)
        except (*MALFORMED, InvalidSignature):
            raise UnusableAuthority(
                "the chain is broken: each certificate must be signed by the next, and the last by itself"
            ) from None
    if certificates[0].public_key() != key.public_key:
        raise UnusableAuthority("the key is not that of the chain's first certificate")
    return Signer(certificates[0], key, certificates[:-1], certificates[-1])


def _authority_name(trust_domain: TrustDomain, what: str) -> x509.Name:
    # A number of its own, so that whoever verifies finds the right one of two by name.
    number = f"{x509.random_serial_number():040x}"[:12]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain.name[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"fairlead {what} {number}"),
        ]
    )


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: Any,
    trust_domain: TrustDomain,
    now: dt.datetime,
    end: dt.datetime,
    above: int,
) -> x509.CertificateBuilder:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(trust_domain.id))])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=above), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """What a key may be used for: an authority's signs certificates, any other connections."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
