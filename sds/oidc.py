"""Callers that prove themselves by an OIDC token (a CI's, a cloud machine's): whom to believe, and what a token proves.

An issuer is believed only where the operator wrote it down: its exact name, our audience, its keys, and which subject
is which account. A subject that is not listed is nobody; there are no patterns, for what a pattern also lets in is seen
too late. The key decides the algorithm, and sizes are bounded before anything is decoded. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sds import jws

MAX_TOKEN: Final = 16_384
LARGEST: Final = 262_144
LONGEST_LIFE: Final = 24 * 3600.0
LEEWAY: Final = 60.0
_MOST_KEYS: Final = 32
_RSA_BITS: Final = range(2_048, 8_193)
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class UnusableIssuers(ValueError):  # noqa: N818 - errors are named by what is true
    """What the operator wrote down cannot be used; the text says what is wrong."""


class InvalidOidcToken(ValueError):  # noqa: N818 - errors are named by what is true
    """A token that proves nothing; the text is for the log and not for whoever showed it."""


class Subject(msgspec.Struct, frozen=True):
    """The account that a token's holder is."""

    namespace: str
    account: str
    expires_at: float


class Issuer(msgspec.Struct, frozen=True):
    """An issuer that is believed: `subjects` are `sub` → (namespace, account)."""

    name: str
    audience: str
    keys: Mapping[str, _PublicKey]
    subjects: Mapping[str, tuple[str, str]]


class _Jwk(msgspec.Struct):
    kty: str = ""
    kid: str = ""
    use: str = "sig"
    alg: str = ""
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    issuer: str
    audience: str
    jwks: _Jwks
    subjects: dict[str, str]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    issuers: list[_Written]


class _Header(msgspec.Struct):
    alg: str
    kid: str
    crit: Any = None


class _Hint(msgspec.Struct):
    iss: str


class _Claims(msgspec.Struct):
    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    iat: int | float
    nbf: int | float = 0


# -- whom to believe ---------------------------------------------------------------------------------------------------


def read_issuers(document: bytes) -> dict[str, Issuer]:
    """The issuers that a JSON document lists, by name.

    Raises:
        UnusableIssuers: it is not of that form, an issuer stands in it twice or has no key that can be used.
    """
    if len(document) > LARGEST:
        raise UnusableIssuers(f"it has more than {LARGEST} bytes")
    try:
        written = msgspec.json.decode(document, type=_Document).issuers
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UnusableIssuers(str(error)) from None
    found: dict[str, Issuer] = {}
    for one in written:
        if one.issuer in found:
            raise UnusableIssuers(f"issuer {one.issuer[:200]!r} stands there twice")
        found[one.issuer] = _issuer(one)
    return found


def _issuer(written: _Written) -> Issuer:
    shown = repr(written.issuer[:200])
    if not written.issuer.startswith("https://") or not written.audience:
        raise UnusableIssuers(f"issuer {shown}: it needs an https:// name and an audience")
    keys: dict[str, _PublicKey] = {}
    for jwk in written.jwks.keys[:_MOST_KEYS]:
        key = _public_key(jwk)
        if key is not None and jwk.kid and jwk.use == "sig" and jwk.alg in ("", _algorithm(key)):
            keys[jwk.kid] = key
    if not keys:
        raise UnusableIssuers(f"issuer {shown}: no key with a kid, of RSA (2048 to 8192 bits) or P-256, is in its jwks")
    subjects = {}
    for subject, account in written.subjects.items():
        namespace, slash, name = account.partition("/")
        if not subject or not slash or not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
            raise UnusableIssuers(f"issuer {shown}: {subject[:200]!r} must be NAMESPACE/ACCOUNT, not {account[:200]!r}")
        subjects[subject] = (namespace, name)
    return Issuer(written.issuer, written.audience, keys, subjects)


def _public_key(jwk: _Jwk) -> _PublicKey | None:
    try:
        if jwk.kty == "RSA":
            modulus = _number(jwk.n)
            if modulus.bit_length() not in _RSA_BITS:
                return None
            return rsa.RSAPublicNumbers(_number(jwk.e), modulus).public_key()
        if jwk.kty == "EC" and jwk.crv == "P-256":
            return ec.EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), ec.SECP256R1()).public_key()
    except ValueError:
        pass
    return None


def _algorithm(key: _PublicKey) -> str:
    return "RS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"


# -- a token -----------------------------------------------------------------------------------------------------------


def issuer_named(token: str) -> str:
    """The issuer that a token names, unverified: tells whom to ask. Empty where it is no JWT."""
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(parts) != 3:
        return ""
    try:
        return msgspec.json.decode(jws.decoded(parts[1]), type=_Hint).iss
    except (msgspec.DecodeError, RecursionError, ValueError):
        return ""


def judge(token: str, issuers: Mapping[str, Issuer], *, now: float) -> Subject:
    """Whose a token is; `now` in seconds since the epoch.

    Raises:
        InvalidOidcToken: nobody's.
    """
    if len(token) > MAX_TOKEN or token.count(".") != 2:
        raise InvalidOidcToken("it is no signed token, or a very long one")
    first, second, third = token.split(".")
    try:
        header = msgspec.json.decode(jws.decoded(first), type=_Header)
        claims = msgspec.json.decode(jws.decoded(second), type=_Claims)
        signature = jws.decoded(third)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidOidcToken("its parts cannot be read, or a claim is missing (iss, sub, aud, exp, iat)") from None
    issuer = issuers.get(claims.iss)
    if issuer is None:
        raise InvalidOidcToken(f"its issuer {claims.iss[:200]!r} is not believed")
    key = issuer.keys.get(header.kid)
    if key is None or header.crit is not None or header.alg != _algorithm(key):
        raise InvalidOidcToken(f"no key of {issuer.name} is named {header.kid[:100]!r} and signs {header.alg[:20]!r}")
    try:
        jws.verify(header.alg, key, f"{first}.{second}".encode(), signature)
    except jws.BadSignature as error:
        raise InvalidOidcToken(str(error)) from None
    return _judged(issuer, claims, now)


def _judged(issuer: Issuer, claims: _Claims, now: float) -> Subject:
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if issuer.audience not in audiences:
        raise InvalidOidcToken(f"it is not for {issuer.audience}")
    if not all(math.isfinite(time) for time in (claims.exp, claims.iat, claims.nbf)):
        raise InvalidOidcToken("one of its times is none")
    if claims.exp <= now:
        raise InvalidOidcToken(f"it has ended {now - claims.exp:.0f} s ago")
    if max(claims.nbf, claims.iat) > now + LEEWAY:
        raise InvalidOidcToken("it has not begun yet")
    if claims.exp - claims.iat > LONGEST_LIFE:
        raise InvalidOidcToken("it lives for longer than a day; long tokens are stolen tokens")
    account = issuer.subjects.get(claims.sub)
    if account is None:
        raise InvalidOidcToken(f"its subject {claims.sub[:200]!r} is not listed for {issuer.name}")
    return Subject(*account, float(claims.exp))


def _number(text: str) -> int:
    return int.from_bytes(jws.decoded(text), "big")
