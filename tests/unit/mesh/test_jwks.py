"""Sets of keys: which are taken, and what is made of them."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from mesh.jwks import MAX_BYTES, MAX_KEYS, NOBODYS_KEYS, KeySet, UnusableKeys, read_key_set
from tests.support.issuers import Issuer, number

ISSUERS = [Issuer(algorithm=algorithm, kid=algorithm) for algorithm in ("RS256", "ES256", "EdDSA")]


def curve_key(curve: ec.EllipticCurve, name: str) -> dict[str, str]:
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    size = (curve.key_size + 7) // 8
    return {"kty": "EC", "crv": name, "x": number(numbers.x, size), "y": number(numbers.y, size)}


def read(*keys: object) -> KeySet:
    return read_key_set(json.dumps({"keys": keys}).encode())


def test_public_keys_are_taken_as_they_are_in_an_order_of_their_own() -> None:
    keys = [issuer.jwk for issuer in ISSUERS]
    found = read(*keys)
    assert (found.left_out, found.private) == (0, False)
    assert sorted(json.loads(found.jwks)["keys"], key=str) == sorted(keys, key=str)
    assert read(*reversed(keys), keys[0]).jwks == found.jwks


@pytest.mark.parametrize(
    ("curve", "name"), [(ec.SECP256R1(), "P-256"), (ec.SECP384R1(), "P-384"), (ec.SECP521R1(), "P-521")]
)
def test_points_of_each_curve_are_known_and_others_are_none(curve: ec.EllipticCurve, name: str) -> None:
    key = curve_key(curve, name)
    assert json.loads(read(key).jwks) == {"keys": [key]}
    with pytest.raises(UnusableKeys):
        read({**key, "y": key["x"]})
    with pytest.raises(UnusableKeys):
        read({**key, "crv": "P-192"})


def test_private_parts_are_taken_off_and_told() -> None:
    found = read({**ISSUERS[1].jwk, "d": "c2VjcmV0"})
    assert found.private
    assert b"c2VjcmV0" not in found.jwks


def test_symmetric_keys_are_never_taken() -> None:
    found = read(ISSUERS[0].jwk, {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"})
    assert (found.left_out, found.private) == (1, True)
    assert b"oct" not in found.jwks


def test_weak_and_odd_keys_are_left_out() -> None:
    bad = [
        {**ISSUERS[0].jwk, "n": number((1 << 1_023) + 1)},
        {**ISSUERS[0].jwk, "e": number(1)},
        {**ISSUERS[0].jwk, "n": number(1 << 2_100)},
        {**ISSUERS[0].jwk, "n": "not base64url!"},
        {**ISSUERS[0].jwk, "alg": "HS256"},
        {**ISSUERS[0].jwk, "use": "enc"},
        {**ISSUERS[1].jwk, "alg": "RS256"},
        {**ISSUERS[1].jwk, "x": "AA"},
        {**ISSUERS[2].jwk, "x": "AA"},
        {**ISSUERS[2].jwk, "kid": 7},
        {"kty": "RSA"},
        {},
        None,
    ]
    assert read(ISSUERS[1].jwk, *bad).left_out == len(bad)
    with pytest.raises(UnusableKeys, match="no key in it can be used"):
        read(*bad)


def test_a_set_that_is_too_large_is_none() -> None:
    with pytest.raises(UnusableKeys, match="more than"):
        read_key_set(b" " * (MAX_BYTES + 1))
    with pytest.raises(UnusableKeys, match="more than"):
        read(*[ISSUERS[1].jwk] * (MAX_KEYS + 1))


@given(st.binary(max_size=200) | st.from_regex(rb'\{"keys": ?\[.{0,60}\]\}', fullmatch=True))
def test_whatever_is_written_is_a_set_of_keys_or_said_to_be_none(document: bytes) -> None:
    with contextlib.suppress(UnusableKeys):
        found = read_key_set(document)
        assert read_key_set(found.jwks).jwks == found.jwks


def test_nobodys_key_is_a_point_whose_x_is_the_hash_of_what_is_written_down() -> None:
    import hashlib

    [key] = json.loads(NOBODYS_KEYS)["keys"]
    x, y = (int.from_bytes(base64.urlsafe_b64decode(key[name] + "="), "big") for name in "xy")
    ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()  # raises where it is no point
    hashes = [
        int.from_bytes(hashlib.sha256(f"fairlead: the key that nobody has, {count}".encode()).digest(), "big")
        for count in range(8)
    ]
    assert x in hashes
    assert read_key_set(NOBODYS_KEYS).jwks == NOBODYS_KEYS
