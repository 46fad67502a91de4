"""Signatures of tokens: strict where JOSE is loose."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sds import jws

CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@pytest.mark.parametrize("raw", [b"", b"a", b"ab", b"abc", bytes(range(256))])
def test_what_is_encoded_is_decoded(raw: bytes) -> None:
    assert jws.decoded(jws.encoded(raw)) == raw


@pytest.mark.parametrize("text", ["YQ==", "YR", "Y", "Y Q", "YQ\n", "+/", "ä"])
def test_base64url_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        jws.decoded(text)


@pytest.mark.parametrize("algorithm", CURVES)
def test_a_signature_is_good_for_its_words_its_key_and_its_algorithm_alone(algorithm: str) -> None:
    key = ec.generate_private_key(CURVES[algorithm])
    signature = jws.sign(key, algorithm, b"words")
    jws.verify(algorithm, key.public_key(), b"words", signature)
    others = [name for name in (*CURVES, "RS256", "PS256", "HS256", "none", "ES", "") if name != algorithm]
    wrong = [(other, key, b"words", signature) for other in others]
    wrong += [
        (algorithm, key, b"other words", signature),
        (algorithm, ec.generate_private_key(CURVES[algorithm]), b"words", signature),
        (algorithm, key, b"words", signature[:-1]),
        (algorithm, key, b"words", b""),
        (algorithm, rsa.generate_private_key(65537, 2048), b"words", signature),
    ]
    for name, signer, said, shown in wrong:
        with pytest.raises(jws.BadSignature):
            jws.verify(name, signer.public_key(), said, shown)
