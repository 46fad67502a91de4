"""Trust bundles: the keys that speak for a trust domain, and their wire form (SPIFFE Trust Domain and Bundle §4).

Reading is careful, because a bundle of another trust domain comes from outside: size, counts and types are limited,
what the specification says to ignore is ignored, and what it says to refuse is refused. Fetching and serving is for
others.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mesh.spiffe import TrustDomain
from sds.lint import MALFORMED, lint_authority

X509_USE: Final = "x509-svid"
JWT_USE: Final = "jwt-svid"
REFRESH_HINT: Final = 300
MAX_BYTES: Final = 1 << 20
MAX_KEYS: Final = 200
_MAX_SEQUENCE: Final = (1 << 63) - 1
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_CURVE_OF: Final[dict[str, type[ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")


class InvalidBundle(ValueError):  # noqa: N818 - errors are named by what is true
    """A document that is no trust bundle, or one that may not be believed; says what is wrong."""


class JwtKey(msgspec.Struct, frozen=True):
    """A public key that signs JWT-SVIDs. `pem` is its SubjectPublicKeyInfo."""

    kid: str
    pem: bytes


class TrustBundle(msgspec.Struct, frozen=True):
    """What to trust for a trust domain.

    `roots` are certificates, PEM, oldest first. `sequence` grows with every change; `refresh_hint` is how often others
    should look, in seconds. `tainted` are fingerprints of authorities that still count and should no longer be used:
    whoever has a certificate of one should get another.
    """

    trust_domain: TrustDomain
    roots: tuple[bytes, ...]
    sequence: int
    refresh_hint: int = REFRESH_HINT
    jwt_keys: tuple[JwtKey, ...] = ()
    tainted: tuple[str, ...] = ()

    def pem(self) -> bytes:
        """All roots, one after the other."""
        return b"".join(self.roots)


class _Jwk(msgspec.Struct, frozen=True, omit_defaults=True):
    kty: str = ""
    use: str = ""
    kid: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""
    n: str = ""
    e: str = ""
    x5c: tuple[str, ...] = ()


class _Jwks(msgspec.Struct, frozen=True):
    keys: tuple[_Jwk, ...]
    spiffe_sequence: int | None = None
    spiffe_refresh_hint: int | None = None


_encode = msgspec.json.Encoder(order="deterministic").encode
_decoder: Final = msgspec.json.Decoder(_Jwks)


def write_jwks(bundle: TrustBundle) -> bytes:
    """The bundle as others read it: JSON."""
    keys = [_x509_key(root) for root in bundle.roots]
    keys += [
        _with(_public(serialization.load_pem_public_key(key.pem)), use=JWT_USE, kid=key.kid) for key in bundle.jwt_keys
    ]
    return _encode(_Jwks(tuple(keys), bundle.sequence, bundle.refresh_hint))


def read_jwks(data: bytes, trust_domain: TrustDomain) -> TrustBundle:
    """The bundle of a trust domain. One without keys is valid: its trust domain has taken everything back.

    Raises:
        InvalidBundle: it is none, or holds an authority that says it belongs to another trust domain.
    """
    if len(data) > MAX_BYTES:
        raise InvalidBundle(f"it has {len(data)} bytes; at most {MAX_BYTES} are taken")
    try:
        document = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBundle(f"it is no JWK Set: {str(error)[:200]}") from None
    if len(document.keys) > MAX_KEYS:
        raise InvalidBundle(f"it has {len(document.keys)} keys; at most {MAX_KEYS} are taken")
    sequence, hint = document.spiffe_sequence or 0, document.spiffe_refresh_hint
    if not 0 <= sequence <= _MAX_SEQUENCE:
        raise InvalidBundle(f"spiffe_sequence is {sequence}")
    roots: dict[bytes, None] = {}
    jwt_keys: dict[str, JwtKey] = {}
    for key in document.keys:
        if key.kty not in {"EC", "RSA"}:
            continue  # "Clients encountering an unknown key type MUST ignore the entire JWK element"
        if key.use == X509_USE and key.x5c:
            roots[_root(key.x5c[0], trust_domain)] = None
        elif key.use == JWT_USE:
            found = _jwt_key(key)
            if found.kid in jwt_keys:
                raise InvalidBundle(f"two keys have the kid {found.kid[:100]!r}")
            jwt_keys[found.kid] = found
    return TrustBundle(
        trust_domain, tuple(roots), sequence, hint if hint and hint > 0 else REFRESH_HINT, tuple(jwt_keys.values())
    )


def _root(encoded: str, trust_domain: TrustDomain) -> bytes:
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(encoded, validate=True))
        _public(certificate.public_key())
        problems = lint_authority(certificate, trust_domain)
    except InvalidBundle:
        raise
    except MALFORMED:
        raise InvalidBundle("an x5c is no certificate") from None
    if problems:
        raise InvalidBundle(f"an authority in it cannot be one of {trust_domain}: {'; '.join(problems)}")
    return certificate.public_bytes(serialization.Encoding.PEM)


def _jwt_key(key: _Jwk) -> JwtKey:
    if not key.kid:
        raise InvalidBundle("a key for JWT-SVIDs has no kid")
    try:
        public: Any
        if key.kty == "EC":
            curve = _CURVE_OF[key.crv]()
            public = ec.EllipticCurvePublicNumbers(_number(key.x), _number(key.y), curve).public_key()
        else:
            public = rsa.RSAPublicNumbers(_number(key.e), _number(key.n)).public_key()
    except (KeyError, ValueError, UnsupportedAlgorithm):
        raise InvalidBundle(f"the key {key.kid[:100]!r} for JWT-SVIDs cannot be read") from None
    if isinstance(public, rsa.RSAPublicKey) and not 2_048 <= public.key_size <= 8_192:
        raise InvalidBundle(f"the key {key.kid[:100]!r} for JWT-SVIDs has {public.key_size} bits")
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return JwtKey(key.kid, pem)


def _x509_key(root: bytes) -> _Jwk:
    certificate = x509.load_pem_x509_certificate(root)
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    return _with(_public(certificate.public_key()), use=X509_USE, x5c=(der,))


def _with(key: _Jwk, **fields: Any) -> _Jwk:
    return msgspec.structs.replace(key, **fields)


def _public(key: Any) -> _Jwk:
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        numbers, size = key.public_numbers(), (key.key_size + 7) // 8
        return _Jwk("EC", crv=_CURVES[key.curve.name], x=_text(numbers.x, size), y=_text(numbers.y, size))
    if isinstance(key, rsa.RSAPublicKey):
        both = key.public_numbers()
        return _Jwk("RSA", n=_text(both.n), e=_text(both.e))
    raise InvalidBundle("a key is neither RSA nor of one of the curves P-256, P-384 and P-521")


def _text(number: int, size: int | None = None) -> str:
    raw = number.to_bytes(size or (number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _number(text: str) -> int:
    if not text or not _BASE64URL.fullmatch(text) or len(text) > 2_048:
        raise ValueError("no base64url")
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
