"""Trust bundles on the wire: what we write others read, and what others write is read with care."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.spiffe import TrustDomain
from sds.bundle import MAX_BYTES, InvalidBundle, JwtKey, TrustBundle, read_jwks, write_jwks
from sds.certificates import new_root, to_pem
from sds.keys import new_key

TD = TrustDomain("example.org")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ROOTS = {
    kind: new_root(TD, new_key(kind), now=NOW, lifetime=DAY).certificate
    for kind in ("ecdsa-p256", "ecdsa-p384", "rsa-2048")
}  # type: ignore[arg-type]
ROOT = ROOTS["ecdsa-p256"]
KEY = JwtKey("k1", new_key().public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
BUNDLE = TrustBundle(TD, tuple(to_pem(root) for root in ROOTS.values()), 7, 60, (KEY,))
DOCUMENT = write_jwks(BUNDLE)


def der(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def document(*keys: Any, **more: Any) -> bytes:
    return json.dumps({"keys": keys, **more}).encode()


def x509_key(certificate: x509.Certificate = ROOT, **more: Any) -> dict[str, Any]:
    return {"kty": "EC", "use": "x509-svid", "x5c": [der(certificate)], **more}


def test_a_bundle_reads_back_as_it_was_written() -> None:
    assert read_jwks(DOCUMENT, TD) == BUNDLE


def test_the_document_has_the_form_that_the_specification_says() -> None:
    found = json.loads(DOCUMENT)
    assert (found["spiffe_sequence"], found["spiffe_refresh_hint"]) == (7, 60)
    certificates = [key for key in found["keys"] if key["use"] == "x509-svid"]
    assert len(certificates) == len(ROOTS)
    for key in certificates:
        assert "kid" not in key
        assert len(key["x5c"]) == 1
        assert key["kty"] in {"EC", "RSA"}
    [token_key] = [key for key in found["keys"] if key["use"] == "jwt-svid"]
    assert token_key.keys() == {"kty", "use", "kid", "crv", "x", "y"}


def test_what_is_unknown_is_ignored_as_the_specification_says() -> None:
    found = read_jwks(
        document(
            x509_key(),
            x509_key(kty="OKP"),
            x509_key(use="wit-svid"),
            x509_key(use=""),
            {"kty": "EC", "use": "x509-svid"},
            {"kty": "EC", "use": "x509-svid", "x5c": []},
            x509_key(x5c=[der(ROOT), "the rest is ignored"]),
            something={"else": 1},
        ),
        TD,
    )
    assert found.roots == (to_pem(ROOT),)
    assert (found.sequence, found.refresh_hint) == (0, 300)


def test_a_bundle_without_keys_takes_everything_back() -> None:
    assert read_jwks(document(spiffe_sequence=9), TD) == TrustBundle(TD, (), 9)


def test_an_authority_of_another_trust_domain_is_refused() -> None:
    foreign = new_root(TrustDomain("elsewhere.org"), new_key(), now=NOW, lifetime=DAY).certificate
    with pytest.raises(InvalidBundle, match=r"is of elsewhere.org, not example.org"):
        read_jwks(document(x509_key(), x509_key(foreign)), TD)


@pytest.mark.parametrize(
    ("content", "why"),
    {
        "no JSON": (b"<html>", "no JWK Set"),
        "no keys": (b"{}", "keys"),
        "keys of another kind": (b'{"keys": {}}', "no JWK Set"),
        "deep": (b'{"keys":' + b"[" * 100_000, "no JWK Set"),
        "large": (b" " * (MAX_BYTES + 1), "bytes"),
        "many": (document(*[{"kty": "X"}] * 201), "201 keys"),
        "no certificate": (document(x509_key(x5c=["AAAA"])), "no certificate"),
        "no base64": (document(x509_key(x5c=["é"])), "no certificate"),
        "a negative number": (document(spiffe_sequence=-1), "spiffe_sequence"),
        "a number beyond 64 bits": (document(spiffe_sequence=1 << 63), "spiffe_sequence"),
        "a number in words": (document(spiffe_sequence="1"), "spiffe_sequence"),
        "a token key without a name": (document({"kty": "EC", "use": "jwt-svid"}), "no kid"),
        "a token key without a point": (document({"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256"}), "read"),
        "a point off the curve": (
            document({"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "AQ", "y": "AQ"}),
            "read",
        ),
        "an odd curve": (
            document({"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "secp256k1", "x": "AQ", "y": "AQ"}),
            "read",
        ),
        "a short RSA key": (
            document({"kty": "RSA", "use": "jwt-svid", "kid": "a", "n": "w" * 171, "e": "AQAB"}),
            "bits|read",
        ),
    }.values(),
)
def test_a_document_that_is_no_bundle_is_refused(content: bytes, why: str) -> None:
    """CVE-2026-48042, of depth; the others are of kinds that were met nowhere yet."""
    with pytest.raises(InvalidBundle, match=why):
        read_jwks(content, TD)


def test_a_root_whose_key_is_none_is_refused() -> None:
    """Found by fuzzing: such a certificate can be read, and only its key cannot."""
    numbers = ROOT.public_key().public_numbers()
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    odd = ROOT.public_bytes(Encoding.DER).replace(point, b"\x01" * 64)
    with pytest.raises(InvalidBundle, match="no certificate"):
        read_jwks(document(x509_key(x5c=[base64.b64encode(odd).decode()])), TD)


def test_two_token_keys_of_one_name_are_refused() -> None:
    twice = json.loads(DOCUMENT)
    twice["keys"] += [key for key in twice["keys"] if key["use"] == "jwt-svid"]
    with pytest.raises(InvalidBundle, match="two keys"):
        read_jwks(json.dumps(twice).encode(), TD)


def test_a_leaf_is_no_authority() -> None:
    key = rsa.generate_private_key(65_537, 2_048)
    name = x509.Name([])
    from cryptography.hazmat.primitives import hashes

    leaf = (
        x509.CertificateBuilder(name, name, key.public_key(), 1 << 100, NOW, NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(InvalidBundle, match="no authority"):
        read_jwks(document(x509_key(leaf)), TD)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["EC", "RSA", "x509-svid", "AQAB"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kty", "use", "kid", "crv", "x", "y", "n", "e", "x5c", "a"]), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_json, max_size=4), st.dictionaries(st.sampled_from(["spiffe_sequence", "spiffe_refresh_hint"]), _json))
def test_whatever_is_served_is_judged_and_never_breaks_the_judge(keys: Any, more: Any) -> None:
    with contextlib.suppress(InvalidBundle):
        read_jwks(document(*keys, **more), TD)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(DOCUMENT)))
def test_a_document_with_a_hole_in_it_is_judged_too(noise: bytes, at: int) -> None:
    with contextlib.suppress(InvalidBundle):
        read_jwks(DOCUMENT[:at] + noise + DOCUMENT[at + len(noise) :], TD)
