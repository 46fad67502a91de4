"""Tokens whose signature is all there is to judge them by: what is taken, and everything that is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from discovery.kubernetes.token_keys import (
    ForgedError,
    Signed,
    SigningKeys,
    UnknownKeyError,
    UnusableKeysError,
    signed,
    signing_keys,
)

NOW = 1_795_656_300.0
ISSUER = "https://kubernetes.default.svc"
JSON = dict[str, Any]


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def number(value: int, size: int = 0) -> str:
    return encoded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str = "") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1() if name == "P-384" else ec.SECP256R1())


def rsa_jwk(key: rsa.RSAPrivateKey, **more: object) -> JSON:
    public = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": number(public.n), "e": number(public.e)} | more


def ec_jwk(key: ec.EllipticCurvePrivateKey, **more: object) -> JSON:
    public = key.public_key().public_numbers()
    size = key.key_size // 8
    point = {"x": number(public.x, size), "y": number(public.y, size)}
    return {"kty": "EC", "kid": "e", "use": "sig", "alg": "ES256", "crv": "P-256", **point} | more


def published(*keys: JSON) -> SigningKeys:
    return signing_keys(json.dumps({"issuer": ISSUER}).encode(), json.dumps({"keys": keys}).encode())


def both() -> SigningKeys:
    return published(rsa_jwk(rsa_key()), ec_jwk(ec_key()))


def claims(**changes: object) -> JSON:
    """The claims of a projected token of Kubernetes 1.34."""
    said: JSON = {
        "aud": ["fairlead"],
        "exp": int(NOW) + 3_600,
        "iat": int(NOW) - 10,
        "iss": ISSUER,
        "jti": "10643b5f-cb2d-4b8c-bed6-7e9d7a954de6",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node1", "uid": "n"},
            "pod": {"name": "edge-5d8f-abcde", "uid": "p"},
            "serviceaccount": {"name": "edge", "uid": "s"},
        },
        "nbf": int(NOW) - 10,
        "sub": "system:serviceaccount:shop:edge",
    } | changes
    return {key: value for key, value in said.items() if value is not None}


def bound(**changes: object) -> JSON:
    of = claims()["kubernetes.io"] | changes
    return claims(**{"kubernetes.io": {key: value for key, value in of.items() if value is not None}})


def by_rsa(part: bytes) -> bytes:
    return rsa_key().sign(part, padding.PKCS1v15(), hashes.SHA256())


def by_ec(part: bytes) -> bytes:
    r, s = decode_dss_signature(ec_key().sign(part, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def token(said: JSON, sign: Callable[[bytes], bytes] = by_rsa, **header: object) -> str:
    head = {"alg": "RS256", "kid": "r"} | header
    part = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(said).encode())}"
    return f"{part}.{encoded(sign(part.encode()))}"


def told(text: str, keys: SigningKeys | None = None) -> Signed:
    return signed(text, keys or both(), audience="fairlead", now=NOW)


def test_a_token_signed_by_either_kind_of_key_says_whose_it_is() -> None:
    expected = Signed("shop", "edge", "edge-5d8f-abcde", "p", NOW + 3_600, "node1")
    assert told(token(claims())) == expected
    assert told(token(claims(), by_ec, alg="ES256", kid="e")) == expected
    assert told(token(claims(aud="fairlead"))) == expected


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (claims(iss="https://elsewhere"), "its issuer"),
        (claims(aud=["other"]), "another audience"),
        (claims(aud=[]), "another audience"),
        (claims(aud="fairlead2"), "another audience"),
        (claims(exp=NOW), "has ended"),
        (claims(exp=None), "lacks a time"),
        (claims(exp="1"), "lacks a time"),
        (claims(nbf=None), "lacks a time"),
        (claims(nbf=NOW + 60), "not good yet"),
        (claims(iat=NOW + 60), "not good yet"),
        (claims(iat=None), "lacks a time"),
        (claims(exp=NOW + 90_000), "longer than 24 hours"),
        (claims(sub="system:serviceaccount:shop:other"), "its subject"),
        (claims(sub="system:serviceaccount:other:edge"), "its subject"),
        (claims(**{"kubernetes.io": None}), "not bound to a pod"),
        (bound(pod=None), "not bound to a pod"),
        (bound(pod={"name": "edge", "uid": ""}), "not bound to a pod"),
        (bound(serviceaccount=None), "not bound to a pod"),
        (bound(serviceaccount={"name": "edge", "uid": ""}), "not bound to a pod"),
        (bound(namespace="shop:edge"), "not bound to a pod"),
        (bound(pod={"name": "a\nb", "uid": "p"}), "not bound to a pod"),
    ],
)
def test_a_good_signature_under_anything_else_is_not_enough(said: JSON, why: str) -> None:
    with pytest.raises(ForgedError, match=why):
        told(token(said))


def test_a_token_that_was_changed_after_it_was_signed_is_not_taken() -> None:
    head, _, signature = token(claims()).split(".")
    other = encoded(json.dumps(bound(serviceaccount={"name": "admin", "uid": "s"})).encode())
    with pytest.raises(ForgedError, match="signature is wrong"):
        told(f"{head}.{other}.{signature}")


def test_the_key_and_not_the_token_decides_the_algorithm() -> None:
    public = rsa_key().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def with_the_public_key(part: bytes) -> bytes:
        return hmac.new(pem, part, hashlib.sha256).digest()

    for text in (
        token(claims(), with_the_public_key, alg="HS256"),
        token(claims(), lambda _: b"\0", alg="none"),
        token(claims(), alg="RS512"),
        token(claims(), alg="PS256"),
        token(claims(), by_ec, alg="ES256", kid="r"),
        token(claims(), by_rsa, alg="RS256", kid="e"),
        token(claims(), alg=""),
    ):
        with pytest.raises(ForgedError, match="algorithm"):
            told(text)


def test_a_signature_by_another_key_or_in_another_form_is_wrong() -> None:
    another = rsa.generate_private_key(65537, 2048)
    for text in (
        token(claims(), lambda part: another.sign(part, padding.PKCS1v15(), hashes.SHA256())),
        token(claims(), lambda part: ec_key().sign(part, ec.ECDSA(hashes.SHA256())), alg="ES256", kid="e"),  # DER
        token(claims(), lambda _: bytes(64), alg="ES256", kid="e"),
        token(claims(), lambda part: by_ec(part) + b"\0", alg="ES256", kid="e"),
        token(claims(), lambda part: by_rsa(part) + b"\0"),
    ):
        with pytest.raises(ForgedError, match="signature is wrong"):
            told(text)


def test_of_a_key_that_is_not_known_nothing_can_be_told() -> None:
    with pytest.raises(UnknownKeyError):
        told(token(claims(), kid="renewed"))
    with pytest.raises(UnknownKeyError):
        told(token(claims(), kid=""))


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": False}, {"crit": []}])
def test_a_header_that_asks_for_more_is_refused(header: JSON) -> None:
    with pytest.raises(ForgedError, match="not understood"):
        told(token(claims(), **header))


def test_keys_that_a_token_brings_along_are_not_looked_at() -> None:
    another = rsa.generate_private_key(65537, 2048)
    text = token(
        claims(),
        lambda part: another.sign(part, padding.PKCS1v15(), hashes.SHA256()),
        jwk=rsa_jwk(another),
        jku="https://elsewhere/keys",
        x5c=["AA=="],
    )
    with pytest.raises(ForgedError, match="signature is wrong"):
        told(text)


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c.d", "...", "é.é.é", "e30.e30.", "e30=.e30.AA", "e30.e30.A A", "W1tb.e30.AA", "e30.e30.AB"],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ForgedError, match="no signed token"):
        told(text)


def test_keys_that_are_weak_nameless_for_something_else_or_of_other_kinds_are_left_out() -> None:
    kept = published(
        rsa_jwk(rsa_key()),
        rsa_jwk(rsa_key(1024), kid="weak"),
        rsa_jwk(rsa_key(), kid=""),
        rsa_jwk(rsa_key(), kid="enc", use="enc"),
        rsa_jwk(rsa_key(), kid="ps", alg="PS256"),
        rsa_jwk(rsa_key(), kid="e", e=number(2)),
        rsa_jwk(rsa_key(), kid="n", n="!"),
        ec_jwk(ec_key("P-384"), kid="curve", crv="P-384"),
        ec_jwk(ec_key(), kid="off", x=number(5, 32)),
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
    )
    assert set(kept.keys) == {"r"}


@pytest.mark.parametrize(
    ("issuer", "keys"),
    [
        (b"", b'{"keys": []}'),
        (b'{"issuer": "x"}', b"<html>"),
        (b'{"issuer": "x"}', b'{"keys": []}'),
        (b'{"issuer": ""}', json.dumps({"keys": [rsa_jwk(rsa_key())]}).encode()),
        (b'{"issuer": "x"}', b"[" * 100_000),
        (b'{"issuer": "x"}', b'{"keys": [' + b" " * 70_000 + b"]}"),
    ],
)
def test_documents_that_hold_no_keys_are_said_to(issuer: bytes, keys: bytes) -> None:
    with pytest.raises(UnusableKeysError):
        signing_keys(issuer, keys)
