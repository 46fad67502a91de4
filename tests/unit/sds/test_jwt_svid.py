"""JWT-SVIDs: what we sign is valid for those it is for; what others made up is valid for nobody."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import RefusedIssue
from sds.bundle import JwtKey, TrustBundle
from sds.jwt_svid import InvalidToken, JwtSvid, sign, validate
from sds.keys import SigningKey, new_key

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
T = int(NOW.timestamp())
TD, OTHER = TrustDomain("example.org"), TrustDomain("elsewhere.org")
REVIEWS = SpiffeId.parse("spiffe://example.org/ns/shop/sa/reviews")
LIFE = dt.timedelta(minutes=5)
KEY, OTHERS_KEY = new_key(), new_key()
RSA = rsa.generate_private_key(65_537, 2_048)


def pem(key: Any) -> bytes:
    return bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


BUNDLES = {
    TD: TrustBundle(TD, (), 1, jwt_keys=(JwtKey("k", pem(KEY.public_key)), JwtKey("r", pem(RSA.public_key())))),
    OTHER: TrustBundle(OTHER, (), 1, jwt_keys=(JwtKey("o", pem(OTHERS_KEY.public_key)),)),
}
GOOD = sign(KEY, "k", REVIEWS, ("orders",), now=NOW, lifetime=LIFE)


def judged(token: str, audience: str = "orders", now: dt.datetime = NOW) -> JwtSvid:
    return validate(token, BUNDLES, audience=audience, now=now)


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def made(header: Any = None, claims: Any = None, *, key: SigningKey = KEY, **more: Any) -> str:
    """A token with a right signature over whatever it says."""
    head = {"alg": "ES256", "kid": "k"} if header is None else header
    body = {"sub": str(REVIEWS), "aud": "orders", "exp": T + 60, **more} if claims is None else claims
    signed = f"{b64(head)}.{b64({name: value for name, value in body.items() if value is not None})}"
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(key.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384"])
def test_what_is_signed_is_valid(kind: Any) -> None:
    key = new_key(kind)
    token = sign(key, "x", REVIEWS, ("orders", "billing"), now=NOW, lifetime=LIFE)
    bundles = {TD: TrustBundle(TD, (), 1, jwt_keys=(JwtKey("x", pem(key.public_key)),))}
    found = validate(token, bundles, audience="billing", now=NOW)
    assert (found.identity, found.audiences, found.expires_at) == (REVIEWS, ("orders", "billing"), NOW + LIFE)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_rsa_tokens_of_others_are_valid(algorithm: str) -> None:
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    how: Any = padding.PKCS1v15() if algorithm[0] == "R" else padding.PSS(padding.MGF1(digest), digest.digest_size)
    signed = f"{b64({'alg': algorithm, 'kid': 'r'})}.{b64({'sub': str(REVIEWS), 'aud': ['orders'], 'exp': T + 60})}"
    token = f"{signed}.{b64(RSA.sign(signed.encode(), how, digest))}"
    assert judged(token).identity == REVIEWS


def test_the_made_up_tokens_below_would_be_valid_but_for_what_is_wrong_with_each() -> None:
    assert judged(made()).identity == REVIEWS


@pytest.mark.parametrize(
    ("token", "why"),
    {
        "no audience": (made(aud=None), "aud"),
        "an empty audience": (made(aud=[]), "not for"),
        "another audience": (made(aud="billing"), "not for"),
        "an audience that contains ours": (made(aud="orders.evil"), "not for"),
        "no end": (made(exp=None), "exp"),
        "an end in words": (made(exp="never"), "exp"),
        "over": (made(exp=T - 61), "ended"),
        "an end beyond all time": (made(exp=1e300), "no time"),
        "not begun": (made(nbf=T + 61), "not begun"),
        "signed in the future": (made(iat=T + 61), "not begun"),
        "no subject": (made(sub=None), "sub"),
        "a subject of another kind": (made(sub="reviews"), "no SPIFFE ID"),
        "an authority as its subject": (made(sub="spiffe://example.org"), "authority"),
        "an unknown trust domain": (made(sub="spiffe://nowhere.org/a"), "not known"),
        "another trust domain's subject": (made(sub="spiffe://elsewhere.org/a"), "none of elsewhere.org"),
        "another trust domain's key": (made({"alg": "ES256", "kid": "o"}, key=OTHERS_KEY), "none of example.org"),
        "the wrong key": (made(key=OTHERS_KEY), "signature is wrong"),
        "no key": (made({"alg": "ES256"}), "kid"),
        "an unknown key": (made({"alg": "ES256", "kid": "z"}), "none of"),
        "no algorithm": (made({"kid": "k"}), "alg"),
        "none": (made({"alg": "none", "kid": "k"}), "algorithm"),
        "None": (made({"alg": "None", "kid": "k"}), "algorithm"),
        "EdDSA": (made({"alg": "EdDSA", "kid": "k"}), "algorithm"),
        "an odd curve": (made({"alg": "ES384", "kid": "k"}), "not that of its key"),
        "a curve that is none": (made({"alg": "ES25", "kid": "k"}), "algorithm"),
        "RSA with a curve's key": (made({"alg": "RS256", "kid": "k"}), "not that of its key"),
        "a curve with an RSA key": (made({"alg": "ES256", "kid": "r"}), "not that of its key"),
        "a key that it brings along": (made({"alg": "ES256", "kid": "k", "jwk": {"kty": "EC"}}), "unknown field"),
        "an address of keys": (made({"alg": "ES256", "kid": "k", "jku": "https://evil"}), "unknown field"),
        "something critical": (made({"alg": "ES256", "kid": "k", "crit": ["b64"], "b64": False}), "unknown field"),
        "another type": (made({"alg": "ES256", "kid": "k", "typ": "at+jwt"}), "typ"),
        "nothing": ("", "three parts"),
        "two parts": (GOOD.rpartition(".")[0], "three parts"),
        "four parts": (GOOD + ".x", "three parts"),
        "five parts": ("a.b.c.d.e", "three parts"),
        "no signature": (GOOD.rpartition(".")[0] + ".", "length"),
        "padding": (GOOD + "=", "cannot be read"),
        "a line break": (GOOD + "\n", "cannot be read"),
        "very long": (GOOD + "A" * 20_000, "more than"),
        "very deep": (f"{b64({'alg': 'ES256', 'kid': 'k'})}.{b64(b'[' * 9_000)}.x", "cannot be read"),
    }.values(),
)
def test_a_made_up_token_is_refused(token: str, why: str) -> None:
    """CVE-2022-23635, CVE-2022-24726, CVE-2022-39278: what nobody had vouched for brought a control plane down."""
    with pytest.raises(InvalidToken, match=why):
        judged(token)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_shared_secret(algorithm: str) -> None:
    """CVE-2015-9235, CVE-2016-5431: the public key taken as the secret of an HMAC made anybody a signer."""
    signed = f"{b64({'alg': algorithm, 'kid': 'k'})}.{b64({'sub': str(REVIEWS), 'aud': 'orders', 'exp': T + 60})}"
    digest = getattr(hashlib, f"sha{algorithm[2:]}")
    for secret in (pem(KEY.public_key), b"", pem(RSA.public_key())):
        token = f"{signed}.{b64(hmac.new(secret, signed.encode(), digest).digest())}"
        with pytest.raises(InvalidToken, match="algorithm"):
            judged(token)


def test_a_blank_signature_is_none() -> None:
    """CVE-2022-21449: a signature of zeros was valid for everything."""
    with pytest.raises(InvalidToken):
        judged(f"{GOOD.rpartition('.')[0]}.{b64(bytes(64))}")


def test_clocks_may_differ_by_a_minute() -> None:
    assert judged(GOOD, now=NOW + LIFE + dt.timedelta(seconds=59))
    assert judged(GOOD, now=NOW - dt.timedelta(seconds=59))
    with pytest.raises(InvalidToken):
        judged(GOOD, now=NOW + LIFE + dt.timedelta(seconds=61))


@pytest.mark.parametrize("audiences", [(), ("",), ("a", ""), ("a",) * 11, ("a" * 4_097,)])
def test_no_token_is_signed_for_everybody(audiences: tuple[str, ...]) -> None:
    with pytest.raises(RefusedIssue, match="audiences"):
        sign(KEY, "k", REVIEWS, audiences, now=NOW, lifetime=LIFE)


def test_no_token_is_signed_for_long_or_for_an_authority() -> None:
    for life in (dt.timedelta(hours=1, seconds=1), dt.timedelta(), -LIFE):
        with pytest.raises(RefusedIssue, match="life"):
            sign(KEY, "k", REVIEWS, ("a",), now=NOW, lifetime=life)
    with pytest.raises(RefusedIssue, match="authority"):
        sign(KEY, "k", TD.id, ("a",), now=NOW, lifetime=LIFE)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from([*GOOD.split("."), ".", "A", "{", b64({}), b64([]), "é"])).map("".join))
@example(".." * 100)
def test_whatever_is_shown_is_judged_and_never_breaks_the_judge(text: str) -> None:
    with contextlib.suppress(InvalidToken):
        assert judged(text).identity == REVIEWS


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_a_changed_character_makes_it_invalid(at: int, character: str) -> None:
    changed = GOOD[:at] + character + GOOD[at + 1 :]
    last = at == len(GOOD) - 1  # of its last character, two bits are not part of the signature
    if changed != GOOD and not last:
        with pytest.raises(InvalidToken):
            judged(changed)
