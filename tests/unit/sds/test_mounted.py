"""An authority as files that somebody else renews."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from mesh.spiffe import SpiffeId, TrustDomain
from sds.builtin import BuiltinAuthority, Making
from sds.certificates import (
    Signer,
    UnusableAuthority,
    intermediate_request,
    new_root,
    read_signer,
    sign_intermediate,
    to_pem,
)
from sds.keepers import MemoryKeeper
from sds.keys import new_key
from sds.mounted import read_mounted, stamp
from sds.rotation import Gate, Policy, RefusedStep
from sds.sealing import Sealer
from tests.support.outer import mount

TD = TrustDomain("example.org")
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")
PUBLIC = new_key().public_key
CLOSED = Gate(("a proxy",))


def root(above: int = 0) -> Signer:
    return new_root(TD, new_key(), now=NOW, lifetime=100 * DAY, above=above)


def under(one: Signer) -> Signer:
    key = new_key()
    chain = sign_intermediate(one, intermediate_request(TD, key), TD, now=NOW, lifetime=50 * DAY)
    return read_signer(chain, key, TD)


def authority() -> BuiltinAuthority:
    making = Making(policy=Policy(renew=False), outside=True)
    return BuiltinAuthority(TD, MemoryKeeper(), Sealer(b"in memory alone"), making=making)


async def signer_of(made: BuiltinAuthority) -> str:
    return (await made.issue(PUBLIC, REVIEWS)).authority


async def test_a_renewal_under_the_same_root_signs_at_once(tmp_path: Path) -> None:
    top = root(above=1)
    first, second = under(top), under(top)
    made = authority()
    mount(tmp_path, first, number=1)
    before = stamp(tmp_path)
    await made.adopt(*read_mounted(tmp_path, TD))
    assert await signer_of(made) == first.id
    mount(tmp_path, second, number=2)
    assert stamp(tmp_path) != before
    await made.adopt(*read_mounted(tmp_path, TD))
    await made.tick(CLOSED)
    assert await signer_of(made) == second.id
    assert len(made.bundle().roots) == 1


async def test_another_root_is_spread_first_and_signs_when_all_trust_it(tmp_path: Path) -> None:
    first, second = root(), root()
    made = authority()
    mount(tmp_path, first, number=1)
    await made.adopt(*read_mounted(tmp_path, TD))
    mount(tmp_path, second, number=2)
    await made.adopt(*read_mounted(tmp_path, TD))
    await made.tick(CLOSED)
    assert await signer_of(made) == first.id
    assert len(made.bundle().roots) == 2
    await made.tick(Gate())
    assert await signer_of(made) == second.id


async def test_of_several_renewals_the_last_counts(tmp_path: Path) -> None:
    first, second, third = root(), root(), root()
    made = authority()
    for number, one in enumerate((first, second, third)):
        mount(tmp_path, one, number=number)
        await made.adopt(*read_mounted(tmp_path, TD))
    assert made.book.prepared is not None
    assert made.book.prepared.id == third.id
    assert {x509.load_pem_x509_certificate(pem) for pem in made.bundle().roots} == {first.root, third.root}


async def test_further_roots_are_trusted_too_and_change_the_bundles_number(tmp_path: Path) -> None:
    first, other = root(), root()
    made = authority()
    mount(tmp_path, first, number=1)
    await made.adopt(*read_mounted(tmp_path, TD))
    before = made.bundle().sequence
    mount(tmp_path, first, first, other, number=2)
    await made.adopt(*read_mounted(tmp_path, TD))
    assert made.bundle().roots == (to_pem(first.root), to_pem(other.root))
    assert made.bundle().sequence > before


async def test_nobody_prepares_what_others_renew(tmp_path: Path) -> None:
    made = authority()
    mount(tmp_path, root(), number=1)
    await made.adopt(*read_mounted(tmp_path, TD))
    for step in (made.prepare(), made.request()):
        with pytest.raises(RefusedStep, match="somebody else"):
            await step


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("tls.key", None, r"tls\.key"),
        ("tls.key", b"half a key", "no PEM key"),
        ("tls.key", new_key().pem().pem, "not that of the chain"),
        ("tls.crt", b"", "tls|PEM|certificate"),
        ("ca.crt", b"", "PEM|certificate"),
        ("ca.crt", to_pem(root().certificate), "leads to no root"),
    ],
)
def test_files_that_do_not_fit_are_refused_and_show_no_key(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    mount(tmp_path, under(root(above=1)), number=1)
    path = tmp_path / "..data" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnusableAuthority, match=why) as refused:
        read_mounted(tmp_path, TD)
    assert "PRIVATE" not in str(refused.value)


def test_plain_files_without_links_are_taken_too(tmp_path: Path) -> None:
    mount(tmp_path / "mounted", root(), number=1)
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).write_bytes((tmp_path / "mounted" / name).read_bytes())
    assert read_mounted(tmp_path, TD).signer.id == read_mounted(tmp_path / "mounted", TD).signer.id
