from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fairlead.errors import CommandError, UsageError
from fairlead.security import accounts_of, api_security, tokens_address, xds_security
from fairlead.settings import Settings
from fairlead.settings_load import load
from mesh.model import Audience
from mesh.tables import Engine
from tests.support.model import declared, objects
from xds.translate.tables import TABLES

TOKEN = "alice:write:0123456789abcdef0123456789abcdef"


@pytest.fixture
def pem(tmp_path: Path) -> str:
    (tmp_path / "x.pem").write_text("x")
    return str(tmp_path / "x.pem")


def test_xds_without_certificates_is_not_served_unless_asked_for() -> None:
    with pytest.raises(UsageError, match=r"xDS needs TLS.*Fix: give certificates.*--insecure-xds"):
        xds_security(Settings())


def test_half_the_certificates_are_none(pem: str) -> None:
    with pytest.raises(UsageError, match="--xds-client-ca is not given"):
        xds_security(Settings(xds_cert=pem, xds_key=pem))


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:18000"])
def test_plaintext_is_served_on_loopback(address: str) -> None:
    assert xds_security(Settings(insecure_xds=True, xds=address)) is None


@pytest.mark.parametrize("address", ["0.0.0.0:18000", "[::]:18000", "10.0.0.1:18000", "fairlead.example:18000"])
def test_plaintext_is_never_served_to_others(address: str) -> None:
    with pytest.raises(UsageError, match="everybody who can reach"):
        xds_security(Settings(insecure_xds=True, xds=address))


def test_plaintext_and_certificates_exclude_each_other(pem: str) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        xds_security(Settings(insecure_xds=True, xds_cert=pem))


def test_a_certificate_that_cannot_be_read_is_named(pem: str) -> None:
    with pytest.raises(CommandError, match="--xds-key: cannot read /nowhere"):
        xds_security(Settings(xds_cert=pem, xds_key="/nowhere", xds_client_ca=pem))


def test_with_a_cluster_and_nothing_else_xds_is_for_proxies_with_tokens() -> None:
    settings = Settings(kubernetes=("in-cluster",), xds="0.0.0.0:18000")
    assert tokens_address(settings) == ""
    assert xds_security(settings) is None


def test_beside_certificates_or_plaintext_tokens_have_an_address_of_their_own(pem: str) -> None:
    certificates = Settings(kubernetes=("k",), xds_cert=pem, xds_key=pem, xds_client_ca=pem)
    plaintext = Settings(kubernetes=("k",), insecure_xds=True)
    for settings in (certificates, plaintext):
        assert tokens_address(settings) is None
        beside = msgspec.structs.replace(settings, xds_tokens="0.0.0.0:18001")
        assert tokens_address(beside) == "0.0.0.0:18001"
    with pytest.raises(UsageError, match="Fix: two addresses"):
        tokens_address(msgspec.structs.replace(plaintext, xds_tokens=plaintext.xds))


def test_half_the_certificates_are_none_with_a_cluster_too(pem: str) -> None:
    with pytest.raises(UsageError, match="--xds-client-ca is not given"):
        xds_security(Settings(kubernetes=("in-cluster",), xds_cert=pem, xds_key=pem))


def test_tokens_without_a_cluster_are_refused_for_nobody_could_review_them() -> None:
    with pytest.raises(UsageError, match="Fix: --kubernetes"):
        tokens_address(Settings(xds_tokens="0.0.0.0:18001"))


def test_the_api_is_open_on_loopback_and_needs_tokens_beyond() -> None:
    assert api_security(Settings()).open
    with pytest.raises(UsageError, match="needs tokens"):
        api_security(Settings(api="0.0.0.0:8080"))
    assert not api_security(Settings(api="0.0.0.0:8080", api_tokens=TOKEN)).open


def test_tokens_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"# people\n{TOKEN}\n")
    assert not api_security(Settings(api_tokens_file=str(tmp_path / "tokens"))).open
    with pytest.raises(UsageError, match="cannot read"):
        api_security(Settings(api_tokens_file=str(tmp_path / "none")))


def test_a_bad_token_is_told_of_without_showing_it() -> None:
    with pytest.raises(UsageError, match="FAIRLEAD_API_TOKENS:1") as raised:
        api_security(Settings(api_tokens="alice:write:secret"))
    assert "secret" not in str(raised.value)


def test_the_model_says_as_which_accounts_proxies_run() -> None:
    engine = Engine(TABLES)
    config = """
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 10000, protocol: HTTP}]}
---
kind: Service
metadata: {name: reviews}
spec:
  ports: [{name: http, port: 80}]
  endpoints:
  - {address: 10.0.0.1, serviceAccount: reviews-v1}
  - {address: 10.0.0.2, serviceAccount: reviews-v2}
  - {address: 10.0.0.3}
"""
    engine.commit([declared(each) for each in objects(config)])
    accounts = accounts_of(engine)
    assert accounts(Audience("gateway", "default", "edge")) == {"edge"}
    assert accounts(Audience("gateway", "default", "not-there-yet")) == {"not-there-yet"}
    assert accounts(Audience("sidecar", "default", "reviews", 80)) == {"reviews-v1", "reviews-v2"}
    assert accounts(Audience("sidecar", "default", "unknown", 80)) == frozenset()
    assert accounts(Audience("grpc", "default")) == frozenset()


@pytest.mark.parametrize("domain", ["", "Cluster.Local", "a/b", "spiffe://x", "x\n"])
def test_a_trust_domain_has_the_form_that_spiffe_gives_it(domain: str) -> None:
    with pytest.raises(UsageError, match="trust-domain"):
        load({"trust_domain": domain}, environ={})
