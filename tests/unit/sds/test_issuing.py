"""What the built-in authority signs, and what it refuses."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable, RefusedIssue
from sds.builtin import BuiltinAuthority, Making, in_memory, new_slot
from sds.certificates import (
    BACKDATE,
    Signer,
    UnusableAuthority,
    intermediate_request,
    new_root,
    read_signer,
    sign_intermediate,
)
from sds.keepers import MemoryKeeper, write_book
from sds.keys import KeyType, new_key
from sds.lint import lint_authority, lint_svid
from sds.rotation import first
from sds.sealing import Sealer

TD = TrustDomain("example.org")
REVIEWS = SpiffeId.parse("spiffe://example.org/ns/shop/sa/reviews")
NOW = dt.datetime(2026, 1, 1, 12, 0, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
PUBLIC = ec.generate_private_key(ec.SECP256R1()).public_key()


def authority(kind: KeyType = "ecdsa-p256") -> BuiltinAuthority:
    return in_memory(TD, making=Making(key_type=kind), clock=lambda: NOW)


async def kept_by(signer: Signer, clock: Callable[[], dt.datetime]) -> BuiltinAuthority:
    """An authority around a signer that was made elsewhere."""
    sealer, keeper = Sealer(b"a passphrase for tests"), MemoryKeeper()
    await keeper.save(write_book(first(new_slot(signer, TD, sealer, NOW), TD.name, NOW)))
    made = BuiltinAuthority(TD, keeper, sealer, clock=clock)
    await made.open(may_begin=False)
    return made


def leaf_of(chain: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain)[0]


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072"])
async def test_a_leaf_has_the_profile_and_verifies_with_every_kind_of_key(kind: KeyType) -> None:
    signing = authority(kind)
    issued = await signing.issue(PUBLIC, REVIEWS, dns_names=("reviews.shop.svc", "10.0.0.1"))
    leaf = leaf_of(issued.chain)
    roots = x509.load_pem_x509_certificates(signing.bundle().pem())
    assert lint_svid(leaf, REVIEWS, roots[0]) == []
    assert leaf.subject.rdns == []
    assert leaf.not_valid_before_utc == NOW - BACKDATE
    assert leaf.not_valid_after_utc == NOW + 24 * HOUR
    verified = (
        PolicyBuilder()
        .store(Store(roots))
        .time(NOW)
        .build_server_verifier(x509.DNSName("reviews.shop.svc"))
        .verify(leaf, [])
    )
    assert verified[0] == leaf
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [str(REVIEWS)]
    assert names.value.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.1")]


async def test_serials_are_random_and_long() -> None:
    signing = authority()
    serials = [(await signing.issue(PUBLIC, REVIEWS)).serial for _ in range(100)]
    assert len(set(serials)) == 100
    assert max(serials).bit_length() >= 150
    assert all(serial.bit_length() > 64 for serial in serials)


@pytest.mark.parametrize("asked", [8 * 24 * HOUR, dt.timedelta(days=7, seconds=1), HOUR / 2, -HOUR, dt.timedelta()])
async def test_a_life_that_is_not_granted_is_an_error(asked: dt.timedelta) -> None:
    with pytest.raises(RefusedIssue, match="is granted"):
        await authority().issue(PUBLIC, REVIEWS, lifetime=asked)


async def test_a_life_within_bounds_is_granted() -> None:
    issued = await authority().issue(PUBLIC, REVIEWS, lifetime=7 * 24 * HOUR)
    assert issued.not_after == NOW + 7 * 24 * HOUR


async def test_no_leaf_outlives_its_signer_and_none_is_signed_after() -> None:
    root = new_root(TD, new_key(), now=NOW, lifetime=3 * HOUR)
    now = [NOW + 2 * HOUR]
    signing = await kept_by(root, lambda: now[0])
    issued = await signing.issue(PUBLIC, REVIEWS)
    assert issued.not_after == root.certificate.not_valid_after_utc
    now[0] = NOW + 3 * HOUR
    with pytest.raises(AuthorityUnavailable, match="ended"):
        await signing.issue(PUBLIC, REVIEWS)


@pytest.mark.parametrize(
    "identity",
    [
        "spiffe://elsewhere.org/ns/shop/sa/reviews",
        "spiffe://example.org",
        "spiffe://example.org.evil/ns/shop/sa/reviews",
    ],
)
async def test_an_identity_that_is_not_ours_to_give_is_refused(identity: str) -> None:
    with pytest.raises(RefusedIssue):
        await authority().issue(PUBLIC, SpiffeId.parse(identity))


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65_537, 1_024).public_key(),
        rsa.generate_private_key(3, 2_048).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        "no key",
    ],
    ids=["short RSA", "small exponent", "odd curve", "Ed25519", "nothing"],
)
async def test_a_weak_or_odd_key_is_refused(key: object) -> None:
    with pytest.raises(RefusedIssue):
        await authority().issue(key, REVIEWS)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a..b",
        "*.example.org",
        "EXAMPLE.org",
        "a b",
        "x\x00.evil.org",
        "a\n",
        "-a.org",
        "a" * 64,
        "spiffe://td/x",
        "é.org",
    ],
)
async def test_a_name_of_no_valid_form_never_reaches_a_certificate(name: str) -> None:
    """CVE-2025-66220, CVE-2026-47778, CVE-2022-21656: names with NULs and of odd types fooled who compared them."""
    with pytest.raises(RefusedIssue):
        await authority().issue(PUBLIC, REVIEWS, dns_names=(name,))


async def test_an_intermediate_signs_in_the_name_of_an_offline_root() -> None:
    root = new_root(TD, new_key("ecdsa-p384"), now=NOW, lifetime=1000 * HOUR, above=1)
    key = new_key()
    chain = sign_intermediate(root, intermediate_request(TD, key), TD, now=NOW, lifetime=100 * HOUR)
    signing = await kept_by(read_signer(chain, key, TD), lambda: NOW)
    issued = await signing.issue(PUBLIC, REVIEWS, dns_names=("a.b",))
    leaf, *above = x509.load_pem_x509_certificates(issued.chain)
    assert len(above) == 1
    store = Store(x509.load_pem_x509_certificates(signing.bundle().pem()))
    PolicyBuilder().store(store).time(NOW).build_server_verifier(x509.DNSName("a.b")).verify(leaf, above)
    assert lint_authority(above[0], TD) == []


def test_a_broken_or_foreign_chain_is_no_authority() -> None:
    root = new_root(TD, new_key(), now=NOW, lifetime=1000 * HOUR, above=1)
    key = new_key()
    chain = sign_intermediate(root, intermediate_request(TD, key), TD, now=NOW, lifetime=100 * HOUR)
    intermediate = chain[: chain.index(b"-----END") + 26]
    for wrong, with_key in ((intermediate, key), (chain, new_key()), (b"no chain", key), (b"", key)):
        with pytest.raises(UnusableAuthority):
            read_signer(wrong, with_key, TD)
    with pytest.raises(UnusableAuthority, match="not elsewhere"):
        read_signer(chain, key, TrustDomain("elsewhere"))


def test_a_request_for_an_intermediate_with_a_bad_signature_is_refused() -> None:
    root = new_root(TD, new_key(), now=NOW, lifetime=1000 * HOUR, above=1)
    good = x509.load_pem_x509_csr(intermediate_request(TD, new_key())).public_bytes(Encoding.DER)
    bad = x509.load_der_x509_csr(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:]).public_bytes(Encoding.PEM)
    for request in (bad, b"no request"):
        with pytest.raises(UnusableAuthority):
            sign_intermediate(root, request, TD, now=NOW, lifetime=HOUR)


def test_no_key_shows_itself() -> None:
    key = new_key()
    pem = key.pem()
    assert "PRIVATE" in pem.pem.decode()
    for shown in (repr(key), str(key), f"{key}", repr(pem), repr(new_root(TD, key, now=NOW, lifetime=HOUR))):
        assert "redacted" in shown
        assert "PRIVATE" not in shown


@pytest.mark.parametrize("off", [-90, 90])
async def test_clocks_may_differ_by_a_minute_and_a_half(off: int) -> None:
    signing = authority()
    issued = await signing.issue(PUBLIC, REVIEWS, dns_names=("a.b",))
    store = Store(x509.load_pem_x509_certificates(signing.bundle().pem()))
    elsewhere = NOW + dt.timedelta(seconds=off)
    PolicyBuilder().store(store).time(elsewhere).build_server_verifier(x509.DNSName("a.b")).verify(
        leaf_of(issued.chain), []
    )
