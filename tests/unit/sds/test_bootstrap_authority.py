from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from sds.bootstrap_authority import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    OVERLAP,
    Authorities,
    Leaf,
    ServerLeaf,
    UnreadableAuthorityError,
    issue,
    new_authority,
    read,
    read_leaf,
    rotated,
)

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
NAMES = ("fairlead.fairlead-system.svc", "10.0.0.1", "::1")
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)


def trusts(bundle: bytes, leaf: Leaf, *, name: str = NAMES[0], at: dt.datetime = NOW) -> bool:
    """Whether who has this bundle takes this certificate for that name."""
    verifier = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(bundle))).time(at)
    try:
        verifier.build_server_verifier(x509.DNSName(name)).verify(leaf.certificate, [])
    except VerificationError:
        return False
    return True


def test_a_servers_certificate_is_for_its_names_for_a_day_and_two_minutes_back() -> None:
    authority = new_authority(NOW)
    leaf = issue(authority, NAMES, NOW)
    assert trusts(Authorities(authority).bundle(), leaf)
    assert not trusts(Authorities(authority).bundle(), leaf, name="evil.example")
    assert not trusts(Authorities(new_authority(NOW)).bundle(), leaf)
    names = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAMES[0]]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    assert leaf.certificate.not_valid_before_utc == NOW - 2 * MINUTE
    assert leaf.certificate.not_valid_after_utc == NOW + LEAF_LIFE
    key = leaf.key.key
    assert isinstance(key.curve, ec.SECP256R1)


def test_it_cannot_sign_others() -> None:
    leaf = issue(new_authority(NOW), NAMES, NOW)
    assert not leaf.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_it_ends_no_later_than_its_authority() -> None:
    authority = new_authority(NOW)
    assert issue(authority, NAMES, authority.ends_at - DAY / 2).certificate.not_valid_after_utc == authority.ends_at


def test_a_name_that_is_none_is_refused() -> None:
    for names in ((), ("",), ("ü.example",)):
        with pytest.raises(ValueError, match=r".*"):
            issue(new_authority(NOW), names, NOW)


def test_what_is_kept_is_read_again() -> None:
    kept = Authorities(new_authority(NOW), new_authority(NOW), new_authority(NOW).certificate)
    again = read(kept.to_data())
    assert again.bundle() == kept.bundle()
    assert again.active.key.pem() == kept.active.key.pem()
    assert read(Authorities(kept.active).to_data()).next is None


def broken() -> dict[str, dict[str, bytes]]:
    good, other = Authorities(new_authority(NOW)).to_data(), Authorities(new_authority(NOW)).to_data()
    return {
        "nothing": {},
        "no key": {"ca.crt": good["ca.crt"]},
        "another's key": {"ca.crt": good["ca.crt"], "ca.key": other["ca.key"]},
        "no PEM": {"ca.crt": b"\0" * 10_000, "ca.key": b"secret garbage"},
        "half a key": {"ca.crt": good["ca.crt"], "ca.key": good["ca.key"][:80]},
        "half a next": {**good, "next.crt": other["ca.crt"]},
        "an empty retired": {**good, "retired.crt": b"-----BEGIN CERTIFICATE-----"},
    }


@pytest.mark.parametrize("what", sorted(broken()))
def test_what_is_no_authority_is_told_of_without_showing_it(what: str) -> None:
    data = broken()[what]
    with pytest.raises(UnreadableAuthorityError) as caught:
        read(data)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_keys_do_not_show_themselves() -> None:
    authority = new_authority(NOW)
    assert "[redacted]" in repr(Authorities(authority))
    assert "PRIVATE" not in repr(authority)


def test_nothing_is_rotated_before_its_time() -> None:
    kept = Authorities(new_authority(NOW))
    assert rotated(kept, NOW) is kept
    assert rotated(kept, NOW + AUTHORITY_LIFE * 0.79) is kept


def test_a_rotation_overlaps_so_that_every_proxy_trusts_the_server_all_the_time() -> None:
    """A proxy reads the bundle within hours; the server's certificate is at most a day old."""
    kept = Authorities(new_authority(NOW))
    bundles: list[tuple[dt.datetime, bytes]] = []
    signers = set()
    for hours in range(0, 24 * 500, 6):
        at = NOW + dt.timedelta(hours=hours)
        kept = rotated(kept, at)
        bundles.append((at, kept.bundle()))
        leaf = issue(kept.active, NAMES[:1], at)
        signers.add(kept.active.certificate.serial_number)
        read_by_the_slowest = (
            next(bundle for when, bundle in reversed(bundles) if when <= at - DAY) if hours > 24 else ""
        )
        if read_by_the_slowest:
            assert trusts(read_by_the_slowest, leaf, at=at)
        for later in (at + LEAF_LIFE / 2, at + LEAF_LIFE - MINUTE):
            assert trusts(rotated(kept, later).bundle(), leaf, at=later)
    assert len(signers) == 2
    assert kept.retired is None, "what nobody shows any more is trusted no more"


def test_an_authority_that_ended_while_nobody_looked_is_replaced_at_once() -> None:
    kept = Authorities(new_authority(NOW))
    late = rotated(kept, NOW + 2 * AUTHORITY_LIFE)
    assert late.active.ends_at > NOW + 2 * AUTHORITY_LIFE
    assert late.next is None
    prepared = rotated(kept, NOW + AUTHORITY_LIFE - DAY)
    assert prepared.next is not None
    took_over = rotated(prepared, NOW + AUTHORITY_LIFE + MINUTE)
    assert took_over.active == prepared.next


def test_the_next_signs_only_after_the_overlap() -> None:
    prepared = rotated(Authorities(new_authority(NOW)), NOW + AUTHORITY_LIFE * 0.81)
    assert prepared.next is not None
    made = prepared.next.made_at
    assert rotated(prepared, made + OVERLAP - MINUTE) is prepared
    assert rotated(prepared, made + OVERLAP).active == prepared.next


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> dt.datetime:
        return self.now


def test_the_servers_certificate_is_renewed_at_half_its_life_and_not_before() -> None:
    clock = Clock()
    leaf = ServerLeaf(NAMES, clock=clock)
    leaf.use(new_authority(NOW))
    first = leaf.current()
    clock.now += LEAF_LIFE / 2 - 2 * MINUTE
    assert leaf.current() is first
    clock.now += 3 * MINUTE
    assert leaf.current().certificate.not_valid_after_utc == clock.now + LEAF_LIFE


def test_another_signer_makes_another_certificate_and_the_same_does_not() -> None:
    leaf, authority = ServerLeaf(NAMES, clock=Clock()), new_authority(NOW)
    assert not trusts(Authorities(authority).bundle(), leaf.current()), "nobody trusts it before an authority is known"
    leaf.use(authority)
    first = leaf.current()
    assert trusts(Authorities(authority).bundle(), first)
    leaf.use(replace(authority))
    assert leaf.current() is first


def test_a_signer_that_has_ended_signs_nothing_more() -> None:
    clock = Clock()
    leaf = ServerLeaf(NAMES, clock=clock)
    leaf.use(new_authority(NOW))
    clock.now = NOW + AUTHORITY_LIFE + DAY
    assert leaf.current().certificate.not_valid_after_utc < clock.now


def test_the_certificate_of_an_earlier_run_is_shown_until_somebody_signs_and_no_longer_than_it_is_valid() -> None:
    authority = new_authority(NOW)
    earlier = read_leaf(issue(authority, NAMES, NOW).to_pem())
    clock = Clock()
    leaf = ServerLeaf(NAMES, clock=clock)
    leaf.resume(earlier)
    clock.now += LEAF_LIFE * 0.9
    assert leaf.current() == earlier, "nobody can renew it"
    leaf.use(authority)
    assert leaf.current().certificate != earlier.certificate
    clock.now += LEAF_LIFE
    late = ServerLeaf(NAMES, clock=clock)
    late.resume(earlier)
    assert late.current() != earlier


@pytest.mark.parametrize("kept", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----"])
def test_a_certificate_that_was_not_kept_whole_is_told_of(kept: bytes) -> None:
    with pytest.raises(UnreadableAuthorityError, match="no certificate with its key"):
        read_leaf(kept)


def test_a_certificate_with_another_key_is_told_of() -> None:
    one, other = (issue(new_authority(NOW), NAMES, NOW) for _ in range(2))
    with pytest.raises(UnreadableAuthorityError, match="not the certificate's"):
        read_leaf(one.key.pem() + other.chain())
