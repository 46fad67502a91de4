"""xDS over mutual TLS: a proxy with a fitting certificate is served, one that claims to be another is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.client import Client
from fairlead.processes import Children, free_port
from tests.support.certificates import Authority, Pair
from tests.support.programs import FAIRLEAD, answers, ask, start_envoy

pytestmark = pytest.mark.envoy


def start_with_tls(children: Children, authority: Authority, *, files: Path) -> tuple[int, Client]:
    """`fairlead serve` with certificates; its xDS port and its API."""
    server = authority.server("fairlead")
    xds, api = free_port(), free_port()
    children.start(
        "serve",
        [
            *(*FAIRLEAD, "serve", "--files", str(files), "--store", f"sqlite:{children.folder / 'f.db'}"),
            *("--xds", f"127.0.0.1:{xds}", "--api", f"127.0.0.1:{api}", "--drain-time", "0.2"),
            *("--xds-cert", str(server.cert), "--xds-key", str(server.key), "--xds-client-ca", str(authority.ca)),
        ],
    )
    client = Client(f"http://127.0.0.1:{api}", timeout=10)
    children.wait_until(lambda: answers(client, "/readyz"), what="the server to be ready")
    return xds, client


def tls_flags(pair: Pair, authority: Authority) -> list[str]:
    return ["--cert", str(pair.cert), "--key", str(pair.key), "--ca", str(authority.ca)]


@pytest.fixture
def gateway_port(children: Children) -> int:
    port = free_port()
    (children.folder / "config").mkdir()
    (children.folder / "config" / "edge.yaml").write_text(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\n"
        f"spec: {{gatewayClassName: fairlead, listeners: [{{name: http, port: {port}, protocol: HTTP}}]}}\n"
    )
    return port


def test_a_proxy_whose_certificate_fits_is_served(children: Children, gateway_port: int) -> None:
    authority = Authority(children.folder)
    xds, client = start_with_tls(children, authority, files=children.folder / "config")
    pair = authority.proxy("edge", "spiffe://cluster.local/ns/shop/sa/edge")
    start_envoy(children, "gateway", "edge", "-n", "shop", *tls_flags(pair, authority), xds=xds)
    children.wait_until(lambda: ask(gateway_port, "any.example.com").status == 404, what="the listener")
    assert [proxy["namespace"] for proxy in client.get("/api/v1/proxies")["items"]] == ["shop"]


WRONG = {
    "namespace": "spiffe://cluster.local/ns/elsewhere/sa/edge",
    "account": "spiffe://cluster.local/ns/shop/sa/some-pod",
    "trust domain": "spiffe://evil.example/ns/shop/sa/edge",
}


@pytest.mark.parametrize("wrong", [*WRONG, "authority"])
def test_a_proxy_that_claims_to_be_another_or_that_nobody_vouches_for_is_not(
    children: Children, gateway_port: int, wrong: str
) -> None:
    authority = Authority(children.folder)
    xds, client = start_with_tls(children, authority, files=children.folder / "config")
    if wrong in WRONG:
        pair = authority.proxy("edge", WRONG[wrong])
    else:
        pair = Authority(children.folder, "stranger").proxy("edge", "spiffe://cluster.local/ns/shop/sa/edge")
    flags = tls_flags(pair, authority)
    envoy = start_envoy(children, "gateway", "edge", "-n", "shop", *flags, xds=xds, ready=False)

    def attempts() -> int:
        """Streams over one connection where TLS succeeds, connections where it does not."""
        return max(envoy.stat("cluster.fairlead.upstream_rq_total"), envoy.stat("cluster.fairlead.upstream_cx_total"))

    children.wait_until(lambda: attempts() >= 2, what="Envoy to have tried twice")
    if wrong in WRONG:  # a stream counts as tried before the server has heard of it
        said = children.folder / "serve.log"
        children.wait_until(lambda: WRONG[wrong] in said.read_text(), what="the refusal in the log")
    assert client.get("/api/v1/proxies")["items"] == []
    assert "LIVE" not in envoy.get("/ready")
