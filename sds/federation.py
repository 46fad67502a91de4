"""Bundles of other trust domains: which may be believed, and how one is fetched (SPIFFE Federation §5).

An endpoint is bound to a trust domain by configuration and speaks for no other. It proves itself by a certificate of
the public web (`https_web`) or of its own trust domain (`https_spiffe`), whose first bundle an operator brought. What
is fetched replaces what is known only where it may (`judged`); until then the last good one stands. Fetching blocks,
and is for a thread.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from mesh.spiffe import SpiffeId, TrustDomain
from sds.bundle import MAX_BYTES, InvalidBundle, TrustBundle, read_jwks
from sds.lint import MALFORMED, lint_svid

TIMEOUT: Final = 10.0
SHORTEST_REFRESH: Final = 10.0
LONGEST_REFRESH: Final = 3_600.0


class FetchError(Exception):
    """A bundle that could not be had; says why."""


class Federated(msgspec.Struct, frozen=True):
    """Another trust domain and where its bundle is. `endpoint`: the identity of a `https_spiffe` endpoint."""

    trust_domain: TrustDomain
    host: str
    port: int
    path: str
    endpoint: SpiffeId | None = None
    first: str = ""

    @property
    def profile(self) -> str:
        """As the specification calls the way in which the endpoint proves itself."""
        return "https_spiffe" if self.endpoint is not None else "https_web"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://{self.host}{'' if self.port == 443 else f':{self.port}'}{self.path}"


def read_federated(text: str, own: TrustDomain) -> Federated:
    """A setting: `TRUST-DOMAIN=URL`, or `TRUST-DOMAIN=URL;SPIFFE-ID;FILE`.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    name, equals, rest = text.partition("=")
    url, *more = rest.split(";")
    if not equals or len(more) not in {0, 2}:
        raise ValueError(f"{text!r} is neither TRUST-DOMAIN=URL nor TRUST-DOMAIN=URL;SPIFFE-ID;FILE")
    trust_domain = TrustDomain(name)
    if trust_domain == own:
        raise ValueError(f"{name} is our own trust domain: nobody else speaks for it")
    split = urlsplit(url)
    if split.scheme != "https" or not split.hostname or split.username or split.query or split.fragment:
        raise ValueError(f"{url!r} is no https:// URL of a bundle")
    endpoint = None
    if more:
        endpoint = SpiffeId.parse(more[0])
        if endpoint.trust_domain != trust_domain or not endpoint.path or not more[1]:
            raise ValueError(f"{more[0]} is no workload of {trust_domain}, or no file with its first bundle is named")
    return Federated(trust_domain, split.hostname, split.port or 443, split.path or "/", endpoint, *more[1:])


def judged(found: TrustBundle, known: TrustBundle | None, others: Iterable[TrustBundle]) -> TrustBundle:
    """The bundle that counts from now on.

    Raises:
        InvalidBundle: it is older than what is known, or has an authority of somebody else.
    """
    if known is not None and found.sequence < known.sequence:
        raise InvalidBundle(f"its number is {found.sequence}, and {known.sequence} is known already")
    theirs = {_key(root) for root in found.roots}
    for other in others:
        if other.trust_domain != found.trust_domain and not theirs.isdisjoint(_key(root) for root in other.roots):
            raise InvalidBundle(f"it has an authority of {other.trust_domain}")
    return found


def refresh_after(bundle: TrustBundle | None, failures: int) -> float:
    """Seconds until the next look: as often as the bundle says, within bounds; after failures sooner, at first."""
    hint = float(bundle.refresh_hint) if bundle is not None else SHORTEST_REFRESH
    wanted = min(max(hint, SHORTEST_REFRESH), LONGEST_REFRESH)
    return min(wanted, SHORTEST_REFRESH * 2.0 ** min(failures - 1, 10)) if failures else wanted


def fetch(where: Federated, known: TrustBundle | None, web: ssl.SSLContext, *, timeout: float = TIMEOUT) -> TrustBundle:
    """The bundle as the endpoint has it now. Follows no redirect, reads no more than a bundle can have.

    `web` is how the public web is verified. Blocks.

    Raises:
        FetchError: the endpoint is away, or another one.
        InvalidBundle: what it has is no bundle of this trust domain.
    """
    context = web if where.endpoint is None else _spiffe_context(where, known)
    connection = http.client.HTTPSConnection(where.host, where.port, timeout=timeout, context=context)
    try:
        connection.connect()
        if where.endpoint is not None:
            _check_peer(connection.sock, where.endpoint)
        connection.request("GET", where.path, headers={"Accept": "application/json", "User-Agent": "fairlead"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise FetchError(f"{where.url} answered {response.status}")
        body = response.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"{where.url}: {str(error) or type(error).__name__}") from None
    finally:
        connection.close()
    return read_jwks(body, where.trust_domain)


def web_context(authorities: str = "") -> ssl.SSLContext:
    """How the public web is verified: by the system's authorities, or those of a PEM file.

    Raises:
        OSError: the file cannot be read.
    """
    return ssl.create_default_context(cafile=authorities or None)


def _spiffe_context(where: Federated, known: TrustBundle | None) -> ssl.SSLContext:
    if known is None or not known.roots:
        raise FetchError(f"no authority of {where.trust_domain} is known, by which its endpoint could prove itself")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # its name is its SPIFFE ID, see `_check_peer`
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=known.pem().decode())
    return context


def _check_peer(connection: ssl.SSLSocket, endpoint: SpiffeId) -> None:
    der = connection.getpeercert(binary_form=True)
    try:
        problems = lint_svid(x509.load_der_x509_certificate(der or b""), endpoint)
    except MALFORMED:
        problems = ["it cannot be read"]
    if problems:
        raise FetchError(f"the endpoint's certificate is not that of {endpoint}: {'; '.join(problems)}")


def _key(root: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(root).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
