"""A certificate authority for tests, made in a moment: server certificates by name, proxies' by SPIFFE ID."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `ca` is the file to trust. One `under` another sends its own along with those."""

    def __init__(self, folder: Path, name: str = "test-ca", *, under: Authority | None = None) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = under if under is not None else self
        certificate = above._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        pem = certificate.sign(above._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(pem)
        self._chain = pem if under is not None else b""

    def server(self, name: str, *, address: str = "127.0.0.1") -> Pair:
        """A server's certificate for an address."""
        return self._issue(name, [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")])

    def named(self, name: str, *names: str) -> Pair:
        """A server's certificate for DNS names, and for URIs where there is a `:` in one."""
        return self._issue(
            name, [x509.UniformResourceIdentifier(one) if ":" in one else x509.DNSName(one) for one in names]
        )

    def proxy(self, name: str, spiffe_id: str, *, ended: bool = False) -> Pair:
        """A proxy's certificate; `ended`: its life was over a minute ago."""
        return self._issue(name, [x509.UniformResourceIdentifier(spiffe_id)], ended=ended)

    def odd(self, name: str, *names: x509.GeneralName) -> Pair:
        """A certificate with names that no authority of ours gives."""
        return self._issue(name, list(names))

    def revoking(self, *pairs: Pair, left: dt.timedelta = dt.timedelta(hours=1)) -> str:
        """The list (PEM) by which the authority takes these certificates back; the next one comes within `left`."""
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        made = made.last_update(now - dt.timedelta(minutes=5)).next_update(now + left)
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            made = made.add_revoked_certificate(revoked)
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _issue(self, name: str, names: list[x509.GeneralName], *, ended: bool = False) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, left=dt.timedelta(minutes=-1) if ended else dt.timedelta(hours=1))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        made = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        pair.cert.write_bytes(made + self._chain)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, left: dt.timedelta = dt.timedelta(hours=1)
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + left)
        )
