"""What the program does around an authority: rows, an outer authority that is away, its own certificate."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from msgspec import structs

from discovery.stores.sqlite import SqliteStore
from fairlead.errors import CommandError
from fairlead.identities.authorities import COLLECTION
from fairlead.identities.authority import Identities
from fairlead.identities.own_certificate import OwnCertificate
from fairlead.settings import Settings
from mesh.model import TRUST_BUNDLES, TrustBundleRow
from mesh.spiffe import SpiffeId, TrustDomain
from mesh.tables import Change
from sds.builtin import Making, in_memory
from sds.certificates import to_pem
from sds.jwt_svid import validate
from sds.lifetimes import Lifetimes
from sds.rotation import Gate
from tests.support.vault import ROOT, Vault
from tests.support.xds_client import until

TD = TrustDomain("example.org")
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "f.db")
    yield opened
    await opened.close()


class Rows:
    """Takes what is submitted."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def __call__(self, changes: Iterable[Change]) -> None:
        self.changes.extend(changes)


def settings(vault: Vault, tmp_path: Path) -> Settings:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("s.token")
    url = f"http://127.0.0.1:{vault.server.server_port}"
    return Settings(ca=f"vault:{url}#pki/mesh", ca_token_file=str(token), trust_domain="example.org")


async def test_an_outer_authority_that_is_away_keeps_nobody_from_starting(store: SqliteStore, tmp_path: Path) -> None:
    vault = Vault()
    try:
        with_vault = settings(vault, tmp_path)
        first = Rows()
        before = Identities(with_vault, store, submit=first)
        await before.open()
        await before.close()
    finally:
        vault.close()
    row = TrustBundleRow(to_pem(ROOT.certificate), own=True)
    assert first.changes == [Change(TRUST_BUNDLES, "example.org", row)]
    second = Rows()
    after = Identities(with_vault, store, submit=second)
    await after.open()
    assert second.changes == first.changes
    assert ["AuthorityStuck" in str(problem) for _, problem in after.problems()] == [True]


async def test_an_outer_authority_that_was_never_there_is_told(store: SqliteStore, tmp_path: Path) -> None:
    vault = Vault()
    vault.close()
    with pytest.raises(CommandError, match="cannot be asked"):
        await Identities(settings(vault, tmp_path), store, submit=Rows()).open()


async def test_an_authority_that_ends_soon_is_told(store: SqliteStore) -> None:
    now = [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]
    made = Identities(Settings(ca="memory"), store, submit=Rows(), clock=lambda: now[0])
    await made.open()
    assert made.problems() == []
    now[0] += dt.timedelta(days=359)
    [(source, problem)] = made.problems()
    assert (source, problem.code, problem.level) == ("ca", "AuthorityEnds", "warning")
    assert "ends within 7 days" in problem.message


async def test_beside_an_outer_authority_tokens_are_signed_with_keys_of_ours_which_the_store_keeps(
    store: SqliteStore, tmp_path: Path
) -> None:
    vault = Vault()
    try:
        kept = {"ca_jwt_keys": "store", "ca_passphrase": "a passphrase of some length"}
        with_keys = structs.replace(settings(vault, tmp_path), **kept)
        before = Identities(with_keys, store, submit=Rows())
        await before.open()
        assert before.jwt is not None
        token = await before.jwt.noted_jwt(REVIEWS, ("orders",))
        after = Identities(with_keys, store, submit=Rows())
        await after.open()
        without = Identities(settings(vault, tmp_path), store, submit=Rows())
        await without.open()
    finally:
        vault.close()
    assert after.authority is not None
    assert without.authority is not None
    bundle = after.authority.bundle()
    now = dt.datetime.now(dt.UTC)
    assert validate(token, {TD: bundle}, audience="orders", now=now).identity == REVIEWS
    assert bundle.roots == (to_pem(ROOT.certificate),)
    assert (without.jwt, without.authority.bundle().jwt_keys) == (None, ())
    assert "PRIVATE KEY" not in repr(await store.documents(COLLECTION))


async def test_keys_for_tokens_that_a_passphrase_does_not_open_stop_the_start(
    store: SqliteStore, tmp_path: Path
) -> None:
    vault = Vault()
    try:
        for passphrase, fails in (("a passphrase of some length", False), ("another of some length", True)):
            given = structs.replace(settings(vault, tmp_path), ca_jwt_keys="store", ca_passphrase=passphrase)
            opening = Identities(given, store, submit=Rows()).open()
            if not fails:
                await opening
                continue
            with pytest.raises(CommandError, match="the passphrase is another one"):
                await opening
    finally:
        vault.close()


def test_a_server_without_an_authority_does_not_load_what_it_needs() -> None:
    script = "import sys, fairlead.server, fairlead.commands.serve; assert 'cryptography' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


# -- its own certificate -----------------------------------------------------------------------------------------------


def shown(certificate: OwnCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificates(certificate.current().chain)[0]


async def running(certificate: OwnCertificate) -> Any:
    await certificate.obtain()
    return asyncio.get_running_loop().create_task(certificate.run())


async def test_a_certificate_of_our_own_is_renewed_before_it_ends_with_a_new_key() -> None:
    second = dt.timedelta(seconds=1)
    authority = in_memory(TD, lifetimes=Lifetimes(2 * second, second))
    own = OwnCertificate(authority, SpiffeId(TD, "/fairlead"), ("127.0.0.1",))
    task = await running(own)
    first = shown(own)
    await until(lambda: shown(own) != first)
    assert shown(own).public_key() != first.public_key()
    assert dt.datetime.now(dt.UTC) < first.not_valid_after_utc + second
    task.cancel()


async def test_it_is_renewed_at_once_when_its_signer_is_tainted() -> None:
    authority = in_memory(TD, making=Making())
    own = OwnCertificate(authority, SpiffeId(TD, "/fairlead"))
    task = await running(own)
    old = authority.book.active.id
    first = shown(own)
    new = await authority.prepare()
    await authority.activate(new.id, Gate())
    await authority.taint(old)
    await until(lambda: shown(own) != first)
    task.cancel()


async def test_it_is_renewed_at_once_when_its_root_is_trusted_no_more_though_nobody_tainted_it() -> None:
    authority = in_memory(TD, making=Making())
    own = OwnCertificate(authority, SpiffeId(TD, "/fairlead"))
    task = await running(own)
    old = authority.book.active.id
    first = shown(own)
    await authority.activate((await authority.prepare()).id, Gate())
    assert shown(own) == first
    await authority.revoke(old, override=True)
    await until(lambda: shown(own) != first)
    task.cancel()
