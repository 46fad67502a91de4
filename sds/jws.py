"""The signatures of tokens (JWS, RFC 7515): base64url and what an algorithm of RFC 7518 asks of a key. Pure.

Strict where JOSE is loose: base64url has one form only, or a token that was refused could come back spelt otherwise;
`none` and HMAC are no algorithms; and the key has to be of the algorithm's kind.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

CURVE_OF: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")


class BadSignature(ValueError):  # noqa: N818 - errors are named by what is true
    """A signature that proves nothing; the text says why, for a log."""


def encoded(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """The bytes behind base64url without padding.

    Raises:
        ValueError: it is none, or not in its one form.
    """
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _BASE64URL.fullmatch(text) else b""
    if encoded(raw) != text:
        raise ValueError("no base64url")
    return raw


def sign(key: ec.EllipticCurvePrivateKey, algorithm: str, signed: bytes) -> bytes:
    """The signature by a key of the algorithm's curve."""
    r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(_HASHES[algorithm[2:]])))
    size = (key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def verify(algorithm: str, key: Any, signed: bytes, signature: bytes) -> None:
    """Check a signature by a public key.

    Raises:
        BadSignature: it is not good.
    """
    digest = _HASHES.get(algorithm[2:])
    family = algorithm[:2]
    if digest is None or family not in {"ES", "RS", "PS"}:
        raise BadSignature(f"its algorithm is {algorithm[:40]!r}")  # `none`, HS256 and whatever comes after them
    try:
        if family == "ES" and isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == CURVE_OF[algorithm]:
            size = (key.key_size + 7) // 8
            if len(signature) != 2 * size:
                raise BadSignature("its signature has another length")
            halves = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(utils.encode_dss_signature(*halves), signed, ec.ECDSA(digest))
        elif family == "RS" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), digest)
        elif family == "PS" and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
            key.verify(signature, signed, pss, digest)
        else:
            raise BadSignature("its algorithm is not that of its key")
    except InvalidSignature:
        raise BadSignature("its signature is wrong") from None
