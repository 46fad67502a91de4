"""A real Vault's PKI engine as the authority: what it signs, what it refuses, and what it changes meanwhile."""

# ruff: noqa: ASYNC240 - small files of a test

from __future__ import annotations

import datetime as dt
import signal
from pathlib import Path

import pytest
from cryptography import x509

from fairlead.processes import Children
from mesh.spiffe import workload
from sds.authority import AuthorityUnavailable, RefusedIssue
from sds.certificates import to_pem
from sds.lifetimes import Lifetimes
from sds.vault import VaultAuthority
from tests.support.agents import Mesh
from tests.support.outer import caller
from tests.support.real_vault import RealVault
from tests.support.vault import TD, clock

REVIEWS = workload(TD, "shop", "reviews")
DAY = dt.timedelta(days=1)


@pytest.fixture
def mount(vault: RealVault) -> str:
    return vault.authority(TD.name)


@pytest.fixture
def token(vault: RealVault, mount: str, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(vault.token_for(mount, "mesh") + "\n")
    path.chmod(0o600)
    return path


async def opened(vault: RealVault, mount: str, token: Path, role: str = "mesh") -> VaultAuthority:
    authority = VaultAuthority(TD, vault.address, mount, role, token, lifetimes=Lifetimes(), clock=clock)
    await authority.open()
    return authority


async def issued(authority: VaultAuthority) -> list[x509.Certificate]:
    asks = caller(REVIEWS)
    found = await authority.issue(asks.public_key, REVIEWS, lifetime=DAY, request=asks.request)
    return x509.load_pem_x509_certificates(found.chain)


async def test_it_signs_with_the_names_that_we_give_it_for_a_token_that_may_do_nothing_else(
    vault: RealVault, mount: str, token: Path
) -> None:
    authority = await opened(vault, mount, token)
    (root,) = authority.bundle().roots
    asks = caller(REVIEWS)
    names = ("a.b", "10.0.0.1")
    made = await authority.issue(asks.public_key, REVIEWS, dns_names=names, lifetime=DAY, request=asks.request)
    leaf, above = x509.load_pem_x509_certificates(made.chain)
    names_in = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names_in.get_values_for_type(x509.UniformResourceIdentifier) == [str(REVIEWS)]
    assert names_in.get_values_for_type(x509.DNSName) == ["a.b"]
    assert [str(one) for one in names_in.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert leaf.public_key() == asks.public_key
    assert leaf.not_valid_before_utc < clock() - dt.timedelta(seconds=100), "clocks may be off by 90 s"
    assert above.issuer == x509.load_pem_x509_certificate(root).subject
    assert to_pem(above) != root


async def test_another_key_that_it_signs_with_under_the_same_root_is_taken_at_once(
    vault: RealVault, mount: str, token: Path
) -> None:
    authority = await opened(vault, mount, token)
    before = authority.bundle().roots
    _, first = await issued(authority)
    vault.intermediate(mount, vault.roots[mount], TD.name)
    _, second = await issued(authority)
    assert second != first
    assert authority.bundle().roots == before


async def test_what_its_role_does_not_allow_is_refused(vault: RealVault, mount: str, token: Path) -> None:
    vault.role(mount, "narrow", "another")
    token.write_text(vault.token_for(mount, "narrow"))
    authority = await opened(vault, mount, token, "narrow")
    with pytest.raises(RefusedIssue, match=r"Vault refused: .*URI"):
        await issued(authority)


async def test_a_token_that_it_does_not_know_and_a_mount_that_is_not_there_are_told(
    vault: RealVault, mount: str, token: Path
) -> None:
    authority = await opened(vault, mount, token)
    token.write_text("hvs.nobody\n")
    with pytest.raises(AuthorityUnavailable, match="permission denied"):
        await issued(authority)
    with pytest.raises(AuthorityUnavailable):
        await opened(vault, f"no-{mount}", token)


def test_agents_get_and_renew_certificates_of_it_also_after_it_was_away(vault: RealVault, children: Children) -> None:
    mount = vault.authority("cluster.local")
    token = children.folder / "vault-token"
    token.write_text(vault.token_for(mount, "mesh"))
    token.chmod(0o600)
    flags = ("--ca", f"vault:{vault.address}#{mount}/mesh", "--ca-token-file", str(token))
    mesh = Mesh(children, "", life=60, arguments=flags)
    agent, _ = mesh.agent("web")

    def renewals() -> int:
        return agent.log.read_text().count("certificate of spiffe://cluster.local/ns/default/sa/web")

    children.wait_until(lambda: renewals() > 0, what="a certificate")
    vault.child.signal_group(signal.SIGSTOP)
    away = lambda: "no new certificate" in agent.log.read_text()  # noqa: E731
    children.wait_until(away, what="the agent to be told that there is none now")
    vault.child.signal_group(signal.SIGCONT)
    had = renewals()
    children.wait_until(lambda: renewals() > had, what="the agent to renew again")
