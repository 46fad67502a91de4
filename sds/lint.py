"""The X.509-SVID profile as a judge of certificates (X509-SVID.md §2 to §4, RFC 5280 where it says so).

Every certificate that we issue, or that an outer authority issues for us, passes here before anybody gets it. Written
apart from what makes certificates, and reads what was signed, not what was meant.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain

# All that `cryptography` raises over a certificate or request that is none; not all of it is a ValueError.
MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_MIN_SERIAL_BITS: Final = 64  # of random numbers of 159 bits, one in 2^95 is smaller
_MAX_SERIAL_BITS: Final = 159  # RFC 5280 §4.1.2.2: 20 octets, and positive


class Lint:
    """What is wrong with a certificate, gathered."""

    def __init__(self, certificate: x509.Certificate) -> None:
        self.certificate = certificate
        self.problems: list[str] = []
        self._found: dict[type, x509.Extension[Any]] = {}
        try:
            self._found = {type(one.value): one for one in certificate.extensions}
        except MALFORMED as error:
            self.problems.append(f"its extensions cannot be read: {str(error)[:100]}")

    def check(self, right: bool, problem: str) -> None:
        """Note a problem where something is not right."""
        if not right:
            self.problems.append(problem)

    def extension(self, kind: type) -> x509.Extension[Any] | None:
        """One extension."""
        return self._found.get(kind)

    def uris(self) -> list[str]:
        """The URIs among the alternative names."""
        names = self.extension(x509.SubjectAlternativeName)
        if names is None:
            return []
        return [name.value for name in names.value if isinstance(name, x509.UniformResourceIdentifier)]


def lint_svid(certificate: x509.Certificate, identity: SpiffeId, signer: x509.Certificate | None = None) -> list[str]:
    """What keeps a certificate from being the X.509-SVID of an identity, signed by `signer`; nothing if all is well."""
    lint = Lint(certificate)
    uris = lint.uris()
    lint.check(len(uris) == 1, f"it has {len(uris)} URI names; there must be exactly one")
    lint.check(str(identity) in uris, "its URI is not the identity asked for")
    lint.check(bool(identity.path), "the identity has no path; that is for authorities")
    names = lint.extension(x509.SubjectAlternativeName)
    if names is not None:
        lint.check(names.critical or bool(certificate.subject.rdns), "names are not critical, and there is no subject")
    constraints = lint.extension(x509.BasicConstraints)
    lint.check(constraints is None or not constraints.value.ca, "it is an authority's (cA is true)")
    usage = lint.extension(x509.KeyUsage)
    lint.check(usage is not None and usage.critical, "key usage is missing or not critical")
    if usage is not None:
        lint.check(usage.value.digital_signature, "digitalSignature is not set")
        lint.check(not usage.value.key_cert_sign and not usage.value.crl_sign, "it may sign certificates or lists")
    purposes = lint.extension(x509.ExtendedKeyUsage)
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    lint.check(purposes is None or both <= set(purposes.value), "extended key usage lacks serverAuth or clientAuth")
    _lint_numbers(lint)
    if signer is not None:
        lint.check(certificate.issuer == signer.subject, "its issuer is not the signer's name")
        outlives = certificate.not_valid_after_utc > signer.not_valid_after_utc
        lint.check(not outlives, "it outlives its signer")
    return lint.problems


def lint_authority(certificate: x509.Certificate, trust_domain: TrustDomain) -> list[str]:
    """What keeps a certificate from being that of an authority of a trust domain.

    An ID is only recommended; one of another trust domain, or one with a path, is wrong.
    """
    lint = Lint(certificate)
    constraints = lint.extension(x509.BasicConstraints)
    lint.check(constraints is not None and constraints.value.ca, "it is no authority's (cA is not true)")
    usage = lint.extension(x509.KeyUsage)
    if usage is not None:  # the specification wants it; authorities made before SPIFFE may lack it
        lint.check(usage.value.key_cert_sign, "it may not sign certificates")
    for uri in lint.uris():
        try:
            named = SpiffeId.parse(uri)
        except InvalidSpiffeId:
            continue  # a URI of another kind is no claim
        lint.check(not named.path, "its SPIFFE ID has a path")
        lint.check(named.trust_domain == trust_domain, f"its SPIFFE ID is of {named.trust_domain}, not {trust_domain}")
    return lint.problems


def _lint_numbers(lint: Lint) -> None:
    certificate = lint.certificate
    bits = certificate.serial_number.bit_length()
    lint.check(certificate.serial_number > 0 and bits <= _MAX_SERIAL_BITS, "its serial number is not valid")
    lint.check(bits >= _MIN_SERIAL_BITS, "its serial number is not random")
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    lint.check(life > dt.timedelta(), "it ends before it begins")
