"""Asking Prometheus: one number comes back, or why there is none; whatever answers is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.prometheus import MAX_BYTES, NoValueError, Prometheus, read_value, server_problem

Answerer = Callable[[bytes], bytes]


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\ncontent-length: {size}\r\n\r\n".encode() + body


def vector(*values: str) -> bytes:
    found = [{"metric": {"job": "shop"}, "value": [1.5, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}}).encode()


@asynccontextmanager
async def answering(answer: bytes | None, asked: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that answers so, or not at all; gives its URL."""
    open_ones: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"content-length" in line.lower())
        body = await reader.readexactly(length)
        if asked is not None:
            asked.extend((head, body))
        if answer is not None:
            writer.write(answer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/prefix/"
    finally:
        server.close()
        for writer in open_ones:
            writer.close()
        await server.wait_closed()


async def problem(answer: bytes | None) -> str:
    async with answering(answer) as url:
        with pytest.raises(NoValueError) as caught:
            await Prometheus(url, timeout=0.3 if answer is None else 5.0).value("up")
    return str(caught.value)


async def test_a_query_is_sent_as_it_stands_and_its_one_value_comes_back() -> None:
    query = 'sum(rate(http_errors_total{job="shop",path=~"/a&b.*"}[5m])) # ä'
    asked: list[bytes] = []
    async with answering(http(vector("0.25")), asked) as url:
        assert await Prometheus(url).value(query) == 0.25
    assert asked[0].startswith(b"POST /prefix/api/v1/query HTTP/1.1\r\n")
    assert parse_qs(asked[1].decode()) == {"query": [query]}


async def test_what_is_no_value_is_told_in_words_of_our_own() -> None:
    assert "0 series" in await problem(http(vector()))
    assert "2 series" in await problem(http(vector("1", "2")))
    assert "NaN" in await problem(http(vector("NaN")))
    assert "no number" in await problem(http(vector("many")))
    bad = {"status": "error", "errorType": "bad_data", "error": "<script>secret</script>"}
    said = await problem(http(json.dumps(bad).encode(), "400 Bad Request"))
    assert said == "Prometheus answers bad_data (400)"
    assert "none of Prometheus'" in await problem(http(b"<html>", "502 Bad Gateway"))
    assert "none of Prometheus'" in await problem(http(b"", "302 Found\r\nlocation: http://169.254.169.254/"))


async def test_what_is_slow_large_cut_off_or_no_http_at_all_ends_in_time() -> None:
    assert "within 0.3 s" in await problem(None)
    assert f"more than {MAX_BYTES} bytes" in await problem(http(b" " * (MAX_BYTES + 1)))
    assert "ends in the middle" in await problem(http(b"{", length=10))
    assert "does not speak HTTP" in await problem(b"220 smtp.example.com\r\n")
    assert "ends in the middle" in await problem(b"")


async def test_nobody_there_is_said() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(NoValueError, match="cannot be reached"):
        await Prometheus(f"http://127.0.0.1:{port}").value("up")


async def test_over_https_what_does_not_prove_itself_is_not_believed() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(vector("1")))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        with pytest.raises(NoValueError, match="cannot be trusted"):
            await Prometheus(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}").value("up")


def test_a_scalar_is_a_value_too_and_infinity_is_one() -> None:
    scalar = {"status": "success", "data": {"resultType": "scalar", "result": [1, "+Inf"]}}
    assert read_value(200, json.dumps(scalar).encode()) == float("inf")
    matrix = {"status": "success", "data": {"resultType": "matrix", "result": []}}
    with pytest.raises(NoValueError, match="neither"):
        read_value(200, json.dumps(matrix).encode())


wires = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(), st.sampled_from(("success", "vector", "scalar"))),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.sampled_from(("status", "data", "resultType", "result", "value")), inner)
    ),
)


@given(st.one_of(st.binary(), wires.map(lambda wire: json.dumps(wire).encode())))
def test_garbage_is_no_value(body: bytes) -> None:
    try:
        value: Any = read_value(200, body)
    except NoValueError:
        return
    assert isinstance(value, float)


@pytest.mark.parametrize(
    "url",
    ["", "prometheus", "ftp://a", "http://", "http://a:0", "http://a:b", "http://u:p@a", "http://a/?x=1", "http://a b"],
)
def test_what_is_no_server_is_refused(url: str) -> None:
    assert server_problem(url)


def test_servers_are_taken_with_a_path_and_over_tls() -> None:
    assert not server_problem("https://prometheus.example.com/team")
    assert not server_problem("http://[::1]:9090")
