"""The authority that vouches for the xDS server until proxies have identities of their own: keys, rotation, bundles.

Proxies in Kubernetes prove who they are by a token; what they need to know of the server is that it is the server. So
this authority signs nothing but the server's own certificates, each for a day. It is replaced long before it ends, and
with overlap: the next one is in the bundle for a week before anything is signed with it, the one before it stays there
until nothing that it signed can still be in use.

Everything here is a function of its arguments and the time it is given, randomness of keys apart. Where the keys are
kept is for others; a key prints `[redacted]`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sds.certificates import key_usage

AUTHORITY_LIFE: Final = dt.timedelta(days=365)
LEAF_LIFE: Final = dt.timedelta(hours=24)
# Clocks differ.
BACKDATE: Final = dt.timedelta(minutes=2)
# The next authority is made when so much of the active one's life is left …
_PREPARE: Final = AUTHORITY_LIFE / 5
# … and signs after this time: all proxies have read the new bundle by then.
OVERLAP: Final = dt.timedelta(days=7)

_CERTIFICATES: Final = {"active": "ca.crt", "next": "next.crt", "retired": "retired.crt"}
_KEYS: Final = {"active": "ca.key", "next": "next.key"}


class UnreadableAuthorityError(Exception):
    """What is kept is no authority; the text says what is wrong, and shows no key."""


class PrivateKey:
    """A key that does not show itself."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key itself, to sign with."""
        return self._key

    def pem(self) -> bytes:
        """PKCS #8, for where keys are kept."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def __repr__(self) -> str:
        return "[redacted]"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate and the key that signs in its name."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def made_at(self) -> dt.datetime:
        """When it was made."""
        return self.certificate.not_valid_before_utc + BACKDATE

    @property
    def ends_at(self) -> dt.datetime:
        """When it is valid no more."""
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate chain and key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def renew_at(self) -> dt.datetime:
        """The middle of its life."""
        begin = self.certificate.not_valid_before_utc
        return begin + (self.certificate.not_valid_after_utc - begin) / 2

    def chain(self) -> bytes:
        """PEM."""
        return _pem(self.certificate)

    def to_pem(self) -> bytes:
        """As it is kept: key and certificate."""
        return self.key.pem() + self.chain()


def read_leaf(pem: bytes) -> Leaf:
    """What `Leaf.to_pem` wrote.

    Raises:
        UnreadableAuthorityError: it is something else.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnreadableAuthorityError("it is no certificate with its key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise UnreadableAuthorityError("the key is not the certificate's")
    return Leaf(certificate, PrivateKey(key))


@dataclass(frozen=True, slots=True)
class Authorities:
    """The one that signs, the one that will, and the one that did."""

    active: Authority
    next: Authority | None = None
    retired: x509.Certificate | None = None

    def bundle(self) -> bytes:
        """What whoever connects must trust (PEM), oldest first."""
        certificates = [self.retired, self.active.certificate, self.next.certificate if self.next else None]
        return b"".join(_pem(each) for each in certificates if each is not None)

    def to_data(self) -> dict[str, bytes]:
        """As it is kept: name → PEM."""
        data = {_CERTIFICATES["active"]: _pem(self.active.certificate), _KEYS["active"]: self.active.key.pem()}
        if self.next is not None:
            data |= {_CERTIFICATES["next"]: _pem(self.next.certificate), _KEYS["next"]: self.next.key.pem()}
        if self.retired is not None:
            data[_CERTIFICATES["retired"]] = _pem(self.retired)
        return data


def new_authority(now: dt.datetime) -> Authority:
    """A self-signed authority with a key of its own (ECDSA P-256)."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # The serial makes names of two authorities differ, so that whoever verifies finds the right one by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fairlead-xds-{serial:x}"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, PrivateKey(key))


def issue(authority: Authority, names: Sequence[str], now: dt.datetime) -> Leaf:
    """A server's certificate for DNS names and addresses; it ends no later than its authority.

    Raises:
        ValueError: no names, or one that is neither.
    """
    if not names or not all(names):
        raise ValueError("a server's certificate needs a name")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + LEAF_LIFE, authority.ends_at))
        # RFC 5280 §4.2.1.6: critical where the subject is empty.
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.key.public_key()), critical=False
        )
        .sign(authority.key.key, hashes.SHA256())
    )
    return Leaf(certificate, PrivateKey(key))


def rotated(kept: Authorities, now: dt.datetime) -> Authorities:
    """What should be kept now: `kept` itself where nothing is due."""
    due = kept
    if due.next is not None and now >= min(due.next.made_at + OVERLAP, due.active.ends_at):
        due = Authorities(due.next, retired=due.active.certificate)
    if now >= due.active.ends_at:  # nobody was there to prepare the next one: better late than never
        due = Authorities(new_authority(now))
    elif due.next is None and now >= due.active.ends_at - _PREPARE:
        due = replace(due, next=new_authority(now))
    if due.retired is not None and now >= min(
        due.active.made_at + OVERLAP + 2 * LEAF_LIFE, due.retired.not_valid_after_utc
    ):
        due = replace(due, retired=None)
    return due


def read(data: Mapping[str, bytes]) -> Authorities:
    """What `Authorities.to_data` made.

    Raises:
        UnreadableAuthorityError: something else.
    """
    active = _authority(data, "active")
    if active is None:
        raise UnreadableAuthorityError(f"{_CERTIFICATES['active']} and {_KEYS['active']} are missing")
    retired = data.get(_CERTIFICATES["retired"])
    return Authorities(active, _authority(data, "next"), _certificate(retired, "retired") if retired else None)


def _authority(data: Mapping[str, bytes], which: str) -> Authority | None:
    certificate, key = data.get(_CERTIFICATES[which]), data.get(_KEYS[which])
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise UnreadableAuthorityError(f"of {_CERTIFICATES[which]} and {_KEYS[which]} one is missing")
    try:
        loaded = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        # Neither the text of the error nor its context: it may quote the input.
        del error
        raise UnreadableAuthorityError(f"{_KEYS[which]} is no PEM key") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise UnreadableAuthorityError(f"{_KEYS[which]} is no key of an elliptic curve")
    parsed = _certificate(certificate, which)
    if parsed.public_key() != loaded.public_key():
        raise UnreadableAuthorityError(f"{_KEYS[which]} is not the key of {_CERTIFICATES[which]}")
    return Authority(parsed, PrivateKey(loaded))


def _certificate(pem: bytes, which: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise UnreadableAuthorityError(f"{_CERTIFICATES[which]} is no PEM certificate") from None


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class ServerLeaf:
    """The server's certificate of the moment, renewed at half its life. Safe to ask from any thread.

    Until `use` says who signs, it is the one of an earlier run (`resume`), as long as that is valid, or one of an
    authority that nobody knows: whoever connects that early is turned away by its own check, and comes again.
    """

    def __init__(self, names: Sequence[str], *, clock: Callable[[], dt.datetime]) -> None:
        self._names = tuple(names)
        self._clock = clock
        self._lock = threading.Lock()
        self._signer = new_authority(clock())
        self._leaf = issue(self._signer, self._names, clock())
        self._resumed = False

    def resume(self, leaf: Leaf) -> None:
        """Show this one until somebody signs."""
        with self._lock:
            if leaf.certificate.not_valid_after_utc > self._clock():
                self._leaf, self._resumed = leaf, True

    def use(self, signer: Authority) -> None:
        """From now on, let this one sign."""
        with self._lock:
            self._resumed = False
            if signer.certificate != self._signer.certificate:
                self._signer = signer
                self._leaf = issue(signer, self._names, self._clock())

    def current(self) -> Leaf:
        """The certificate for a connection that begins now."""
        with self._lock:
            now = self._clock()
            if not self._resumed and now >= self._leaf.renew_at and now < self._signer.ends_at:
                self._leaf = issue(self._signer, self._names, now)
            return self._leaf
