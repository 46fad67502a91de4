"""What authorities outside have in common: the caller's certificate request goes to them, their answer is judged.

They need the request itself, signed with the caller's key: a public key alone they do not certify. Their answer is
linted as our own certificates are, must verify by the roots that everybody is told to trust, and must be for the key
that asked; an outer authority that has gone astray is told of, and its certificate given to nobody.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable, Issued, RefusedIssue
from sds.bundle import TrustBundle
from sds.certificates import checked, fingerprint, general_names, to_pem
from sds.issuing import MAX_REQUEST
from sds.keys import UnusableKey, check_public_key
from sds.lint import MALFORMED, lint_authority

_MAX_DEPTH: Final = 5


class OuterAuthority(ABC):
    """An authority outside, as far as it is told what to trust: looked at without end, and what was trusted stands.

    A subclass looks (`_look`) and says how long until the next time (`_pause`); `unknown` is what is said before the
    first look.
    """

    unknown = "it is not known yet what is to be trusted"

    def __init__(self, trust_domain: TrustDomain, clock: Callable[[], dt.datetime]) -> None:
        self._trust_domain = trust_domain
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self._bundle: TrustBundle | None = None
        self.issued = 0
        self.trouble = ""

    @abstractmethod
    async def _look(self) -> None:
        """See what to trust, and `_trust` it. Raises AuthorityUnavailable."""

    @abstractmethod
    def _pause(self) -> float:
        """Seconds until it is looked at again."""

    async def open(self) -> None:
        """Learn what to trust. Raises AuthorityUnavailable."""
        await self._look()

    def resume(self, bundle: TrustBundle, trouble: str) -> None:
        """Trust what was trusted in an earlier run, for as long as nothing newer is known."""
        self._bundle, self.trouble = bundle, trouble

    async def run(self) -> None:
        """Follow what is to be trusted, without end."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self._look()
                self.trouble = ""
            except AuthorityUnavailable as error:
                self.trouble = str(error)

    def _trust(self, roots: tuple[bytes, ...]) -> None:
        if self._bundle is None or self._bundle.roots != roots:
            self._bundle = TrustBundle(self._trust_domain, roots, int(self._clock().timestamp()))
            for changed in self._listeners:
                changed()

    def bundle(self) -> TrustBundle:
        """See `Authority.bundle`."""
        if self._bundle is None:
            raise AuthorityUnavailable(self.unknown)
        return self._bundle

    def listen(self, changed: Callable[[], None]) -> None:
        """See `Authority.listen`."""
        self._listeners.append(changed)


def request_pem(
    request: bytes | None,
    public_key: Any,
    identity: SpiffeId,
    *,
    names_needed: bool,
    dns_names: tuple[str, ...] = (),
) -> bytes:
    """The caller's request (DER) as PEM.

    `names_needed`: this authority takes the names from the request, so it must ask for the identity, a server's
    `dns_names`, and nothing else.

    Raises:
        RefusedIssue: there is none, it is of another key, or it asks for something else.
    """
    if request is None:
        raise RefusedIssue("this authority is not built in: it needs the certificate request itself")
    if len(request) > MAX_REQUEST:
        raise RefusedIssue(f"the certificate request has {len(request)} bytes; at most {MAX_REQUEST} are taken")
    try:
        asked = x509.load_der_x509_csr(request)
        key, valid, names, others = asked.public_key(), asked.is_signature_valid, *_names(asked)
        check_public_key(key)
    except UnusableKey as error:
        raise RefusedIssue(f"the public key cannot be certified: {error}") from None
    except MALFORMED:
        raise RefusedIssue("the certificate request cannot be read") from None
    if not valid or key != public_key:
        raise RefusedIssue("the certificate request is not signed with the key that is to be certified")
    wanted = [x509.UniformResourceIdentifier(str(identity)), *general_names(dns_names)]
    if names_needed and (len(names) != len(wanted) or set(names) != set(wanted) or others):
        also = f", {', '.join(dns_names)}" if dns_names else ""
        raise RefusedIssue(
            f"this authority takes names from the request, which must ask for {identity}{also} and nothing else"
        )
    return asked.public_bytes(serialization.Encoding.PEM)


def _names(asked: x509.CertificateSigningRequest) -> tuple[list[x509.GeneralName], bool]:
    """The names that a request asks for, and whether it asks for anything else."""
    names, others = list[x509.GeneralName](), bool(asked.subject.rdns)
    for extension in asked.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names += extension.value
        else:
            others = True
    return names, others


def read_roots(pem: bytes, trust_domain: TrustDomain) -> tuple[bytes, ...]:
    """The roots in a PEM file, each once.

    Raises:
        ValueError: there is none, or one is no authority of the trust domain.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except MALFORMED:
        raise ValueError("it is no PEM certificates") from None
    for root in found:
        if problems := lint_authority(root, trust_domain):
            raise ValueError(f"{fingerprint(root)} cannot be an authority of {trust_domain}: {'; '.join(problems)}")
    return tuple(dict.fromkeys(to_pem(root) for root in found))


def answered(
    chain: bytes,
    public_key: Any,
    identity: SpiffeId,
    roots: Iterable[bytes],
    *,
    now: dt.datetime,
    longest: dt.timedelta,
) -> Issued:
    """What an outer authority signed (PEM, the leaf first), judged; roots are left out of the chain.

    Raises:
        AuthorityUnavailable: it is not what was asked for.
    """
    try:
        leaf, *above = x509.load_pem_x509_certificates(chain)
        anchors = [x509.load_pem_x509_certificate(root) for root in roots]
        same_key = leaf.public_key() == public_key
    except MALFORMED:
        raise AuthorityUnavailable(f"the authority's answer for {identity} is no certificate") from None
    if not same_key:
        raise AuthorityUnavailable(f"the authority's answer for {identity} is for another key")
    path = _path(leaf, above, anchors)
    if path is None:
        raise AuthorityUnavailable(f"the authority's answer for {identity} does not lead to a root that is trusted")
    if leaf.not_valid_after_utc > now + longest + dt.timedelta(minutes=10):
        raise AuthorityUnavailable(f"the authority's answer for {identity} lives longer than was asked for")
    signer = path[0] if path else None
    return checked(to_pem(leaf), b"".join(to_pem(one) for one in path if one not in anchors), identity, signer)


def leads_to(chain: bytes, roots: Iterable[bytes]) -> bool:
    """Whether a certificate (PEM, with what is above it) leads to one of the roots."""
    leaf, *above = x509.load_pem_x509_certificates(chain)
    return _path(leaf, above, [x509.load_pem_x509_certificate(root) for root in roots]) is not None


def check_names(chain: bytes, dns_names: tuple[str, ...]) -> None:
    """Judge whether an answer (PEM, the leaf first) has a server's names.

    Raises:
        AuthorityUnavailable: one is missing, and nobody could connect by it.
    """
    wanted = set(general_names(dns_names))
    if not wanted:
        return
    names = x509.load_pem_x509_certificates(chain)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    if missing := wanted - set(names.value):
        told = ", ".join(sorted(str(name.value) for name in missing))
        raise AuthorityUnavailable(f"the authority left names out that were asked for: {told}")


def _path(
    leaf: x509.Certificate, above: list[x509.Certificate], anchors: list[x509.Certificate]
) -> list[x509.Certificate] | None:
    """The certificates from a leaf's signer to a root; None where there is no way."""
    path: list[x509.Certificate] = []
    below = leaf
    for _ in range(_MAX_DEPTH):
        root = next((one for one in anchors if _signed(below, one)), None)
        if root is not None:
            return [*path, root]
        signer = next((one for one in above if one not in path and _signed(below, one)), None)
        if signer is None:
            return None
        path.append(signer)
        below = signer
    return None


def _signed(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (*MALFORMED, InvalidSignature):
        return False
    return True
