"""What stands where an agent should and answers in hostile ways: a server on a socket that says what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator

import pytest

from discovery.consul import http
from discovery.consul.http import Consul, ConsulError, Target, UnreachableError

_PATH = "/v1/catalog/services"


@contextlib.asynccontextmanager
async def saying(*parts: bytes, hold: bool = False) -> AsyncIterator[Consul]:
    """A client of a server that answers with these bytes; `hold`: and then says nothing and does not hang up."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
            if hold:
                await over.wait()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        consul = Consul(Target(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        try:
            yield consul
        finally:
            over.set()
            await consul.close()


def response(body: bytes = b"{}", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Connection: close", *headers, b"", body)
    return b"\r\n".join(lines)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"7", 7.0),
        (b"99999", http.MOST_RETRY_AFTER_SECONDS),
        (b"99999999999", 0.0),
        (b"-5", 0.0),
        (b"1e9", 0.0),
        (b"Fri, 27 Nov 2099 18:00:00 GMT", 0.0),
        ("²".encode(), 0.0),
        (b"", 0.0),
    ],
)
async def test_retry_after_is_taken_up_to_a_minute_and_nonsense_is_none(said: bytes, seconds: float) -> None:
    async with saying(response(b"slow down", b"Retry-After: " + said, status=b"429 Too Many Requests")) as consul:
        with pytest.raises(ConsulError) as refused:
            await consul.get(_PATH)
    assert (refused.value.status, refused.value.retry_after) == (429, seconds)


@pytest.mark.parametrize("index", [b"-1", b"x", b"9" * 30, "²".encode(), b"1.5", b""])
async def test_an_index_that_is_none_counts_as_none(index: bytes) -> None:
    async with saying(response(b"{}", b"X-Consul-Index: " + index)) as consul:
        assert (await consul.get(_PATH)).index == 0


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
    ],
    ids=["nothing", "tls", "status", "header", "long", "negative", "cut", "chunks", "no_gzip"],
)
async def test_what_is_no_answer_is_told_as_unreachable(said: bytes) -> None:
    async with saying(said) as consul:
        with pytest.raises(UnreachableError):
            await consul.get(_PATH)


async def test_a_redirect_is_an_error_and_not_followed() -> None:
    async with saying(response(b"", b"Location: http://127.0.0.1:1/", status=b"302 Found")) as consul:
        with pytest.raises(ConsulError, match="302"):
            await consul.get(_PATH)


async def test_an_answer_without_end_is_given_up_also_where_it_came_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY", 1_000_000)
    endless = [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 64]
    async with saying(*endless, hold=True) as consul:
        with pytest.raises(UnreachableError, match="longer than 1000000 bytes"):
            await consul.get(_PATH)
    small = gzip.compress(b" " * 50_000_000)
    async with saying(response(small, b"Content-Encoding: gzip")) as consul:
        with pytest.raises(UnreachableError, match="longer than 1000000 bytes"):
            await consul.get(_PATH)


async def test_an_answer_that_only_drips_is_given_up_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.3)
    async with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", hold=True) as consul:
        with pytest.raises(UnreachableError, match=r"within 0\.3 s"):
            await consul.get(_PATH)
