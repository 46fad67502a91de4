"""Sets of public keys (JWKS, RFC 7517) that users write or issuers publish: judged, and made so that Envoy takes them.

What Envoy gets is written anew: of each usable key the public part and nothing else, sorted, so that equal sets give
equal bytes and a private part, should somebody publish one, goes no further. Keys that are no public keys of RSA
(2,048 to 8,192 bits), of the curves P-256, P-384 and P-521 or Ed25519 are left out; symmetric ones above all: whoever
can read such a set could sign.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

MAX_BYTES: Final = 512 * 1024
MAX_KEYS: Final = 64
_TEXT: Final = 256
_RSA_BITS: Final = range(2_048, 8_193)
_ED25519_BYTES: Final = 32


class UnusableKeys(Exception):  # noqa: N818 - a finding about what somebody wrote
    """It is no set of keys, or none of them can be used; says why, and repeats nothing of it."""


class KeySet(NamedTuple):
    """The keys as Envoy takes them, and how many were left out. `private`: some had their private part beside."""

    jwks: bytes
    left_out: int
    private: bool


class _Curve(NamedTuple):
    """y² = x³ - 3x + b over a prime field (SEC 2 §2)."""

    prime: int
    b: int
    bytes: int

    def holds(self, x: int, y: int) -> bool:
        return 0 <= x < self.prime and 0 <= y < self.prime and (y * y - self.of(x)) % self.prime == 0

    def of(self, x: int) -> int:
        return (pow(x, 3, self.prime) - 3 * x + self.b) % self.prime


_CURVES: Final[Mapping[str, _Curve]] = {
    "P-256": _Curve(
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        32,
    ),
    "P-384": _Curve(
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        48,
    ),
    "P-521": _Curve(
        2**521 - 1,
        0x0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
        66,
    ),
}


class _Jwk(msgspec.Struct, omit_defaults=True):
    kty: str = ""
    kid: str = ""
    use: str = ""
    alg: str = ""
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _Document(msgspec.Struct):
    keys: list[Any]


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def read_key_set(document: bytes) -> KeySet:
    """The usable keys of a JWK Set.

    Raises:
        UnusableKeys: it is none, too large, or has no key that can be used.
    """
    if len(document) > MAX_BYTES:
        raise UnusableKeys(f"it has more than {MAX_BYTES} bytes")
    try:
        keys = msgspec.json.decode(document, type=_Document).keys
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UnusableKeys('it is no JWK Set, which is a JSON object with an array "keys"') from None
    if len(keys) > MAX_KEYS:
        raise UnusableKeys(f"it has more than {MAX_KEYS} keys")
    good: set[bytes] = set()
    left_out, private = 0, False
    for key in keys:
        found = _public(key)
        private = private or (isinstance(key, dict) and bool({"d", "k"} & key.keys()))
        if found is None:
            left_out += 1
        else:
            good.add(_ENCODER.encode(found))
    if not good:
        raise UnusableKeys("no key in it can be used: RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519 could")
    return KeySet(b'{"keys":[' + b",".join(sorted(good)) + b"]}", left_out, private)


def uri_problem(uri: str) -> str:
    """Why keys cannot be fetched from an address, as far as its words tell; empty where they can."""
    try:
        split = urlsplit(uri)
        port = split.port
    except ValueError:
        return "it is no address"
    if split.scheme != "https":
        return "keys are fetched over https only: whoever can change them on their way could sign tokens"
    if not split.hostname or port == 0 or not uri.isascii() or any(sign in uri for sign in " \t\r\n\\"):
        return "it is no address of ASCII letters with a host"
    if split.username is not None or split.password is not None:
        return "it holds a user or a password, which everybody who reads this policy would see"
    return "it has a fragment, which is never sent" if split.fragment else ""


def _public(key: Any) -> _Jwk | None:
    """The public part of a key, None if it is none that signs tokens."""
    try:
        jwk = msgspec.convert(key, _Jwk)
    except msgspec.ValidationError:
        return None
    if jwk.use not in ("", "sig") or len(jwk.kid) > _TEXT or len(jwk.alg) > _TEXT:
        return None
    named = {"kty": jwk.kty, "kid": jwk.kid, "use": jwk.use, "alg": jwk.alg}
    match jwk.kty:
        case "RSA" if _is_rsa(jwk) and jwk.alg in ("", *(f"{way}S{size}" for way in "RP" for size in (256, 384, 512))):
            return _Jwk(**named, n=jwk.n.rstrip("="), e=jwk.e.rstrip("="))
        case "EC" if _is_point(jwk) and jwk.alg in ("", _ALGORITHMS[jwk.crv]):
            return _Jwk(**named, crv=jwk.crv, x=jwk.x.rstrip("="), y=jwk.y.rstrip("="))
        case "OKP" if jwk.crv == "Ed25519" and len(_bytes(jwk.x)) == _ED25519_BYTES and jwk.alg in ("", "EdDSA"):
            return _Jwk(**named, crv=jwk.crv, x=jwk.x.rstrip("="))
        case _:
            return None


_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


def _is_rsa(jwk: _Jwk) -> bool:
    modulus, exponent = _number(jwk.n), _number(jwk.e)
    return modulus.bit_length() in _RSA_BITS and modulus % 2 == 1 and exponent % 2 == 1 and 3 <= exponent < 2**32


def _is_point(jwk: _Jwk) -> bool:
    curve = _CURVES.get(jwk.crv)
    if curve is None or len(_bytes(jwk.x)) != curve.bytes or len(_bytes(jwk.y)) != curve.bytes:
        return False
    return curve.holds(_number(jwk.x), _number(jwk.y))


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


def _bytes(text: str) -> bytes:
    """What base64url says, nothing where it is none."""
    if len(text) > 2_048 or not text.isascii():
        return b""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _nobodys() -> bytes:
    """A key set whose private key nobody has: a point whose x is a hash, found without ever knowing its logarithm.

    Anybody can make the same from the words below, so nobody has to believe that a private half was thrown away; and
    all replicas have the same one.
    """
    curve = _CURVES["P-256"]
    for count in range(256):
        x = int.from_bytes(hashlib.sha256(f"fairlead: the key that nobody has, {count}".encode()).digest(), "big")
        y = pow(curve.of(x), (curve.prime + 1) // 4, curve.prime)  # a root where there is one: the prime is 3 mod 4
        if curve.holds(x, y):
            break
    size = curve.bytes
    both = (x, min(y, curve.prime - y))
    x_text, y_text = (base64.urlsafe_b64encode(part.to_bytes(size, "big")).rstrip(b"=").decode() for part in both)
    key = _Jwk(kty="EC", kid="nobody", use="sig", alg="ES256", crv="P-256", x=x_text, y=y_text)
    return b'{"keys":[' + _ENCODER.encode(key) + b"]}"


NOBODYS_KEYS: Final = _nobodys()
"""What stands in where an issuer's keys are not known: no token is valid, and Envoy has a set that it takes."""
