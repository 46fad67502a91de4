"""Whose a service account token is by its signature alone, for when no API server can be asked. Pure.

A cluster publishes the keys that it signs tokens with (OIDC discovery). What is checked with them is less than what a
TokenReview says: that a pod, an account or a token was removed since cannot be seen. So this is a stand-in with narrow
limits: only tokens bound to a pod and a service account, only ones of a short life, and what is found holds for
minutes.

The key decides the algorithm, and the token must name it: RS256 for RSA, ES256 for P-256, nothing else (RFC 8725 §3.1).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

ISSUER_PATH: Final = "/.well-known/openid-configuration"
KEYS_PATH: Final = "/openid/v1/jwks"

HOLDS_SECONDS: Final = 300.0
"""So long it holds what a signature says; then a stream ends, and the next one may be reviewed properly."""
LONGEST_LIFE: Final = 24 * 3600.0
"""Tokens of a longer life than that were not made for a pod by a kubelet as Fairlead asks for."""
_CLOCKS_DIFFER: Final = 10.0
_LARGEST: Final = 64 * 1024
_MOST_KEYS: Final = 32
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 8192
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class UnusableKeysError(Exception):
    """What a cluster published is no set of keys; the text says why."""


class UnknownKeyError(Exception):
    """The token is of another issuer, or signed with a key that is not among those known: nothing can be told."""


class ForgedError(Exception):
    """The signature, or what is signed, is not good. The text says why, for the log."""


class SigningKeys(msgspec.Struct, frozen=True):
    """What a cluster published: the issuer's name, and its public keys by their names."""

    issuer: str
    keys: dict[str, _PublicKey]


class Signed(msgspec.Struct, frozen=True):
    """What a token with a good signature says."""

    namespace: str
    account: str
    pod: str
    pod_uid: str
    expires_at: float
    node: str = ""


class _Issuer(msgspec.Struct, frozen=True):
    issuer: str


class _Key(msgspec.Struct, frozen=True):
    kty: str
    kid: str = ""
    use: str = "sig"
    alg: str = ""
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _Keys(msgspec.Struct, frozen=True):
    keys: list[_Key]


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str
    crit: list[str] | None = None


class _Bound(msgspec.Struct, frozen=True):
    name: str
    uid: str


class _Node(msgspec.Struct, frozen=True):
    name: str = ""


class _Kubernetes(msgspec.Struct, frozen=True):
    namespace: str
    serviceaccount: _Bound
    pod: _Bound
    node: _Node = _Node()


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    iat: float
    nbf: float
    kubernetes: _Kubernetes = msgspec.field(name="kubernetes.io")


# -- the keys ----------------------------------------------------------------------------------------------------------


def signing_keys(issuer: bytes, keys: bytes) -> SigningKeys:
    """What the two documents that a cluster publishes say; keys of other kinds are left out.

    Raises:
        UnusableKeysError: they say nothing that can be used.
    """
    if max(len(issuer), len(keys)) > _LARGEST:
        raise UnusableKeysError(f"a document is longer than {_LARGEST} bytes")
    try:
        name = msgspec.json.decode(issuer, type=_Issuer).issuer
        published = msgspec.json.decode(keys, type=_Keys).keys
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnusableKeysError(str(error)) from None
    usable = dict(_usable(published[:_MOST_KEYS]))
    if not name or not usable:
        raise UnusableKeysError("there is no issuer, or no key of RSA or P-256 that has a name")
    return SigningKeys(name, usable)


def _usable(published: Iterable[_Key]) -> Iterable[tuple[str, _PublicKey]]:
    for key in published:
        if not key.kid or key.use != "sig":
            continue
        try:
            made = _public_key(key)
        except (ValueError, binascii.Error):
            continue
        if made is not None and key.alg in ("", _algorithm(made)):
            yield key.kid, made


def _public_key(key: _Key) -> _PublicKey | None:
    if key.kty == "RSA":
        modulus = _number(key.n)
        if not _LEAST_RSA_BITS <= modulus.bit_length() <= _MOST_RSA_BITS:
            return None
        return rsa.RSAPublicNumbers(_number(key.e), modulus).public_key()
    if key.kty == "EC" and key.crv == "P-256":
        return ec.EllipticCurvePublicNumbers(_number(key.x), _number(key.y), ec.SECP256R1()).public_key()
    return None


def _algorithm(key: _PublicKey) -> str:
    return "RS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"


# -- a token -----------------------------------------------------------------------------------------------------------


def signed(token: str, keys: SigningKeys, *, audience: str, now: float) -> Signed:
    """What a token says that one of these keys has signed.

    Raises:
        UnknownKeyError: it is not for these keys to tell.
        ForgedError: it is not good.
    """
    try:
        first, second, third = token.split(".")
        header = msgspec.json.decode(_bytes(first), type=_Header)
        payload, signature = _bytes(second), _bytes(third)
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError):
        raise ForgedError("it is no signed token") from None
    if header.crit is not None:
        raise ForgedError("its header asks for what is not understood")
    key = keys.keys.get(header.kid)
    if key is None:
        raise UnknownKeyError("no known key has signed it")
    if header.alg != _algorithm(key):
        raise ForgedError(f"it names the algorithm {header.alg[:20]!r} where its key is for {_algorithm(key)}")
    _verify(key, signature, f"{first}.{second}".encode())
    return _said(payload, keys.issuer, audience=audience, now=now)


def _verify(key: _PublicKey, signature: bytes, signed_part: bytes) -> None:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed_part, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(_der(signature), signed_part, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ForgedError("its signature is wrong") from None


def _der(signature: bytes) -> bytes:
    """The two numbers of an ES256 signature (RFC 7518 §3.4) as they are verified; nothing where there are not two."""
    if len(signature) != 64:
        return b""
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def _said(payload: bytes, issuer: str, *, audience: str, now: float) -> Signed:
    try:
        claims = msgspec.json.decode(payload, type=_Claims)
    except (msgspec.DecodeError, RecursionError):
        raise ForgedError("it is not bound to a pod and a service account, or lacks a time") from None
    if claims.iss != issuer:
        raise ForgedError("its issuer is another one than its key's")
    if audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise ForgedError("it is for another audience")
    if claims.exp <= now:
        raise ForgedError("it has ended")
    if max(claims.nbf, claims.iat) > now + _CLOCKS_DIFFER:
        raise ForgedError("it is not good yet")
    if claims.exp - claims.iat > LONGEST_LIFE:
        raise ForgedError(f"its life is longer than {LONGEST_LIFE / 3600:g} hours")
    of = claims.kubernetes
    names = (of.namespace, of.serviceaccount.name, of.pod.name)
    if not all(_NAME.fullmatch(name) for name in names) or not (of.serviceaccount.uid and of.pod.uid):
        raise ForgedError("it is not bound to a pod and a service account")
    if claims.sub != f"system:serviceaccount:{of.namespace}:{of.serviceaccount.name}":
        raise ForgedError("its subject is another one than its account")
    return Signed(of.namespace, of.serviceaccount.name, of.pod.name, of.pod.uid, claims.exp, of.node.name)


def _bytes(text: str) -> bytes:
    """Base64url without padding, in its one form (RFC 7515 §2)."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _BASE64URL.fullmatch(text) else b""
    if not raw or base64.urlsafe_b64encode(raw).decode().rstrip("=") != text:
        raise ValueError("no base64url")
    return raw


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")
