"""Keys fetched over real HTTPS from servers of every kind, good and bad."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.jwks.addresses import Exceptions, read_exceptions
from discovery.jwks.fetch import KeyFetcher, NoKeysError
from mesh.jwks import MAX_BYTES
from tests.support.certificates import Authority
from tests.support.issuers import Issuer, KeyServer, key_server

ISSUER = Issuer()
LOOPBACK = read_exceptions(["127.0.0.0/8"])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[KeyServer]:
    with key_server(authority.server("issuer")) as found:
        yield found


def fetcher(authority: Authority, exceptions: Exceptions = LOOPBACK, timeout: float = 10) -> KeyFetcher:
    return KeyFetcher(ssl.create_default_context(cafile=str(authority.ca)), exceptions, timeout=timeout)


async def refusal(found: KeyFetcher, uri: str) -> str:
    with pytest.raises(NoKeysError) as error:
        await found.fetch(uri)
    return str(error.value)


async def test_keys_are_fetched_by_name_and_by_address(authority: Authority, server: KeyServer) -> None:
    server.publish("/jwks?tenant=a", ISSUER)
    found = fetcher(authority)
    for host in ("localhost", "127.0.0.1"):
        keys = json.loads(await found.fetch(server.url("/jwks?tenant=a", host)))
        assert [key["kid"] for key in keys["keys"]] == [ISSUER.kid]


async def test_what_is_published_beside_the_public_keys_goes_no_further(
    authority: Authority, server: KeyServer
) -> None:
    keys = [{**ISSUER.jwk, "d": "c2VjcmV0", "x5c": ["…"]}, {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}, 7]
    server.answers["/jwks"] = (200, {}, json.dumps({"keys": keys, "more": 1}).encode())
    assert json.loads(await fetcher(authority).fetch(server.url("/jwks"))) == {"keys": [ISSUER.jwk]}


async def test_ghsa_fgw5_hp8f_xfhc_a_private_address_is_not_even_connected_to(
    authority: Authority, server: KeyServer
) -> None:
    server.publish("/jwks", ISSUER)
    found = fetcher(authority, Exceptions())
    for host in ("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
        assert "no address of the public internet" in await refusal(found, server.url("/jwks", host))
    assert server.asked == []


async def test_ghsa_fgw5_hp8f_xfhc_a_redirect_to_a_private_address_is_not_followed(
    authority: Authority, server: KeyServer
) -> None:
    found = fetcher(authority, read_exceptions(["localhost"]))
    for number, target in enumerate(("https://169.254.169.254/latest", server.url("/jwks", "127.0.0.1"))):
        server.answers[f"/{number}"] = (302, {"location": target}, b"")
        assert "no address of the public internet" in await refusal(found, server.url(f"/{number}"))
    assert server.asked == ["/0", "/1"]


@pytest.mark.parametrize("location", ["http://localhost/jwks", "file:///etc/passwd", "https://[::1", "gopher:x", ""])
async def test_a_redirect_leads_to_https_only(authority: Authority, server: KeyServer, location: str) -> None:
    server.answers["/"] = (301, {"location": location}, b"")
    await refusal(fetcher(authority), server.url("/"))
    assert set(server.asked) == {"/"}


async def test_a_few_redirects_are_followed_and_a_ring_is_not(authority: Authority, server: KeyServer) -> None:
    server.answers["/a"] = (302, {"location": "/b#fragment"}, b"")
    server.answers["/b"] = (307, {"location": server.url("/jwks")}, b"")
    server.publish("/jwks", ISSUER)
    assert await fetcher(authority).fetch(server.url("/a"))
    server.answers["/ring"] = (302, {"location": "/ring"}, b"")
    assert "more than 3 times" in await refusal(fetcher(authority), server.url("/ring"))


async def test_a_name_that_answers_otherwise_the_second_time_gains_nothing(
    authority: Authority, server: KeyServer
) -> None:
    server.publish("/jwks", ISSUER)
    answers = iter((["8.8.8.8", "127.0.0.1"], ["127.0.0.1"]))
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    context = ssl.create_default_context(cafile=str(authority.ca))
    found = KeyFetcher(context, Exceptions(), timeout=0.5, resolve=resolve)
    await refusal(found, server.url("/jwks"))
    assert (asked, server.asked) == (["localhost"], [])


async def test_a_server_must_prove_its_name(tmp_path: Path, server: KeyServer, authority: Authority) -> None:
    server.publish("/jwks", ISSUER)
    stranger = Authority(tmp_path, "stranger")
    assert "does not prove to be localhost" in await refusal(fetcher(stranger), server.url("/jwks"))

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    context = ssl.create_default_context(cafile=str(authority.ca))
    other = KeyFetcher(context, LOOPBACK, resolve=here)
    assert "does not prove to be issuer.org" in await refusal(other, server.url("/jwks", "issuer.org"))
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (404, {}, b"secret of an inner service", "the answer was 404"),
        (500, {}, b"", "the answer was 500"),
        (200, {}, b"", "no JWK Set"),
        (200, {}, b"<html>secret</html>", "no JWK Set"),
        (200, {}, b"{}", "no JWK Set"),
        (200, {}, b'{"keys": []}', "no key in it can be used"),
        (200, {}, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "no key in it can be used"),
        (200, {}, b"[" * 400_000, "no JWK Set"),
        (200, {}, b" " * (MAX_BYTES + 1), "more than"),
        (200, {"content-encoding": "gzip"}, b"\x1f\x8b", "compressed"),
        (200, {"transfer-encoding": "chunked"}, b"nonsense", "does not answer as one of HTTP does"),
        (200, {"x-long": "a" * 60_000}, b"", ""),
    ],
)
async def test_what_is_no_set_of_keys_is_refused_in_words_of_our_own(
    authority: Authority, server: KeyServer, status: int, headers: dict[str, str], body: bytes, said: str
) -> None:
    server.answers["/jwks"] = (status, headers, body)
    told = await refusal(fetcher(authority), server.url("/jwks"))
    assert said in told
    assert "secret" not in told


async def test_a_server_that_never_ends_costs_no_more_than_the_time_allowed(
    authority: Authority, server: KeyServer
) -> None:
    server.answers["/slow"] = (200, {}, threading.Event())
    began = time.monotonic()
    assert "within 0.3 s" in await refusal(fetcher(authority, timeout=0.3), server.url("/slow"))
    assert time.monotonic() - began < 5


async def test_a_server_that_sends_without_end_is_left_after_the_bytes_allowed(authority: Authority) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        try:
            while sent < 100_000_000:
                writer.write(b"x" * 65_536)
                sent += 65_536
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    pair = authority.server("flood")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    async with await asyncio.start_server(flood, "127.0.0.1", 0, ssl=context) as running:
        port = running.sockets[0].getsockname()[1]
        assert "more than" in await refusal(fetcher(authority), f"https://127.0.0.1:{port}/")
    assert sent < 20_000_000


async def test_what_speaks_no_tls_or_nothing_at_all_is_no_server(authority: Authority, tmp_path: Path) -> None:
    async def say_hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    async with await asyncio.start_server(say_hello, "127.0.0.1", 0) as running:
        port = running.sockets[0].getsockname()[1]
        assert "cannot be reached" in await refusal(fetcher(authority), f"https://127.0.0.1:{port}/")
    assert "cannot be reached" in await refusal(fetcher(authority), f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "uri", ["http://localhost/", "https://", "https://u:p@localhost/", "https://localhost/#a", "x"]
)
async def test_what_is_no_address_of_keys_is_not_asked(authority: Authority, uri: str) -> None:
    await refusal(fetcher(authority), uri)
