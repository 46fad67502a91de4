"""Requests for certificates: what a caller gets is its own identity, and a request that asks for more gets nothing."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from mesh.spiffe import SpiffeId
from sds.issuing import MAX_REQUEST, Limiter, RefusedRequest, public_key_of
from sds.keys import new_key, request_for

REVIEWS = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/reviews")
OTHER = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/admin")


def request(*extensions: tuple[x509.ExtensionType, bool], subject: str = "", key: Any = None) -> bytes:
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    signing = key if key is not None else new_key().key
    return builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def names(*general: x509.GeneralName) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName(list(general)), False


def uri(identity: object) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(str(identity))


def test_a_request_without_names_or_with_the_callers_own_gives_its_key() -> None:
    key = new_key()
    assert public_key_of(request_for(key, REVIEWS), REVIEWS) == key.public_key
    assert public_key_of(request(key=key.key), REVIEWS) == key.public_key


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request_for(new_key(), OTHER), "asks for spiffe://cluster.local/ns/shop/sa/admin"),
        (request(names(uri(REVIEWS), uri(OTHER))), "asks for spiffe://"),
        (request(names(uri(REVIEWS), uri(REVIEWS))), "asks for spiffe://"),
        (request(names(x509.DNSName("reviews.shop"))), "DNSName"),
        (request(names(uri(REVIEWS), x509.IPAddress(ipaddress.ip_address("10.0.0.1")))), "IPAddress"),
        (request(subject="admin"), "asks for a subject"),
        (request((x509.BasicConstraints(ca=True, path_length=None), True)), "extension 2.5.29.19"),
        (request(key=rsa.generate_private_key(65_537, 1_024)), "RSA key of 1024 bits"),
        (request(key=dsa.generate_private_key(1_024)), "neither an elliptic curve"),
        (request(key=ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
        (b"", "no certificate request"),
        (b"-----BEGIN CERTIFICATE REQUEST-----", "no certificate request"),
        (b"0" * (MAX_REQUEST + 1), "bytes; at most"),
    ],
)
def test_whatever_asks_for_more_is_refused_and_not_trimmed(asked: bytes, words: str) -> None:
    with pytest.raises(RefusedRequest, match=words.replace(".", r"\.")):
        public_key_of(asked, REVIEWS)


def test_a_request_that_somebody_else_signed_is_refused() -> None:
    mine, theirs = bytearray(request_for(new_key(), REVIEWS)), request_for(new_key(), REVIEWS)
    forged = bytes(mine[:-20] + theirs[-20:])
    with pytest.raises(RefusedRequest):
        public_key_of(forged, REVIEWS)


@given(st.binary(max_size=2_000), st.integers(0, 400))
def test_garbage_is_refused_and_never_anything_else(garbage: bytes, at: int) -> None:
    good = bytearray(request_for(new_key(), OTHER))
    good[at : at + len(garbage)] = garbage
    for data in (garbage, bytes(good)):
        with pytest.raises(RefusedRequest):
            public_key_of(data, REVIEWS)


def test_a_caller_has_a_burst_and_then_its_turn_and_does_not_take_others() -> None:
    limiter = Limiter(burst=3, per_second=1)
    assert [limiter.allow("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert limiter.allow("b", 0.0)
    assert [limiter.allow("a", 1.0), limiter.allow("a", 1.0)] == [True, False]


def test_what_is_remembered_of_callers_is_bounded() -> None:
    limiter = Limiter(burst=1, per_second=0)
    for number in range(30_000):
        assert limiter.allow(str(number), 0.0)
    assert len(limiter._spent) <= 20_000
