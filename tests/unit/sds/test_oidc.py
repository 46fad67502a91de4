"""OIDC tokens: what the operator listed is believed, and nothing that looks like it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import example, given
from hypothesis import strategies as st

from sds.oidc import InvalidOidcToken, Issuer, Subject, UnusableIssuers, issuer_named, judge, read_issuers

NOW = 1_800_000_000
CI, SUBJECT = "https://ci.example", "repo:shop/reviews:ref:refs/heads/main"
EC, RSA, SMALL = (
    ec.generate_private_key(ec.SECP256R1()),
    rsa.generate_private_key(65_537, 2_048),
    rsa.generate_private_key(65_537, 1_024),
)
OTHER = ec.generate_private_key(ec.SECP256R1())


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, size: int) -> str:
    return b64(value.to_bytes(size, "big"))


def jwk(kid: str, key: Any, **more: str) -> dict[str, str]:
    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "kid": kid, "n": number(public.n, key.key_size // 8), "e": number(public.e, 3), **more}
    return {"kty": "EC", "kid": kid, "crv": "P-256", "x": number(public.x, 32), "y": number(public.y, 32), **more}


def document(**change: Any) -> bytes:
    written = {
        "issuer": CI,
        "audience": "fairlead",
        "jwks": {"keys": [jwk("e", EC), jwk("r", RSA)]},
        "subjects": {SUBJECT: "shop/reviews"},
        **change,
    }
    return json.dumps({"issuers": [written]}).encode()


ISSUERS = read_issuers(document())


def made(header: dict[str, Any] | None = None, *, key: Any = EC, **change: Any) -> str:
    """A token with a right signature of `key` over whatever it says; None leaves a claim out."""
    claims = {"iss": CI, "sub": SUBJECT, "aud": "fairlead", "iat": NOW - 5, "exp": NOW + 300, **change}
    head = {"alg": "ES256", "kid": "e", **(header or {})}
    signed = f"{b64(head)}.{b64({name: value for name, value in claims.items() if value is not None})}"
    if isinstance(key, rsa.RSAPrivateKey):
        return f"{signed}.{b64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


GOOD = made()


@pytest.mark.parametrize("token", [GOOD, made({"alg": "RS256", "kid": "r"}, key=RSA), made(aud=["x", "fairlead"])])
def test_a_token_of_a_listed_subject_proves_its_account(token: str) -> None:
    assert judge(token, ISSUERS, now=NOW) == Subject("shop", "reviews", NOW + 300)
    assert issuer_named(token) == CI


def keyed_by_the_public_key() -> str:
    signed = f"{b64({'alg': 'HS256', 'kid': 'e'})}.{GOOD.split('.')[1]}"
    secret = json.dumps(jwk("e", EC)).encode()
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (made(iss="https://ci.example/"), "not believed"),
        (made(iss="https://evil.example"), "not believed"),
        (made(sub=SUBJECT + "x"), "not listed"),
        (made(sub="*"), "not listed"),
        (made(aud="other"), "not for fairlead"),
        (made(aud=[]), "not for fairlead"),
        (made(exp=NOW), "has ended"),
        (made(exp=NOW + 90_000), "longer than a day"),
        (made(nbf=NOW + 61), "not begun"),
        (made(iat=NOW + 61), "not begun"),
        (made(exp=None), "a claim is missing"),
        (made(iat=None), "a claim is missing"),
        (made(key=OTHER), "signature is wrong"),
        (made({"kid": "unknown"}), "no key"),
        (made({"alg": "RS256"}), "no key"),
        (made({"alg": "none"}), "no key"),
        (made({"crit": ["b64"]}), "no key"),
        (made({"jwk": jwk("e", OTHER)}, key=OTHER), "signature is wrong"),
        (keyed_by_the_public_key(), "no key"),
        (GOOD.rpartition(".")[0] + ".", "another length"),
        (GOOD + "AAAA", "another length"),
        ("a.b", "no signed token"),
        ("." * 20_000, "no signed token"),
    ],
)
def test_anything_else_proves_nothing(token: str, why: str) -> None:
    with pytest.raises(InvalidOidcToken, match=why):
        judge(token, ISSUERS, now=NOW)


def test_an_issuer_cannot_speak_for_another_with_its_own_key() -> None:
    theirs = read_issuers(document(issuer="https://other.example", jwks={"keys": [jwk("e", OTHER)]}))
    with pytest.raises(InvalidOidcToken, match="signature is wrong"):
        judge(made(key=OTHER), {**ISSUERS, **theirs}, now=NOW)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"issuer": "http://ci.example"}, "https"),
        ({"audience": ""}, "audience"),
        ({"jwks": {"keys": []}}, "no key"),
        ({"jwks": {"keys": [jwk("s", SMALL)]}}, "no key"),
        ({"jwks": {"keys": [jwk("e", EC, use="enc")]}}, "no key"),
        ({"jwks": {"keys": [jwk("e", EC, y=number(1, 32))]}}, "no key"),
        ({"subjects": {SUBJECT: "shop"}}, "NAMESPACE/ACCOUNT"),
        ({"subjects": {SUBJECT: "shop/reviews/x"}}, "NAMESPACE/ACCOUNT"),
        ({"subjects": {"": "shop/reviews"}}, "NAMESPACE/ACCOUNT"),
        ({"audiences": ["x"]}, "audiences"),
    ],
)
def test_what_is_written_wrongly_is_told(change: dict[str, Any], why: str) -> None:
    with pytest.raises(UnusableIssuers, match=why):
        read_issuers(document(**change))


def test_an_issuer_stands_there_once() -> None:
    [one] = json.loads(document())["issuers"]
    with pytest.raises(UnusableIssuers, match="twice"):
        read_issuers(json.dumps({"issuers": [one, one]}).encode())


@given(st.one_of(st.binary(max_size=300), st.integers(0, len(GOOD) - 1).map(lambda at: GOOD[:at].encode())))
@example(b'{"issuers":' * 500)
def test_parsers_raise_what_they_promise(data: bytes) -> None:
    with suppress(UnusableIssuers):
        assert all(isinstance(one, Issuer) for one in read_issuers(data).values())
    text = data.decode("latin-1")
    assert isinstance(issuer_named(text), str)
    with pytest.raises(InvalidOidcToken):
        judge(text, ISSUERS, now=NOW)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("AZaz09-_.=\n"))
def test_no_changed_token_is_another_ones(at: int, letter: str) -> None:
    """A token with one letter changed proves nothing, or (the last letter's spare bits) just the same."""
    with suppress(InvalidOidcToken):
        assert judge(GOOD[:at] + letter + GOOD[at + 1 :], ISSUERS, now=NOW).account == "reviews"
