"""Bundles of other trust domains: fetched over real TLS, believed only in what is theirs."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.http_server import HttpServer
from fairlead.identities.bundle_endpoint import bundle_app
from mesh.certificates import KeyPair, PrivateKey
from mesh.spiffe import SpiffeId, TrustDomain
from sds.builtin import BuiltinAuthority, in_memory
from sds.bundle import InvalidBundle, TrustBundle
from sds.federation import Federated, FetchError, fetch, judged, read_federated, refresh_after, web_context
from sds.keys import new_key
from sds.tls import renewing_context
from tests.support.certificates import Authority

OWN, THEIRS = TrustDomain("example.org"), TrustDomain("elsewhere.org")
ENDPOINT = SpiffeId(THEIRS, "/fairlead/bundle-endpoint")


@asynccontextmanager
async def serving(app: Any, pair: Callable[[], KeyPair]) -> AsyncIterator[int]:
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    server = HttpServer(app, drain=1.0, tls=lambda: renewing_context(pair))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run_on(bound))
        try:
            yield bound.getsockname()[1]
        finally:
            server.stop()


async def pair_of(authority: BuiltinAuthority, identity: SpiffeId = ENDPOINT) -> KeyPair:
    key = new_key()
    issued = await authority.issue(key.public_key, identity, dns_names=("127.0.0.1",))
    return KeyPair(issued.chain, key.pem())


def at(port: int, endpoint: SpiffeId | None = ENDPOINT) -> Federated:
    return Federated(THEIRS, "127.0.0.1", port, "/", endpoint)


async def fetched(where: Federated, known: TrustBundle | None, web: ssl.SSLContext | None = None) -> TrustBundle:
    return await asyncio.to_thread(fetch, where, known, web or web_context(), timeout=10.0)


async def test_a_spiffe_endpoint_is_believed_by_the_bundle_that_is_known_and_the_next_by_the_new() -> None:
    authority = in_memory(THEIRS)
    first = authority.bundle()
    pair = await pair_of(authority)
    async with serving(bundle_app(authority.bundle), lambda: pair) as port:
        assert await fetched(at(port), first) == first
        new = await authority.prepare()
        from sds.rotation import Gate

        assert len((await fetched(at(port), first)).roots) == 2
        both = await fetched(at(port), first)
        await authority.activate(new.id, Gate())
        pair = await pair_of(authority)  # taken by the next handshake, without a restart
        assert len((await fetched(at(port), both)).roots) == 2
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetched(at(port), first)


async def test_another_identity_of_the_same_domain_does_not_speak_for_it() -> None:
    authority = in_memory(THEIRS)
    pair = await pair_of(authority, SpiffeId(THEIRS, "/ns/shop/sa/reviews"))
    async with serving(bundle_app(authority.bundle), lambda: pair) as port:
        with pytest.raises(FetchError, match=r"not that of spiffe://elsewhere.org/fairlead/bundle-endpoint"):
            await fetched(at(port), authority.bundle())


async def test_another_domains_authority_does_not_speak_for_it() -> None:
    theirs, ours = in_memory(THEIRS), in_memory(OWN)
    pair = await pair_of(ours, SpiffeId(OWN, "/fairlead/bundle-endpoint"))
    async with serving(bundle_app(theirs.bundle), lambda: pair) as port:
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetched(at(port), theirs.bundle())
        with pytest.raises(FetchError, match=r"no authority of elsewhere.org"):
            await fetched(at(port), None)


async def test_a_web_endpoint_is_believed_by_its_name(tmp_path: Path) -> None:
    web, authority = Authority(tmp_path), in_memory(THEIRS)
    files = web.server("web")
    pair = KeyPair(files.cert.read_bytes(), PrivateKey(files.key.read_bytes()))
    async with serving(bundle_app(authority.bundle), lambda: pair) as port:
        trusted = web_context(str(web.ca))
        assert await fetched(at(port, None), None, trusted) == authority.bundle()
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetched(at(port, None), None)
        elsewhere = Federated(THEIRS, "127.0.0.2", port, "/")
        with pytest.raises(FetchError):
            await fetched(elsewhere, None, trusted)


@pytest.mark.parametrize(
    ("status", "headers", "body", "why"),
    [
        (302, [(b"location", b"https://169.254.169.254/")], b"", "answered 302"),
        (500, [], b"", "answered 500"),
        (200, [], b"<html>", "no JWK Set"),
        (200, [], b"x" * (2 << 20), "bytes"),
        (200, [], None, "elsewhere.org"),
    ],
    ids=["a redirect is not followed", "an error", "garbage", "too much", "our own bundle"],
)
async def test_what_is_no_bundle_of_theirs_is_refused(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes | None, why: str
) -> None:
    """GHSA-fgw5-hp8f-xfhc: a fetch that followed redirects reached what only the control plane may."""
    from sds.bundle import write_jwks

    authority = in_memory(THEIRS)
    content = body if body is not None else write_jwks(in_memory(OWN).bundle())

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            length = (b"content-length", str(len(content)).encode())
            await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
            await send({"type": "http.response.body", "body": content})

    pair = await pair_of(authority)
    async with serving(app, lambda: pair) as port:
        with pytest.raises((FetchError, InvalidBundle), match=why):
            await fetched(at(port), authority.bundle())


async def test_an_endpoint_that_is_away_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchError, match="refused"):
        await fetched(at(port), in_memory(THEIRS).bundle())


def test_an_older_bundle_is_not_believed() -> None:
    known = msgspec.structs.replace(in_memory(THEIRS).bundle(), sequence=7)
    for number in (7, 8):
        assert judged(msgspec.structs.replace(known, sequence=number), known, ()).sequence == number
    with pytest.raises(InvalidBundle, match="its number is 6"):
        judged(msgspec.structs.replace(known, sequence=6), known, ())


def test_a_bundle_with_our_own_authority_is_not_believed() -> None:
    """Even where the authority's certificate names no trust domain: the key is what would speak for us."""
    ours = in_memory(OWN).bundle()
    theirs = TrustBundle(THEIRS, ours.roots, 1)
    with pytest.raises(InvalidBundle, match=r"an authority of example.org"):
        judged(theirs, None, (ours,))


def test_a_domain_may_take_everything_back() -> None:
    known = in_memory(THEIRS).bundle()
    assert judged(TrustBundle(THEIRS, (), known.sequence + 1), known, ()).roots == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("elsewhere.org", "neither"),
        ("=https://x", "trust domain"),
        ("Elsewhere.org=https://x", "lower-case"),
        ("example.org=https://x", "our own trust domain"),
        ("elsewhere.org=http://x", "no https"),
        ("elsewhere.org=https://", "no https"),
        ("elsewhere.org=https://user@x", "no https"),
        ("elsewhere.org=https://x;spiffe://elsewhere.org/a", "neither"),
        ("elsewhere.org=https://x;spiffe://third.org/a;f", "no workload"),
        ("elsewhere.org=https://x;spiffe://elsewhere.org;f", "no workload"),
        ("elsewhere.org=https://x;spiffe://elsewhere.org/a;", "no file"),
        ("elsewhere.org=https://x;elsewhere;f", "spiffe://"),
    ],
)
def test_a_setting_that_names_no_trust_domain_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_federated(text, OWN)


def test_a_setting_is_read() -> None:
    found = read_federated("elsewhere.org=https://b.elsewhere.org:8443/x;spiffe://elsewhere.org/a;first.json", OWN)
    assert (found.profile, found.url) == ("https_spiffe", "https://b.elsewhere.org:8443/x")
    assert found.first == "first.json"
    assert read_federated("elsewhere.org=https://b", OWN).profile == "https_web"


def test_it_is_looked_as_often_as_the_bundle_says_within_bounds() -> None:
    def hinted(seconds: int) -> TrustBundle:
        return TrustBundle(THEIRS, (), 1, seconds)

    assert [refresh_after(hinted(seconds), 0) for seconds in (1, 60, 99_999)] == [10, 60, 3_600]
    assert [refresh_after(hinted(300), failures) for failures in (1, 2, 3, 50)] == [10, 20, 40, 300]
