"""Whom each side of mutual TLS takes: identities are text, compared as a whole, whatever stands in them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from xds.schema import unpack
from xds.schema.types import Cluster, FilterChain
from xds.translate.mutual_tls import add_mutual_tls, demand_mutual_tls

ALIKE = ("spiffe://cluster.local/ns/shop/sa/web.api", "spiffe://cluster.local/ns/shop/sa/web-api")


def matchers(socket: Any) -> list[Any]:
    context = unpack(socket.typed_config)
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    return list(validation.match_typed_subject_alt_names)


@pytest.mark.parametrize("name", [*ALIKE, "spiffe://cluster.local/ns/shop/sa/web"])
def test_cve_2020_16844_cve_2026_39350_a_server_is_who_it_is_and_nobody_whose_name_is_like_it(name: str) -> None:
    """A suffix stood for a whole name, and a dot in an account's name for any character: others were let in."""
    cluster = Cluster()
    add_mutual_tls(cluster, [name], server_name="web", http2=False)
    [found] = matchers(cluster.transport_socket_matches[0].transport_socket)
    assert found.san_type == type(found).URI
    assert found.matcher.WhichOneof("match_pattern") == "exact"
    assert found.matcher.exact == name
    assert not found.matcher.ignore_case


@pytest.mark.parametrize("domain", ["cluster.local", "a.b"])
def test_cve_2020_16844_a_client_is_of_the_trust_domain_and_not_of_one_whose_name_is_like_it(domain: str) -> None:
    chain = FilterChain()
    demand_mutual_tls(chain, domain, alpn=())
    [found] = matchers(chain.transport_socket)
    assert found.san_type == type(found).URI
    assert found.matcher.WhichOneof("match_pattern") == "prefix"
    for other in (f"spiffe://{domain}.evil.org/ns/a/sa/b", f"spiffe://{domain.replace('.', 'x')}/ns/a/sa/b"):
        assert not other.startswith(found.matcher.prefix)
    assert re.fullmatch(r"spiffe://[a-z.]+/", found.matcher.prefix)
