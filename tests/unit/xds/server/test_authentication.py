"""Which certificates may be which proxies."""

from __future__ import annotations

import datetime as dt

import pytest

from mesh.model import Audience
from mesh.spiffe import SpiffeId, TrustDomain, workload
from sds.certificates import new_root, to_pem
from sds.keys import new_key
from tests.support.xds_client import node
from xds.server.authentication import Authentication, NotAuthenticatedError, Proof, Vouched, identity_of, named_alike
from xds.server.node_identity import Proxy, identify

DOMAIN = "cluster.local"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LIFE = dt.timedelta(days=36_500)
PEM = to_pem(new_root(TrustDomain(DOMAIN), new_key(), now=NOW, lifetime=LIFE).certificate)
GATEWAY = identify(node("gateway~default~edge~1"))
SIDECAR = identify(node("sidecar~default~reviews~1"))
CLIENT = identify(node("grpc~default~shop~1"))


def certificate(account: str = "edge", namespace: str = "default", domain: str = DOMAIN) -> dict[str, list[bytes]]:
    return {"peer_spiffe_id": [f"spiffe://{domain}/ns/{namespace}/sa/{account}".encode()], "x509_pem_cert": [PEM]}


def account(name: str) -> SpiffeId:
    return workload(TrustDomain(DOMAIN), "default", name)


def accounts(audience: Audience) -> frozenset[str]:
    """A model: the Gateway runs as `edge-proxy`, the endpoints of `reviews` as two accounts."""
    known = {"edge": {"edge-proxy"}, "reviews": {"reviews-v1", "reviews-v2"}}
    return frozenset(known.get(audience.name, set()))


def refusal(authentication: Authentication, context: dict[str, list[bytes]], proxy: Proxy) -> str:
    with pytest.raises(NotAuthenticatedError) as caught:
        authentication.check(authentication.identity(context), proxy)
    return str(caught.value)


def test_an_identity_is_one_spiffe_id_of_the_known_form() -> None:
    assert identity_of(certificate()) == account("edge")
    two = [b"spiffe://a/ns/b/sa/c", b"spiffe://a/ns/b/sa/d"]
    for found in ([], [b"spiffe://mesh.local/other"], two, [b"spiffe://a/ns/b c/sa/d"], [b"spiffe://a/ns/../sa/d"]):
        with pytest.raises(NotAuthenticatedError):
            identity_of({"peer_spiffe_id": found})


async def test_an_identity_is_proved_until_its_certificate_ends_and_no_longer_over_an_old_connection() -> None:
    time = NOW.timestamp() + 1
    checked = Authentication(DOMAIN, clock=lambda: time)
    found = await checked.proof(certificate(), ())
    assert found == Proof(account("edge"), (NOW + LIFE).timestamp(), PEM)
    time += LIFE.total_seconds()
    with pytest.raises(NotAuthenticatedError, match="has ended since this connection was made"):
        await checked.proof(certificate(), ())
    with pytest.raises(NotAuthenticatedError, match="no certificate that can be read"):
        await checked.proof(certificate() | {"x509_pem_cert": [b"a certificate"]}, ())


async def test_who_is_trusted_no_more_vouches_for_nobody_over_an_old_connection_either() -> None:
    trusted = {b"a leaf and what is above it"}
    checked = Authentication(DOMAIN, believes=lambda chain: chain in trusted)
    shown = certificate() | {"x509_pem_cert_chain": [b"a leaf and ", b"what is above it"]}
    assert (await checked.proof(shown, ())).chain in trusted
    trusted.clear()
    with pytest.raises(NotAuthenticatedError, match="is trusted no more"):
        await checked.proof(shown, ())


def test_an_account_that_can_be_part_of_no_identity_is_nobody() -> None:
    assert Authentication(DOMAIN).named(Vouched("default", "edge", 0.0)) == account("edge")
    with pytest.raises(NotAuthenticatedError, match="can have no identity"):
        Authentication(DOMAIN).named(Vouched("default", "edge/../root", 0.0))


@pytest.mark.parametrize("proxy", [GATEWAY, SIDECAR, CLIENT])
def test_a_certificate_of_another_trust_domain_is_nobody(proxy: Proxy) -> None:
    said = refusal(Authentication(DOMAIN), certificate(proxy.node_id.split("~")[2], domain="evil.example"), proxy)
    assert "trust domain evil.example" in said
    assert "cluster.local" in said


@pytest.mark.parametrize("proxy", [GATEWAY, SIDECAR, CLIENT])
def test_a_certificate_of_another_namespace_is_not_this_proxy(proxy: Proxy) -> None:
    said = refusal(Authentication(DOMAIN), certificate(proxy.node_id.split("~")[2], namespace="other"), proxy)
    assert "for namespace other" in said


def test_a_pod_of_the_namespace_is_not_the_gateway() -> None:
    assert "account some-pod" in refusal(Authentication(DOMAIN), certificate("some-pod"), GATEWAY)
    Authentication(DOMAIN).check(account("edge"), GATEWAY)


def test_a_gateways_proxies_run_as_the_account_that_the_model_names() -> None:
    checked = Authentication(DOMAIN, accounts)
    checked.check(account("edge-proxy"), GATEWAY)
    assert "edge-proxy" in refusal(checked, certificate("edge"), GATEWAY)


def test_a_claim_does_not_make_another_account_the_gateways() -> None:
    claims = identify(node(metadata={"service_account": "some-pod"}))
    assert "account some-pod" in refusal(Authentication(DOMAIN), certificate("some-pod"), claims)


def test_a_sidecar_runs_as_one_of_the_accounts_of_its_services_endpoints() -> None:
    checked = Authentication(DOMAIN, accounts)
    checked.check(account("reviews-v2"), SIDECAR)
    assert "reviews-v1, reviews-v2" in refusal(checked, certificate("ratings"), SIDECAR)


def test_where_the_model_names_no_account_the_one_that_a_node_claims_must_be_its_own() -> None:
    checked = Authentication(DOMAIN)
    checked.check(account("anything"), SIDECAR)
    claims = identify(node("sidecar~default~reviews~1", metadata={"service_account": "root"}))
    checked.check(account("root"), claims)
    assert "claims service account root" in refusal(checked, certificate("reviews"), claims)


def test_a_grpc_client_is_of_its_namespace_whatever_its_account() -> None:
    Authentication(DOMAIN, accounts).check(account("shop-account"), CLIENT)


def test_without_a_model_a_gateways_account_has_its_name() -> None:
    assert named_alike(GATEWAY.audience) == {"edge"}
    assert named_alike(SIDECAR.audience) == frozenset()
