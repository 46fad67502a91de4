"""The API's HTTP server on real sockets, and clients that waste its connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fairlead.http_protocol import HttpLimits
from fairlead.http_server import HttpServer

WAIT = 10.0
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers when the test lets it."""
    await scope["state"]["go"].wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served(limits: HttpLimits, go: asyncio.Event | None = None) -> AsyncIterator[Connect]:
    """A server; what it gives connects to it."""
    if go is None:
        go = asyncio.Event()
        go.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await application({**scope, "state": {"go": go}}, receive, send)

    server = HttpServer(app, drain=1, limits=limits)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.get_running_loop().create_task(server.run_on(listening))
        async with AsyncExitStack() as stack:

            async def connect() -> Streams:
                reader, writer = await asyncio.open_connection("127.0.0.1", listening.getsockname()[1])
                stack.callback(writer.close)
                return reader, writer

            yield connect
        server.stop()
        await asyncio.wait_for(task, WAIT)


async def answer(streams: Streams, request: bytes = b"") -> bytes:
    """Everything that comes until the server closes."""
    streams[1].write(request)
    return await asyncio.wait_for(streams[0].read(), WAIT)


async def status(streams: Streams, request: bytes = REQUEST) -> bytes:
    """The status line of one answer."""
    streams[1].write(request)
    head = await asyncio.wait_for(streams[0].readuntil(b"\r\n\r\n"), WAIT)
    if b"content-length: 2\r\n" in head:
        await streams[0].readexactly(2)
    return head.partition(b"\r\n")[0]


async def test_a_client_that_trickles_headers_is_sent_away_and_others_are_served() -> None:
    async with served(HttpLimits(head_seconds=0.3)) as connect:
        slow = [await connect() for _ in range(20)]

        async def trickle(streams: Streams) -> bytes:
            reader, writer = streams
            reading = asyncio.get_running_loop().create_task(reader.read())
            writer.write(b"GET / HTTP/1.1\r\n")
            while not reading.done():
                writer.write(b"X-A: b\r\n")
                await asyncio.wait([reading], timeout=0.02)
            # Who still writes when the server closes may find a reset in place of its words.
            return b"" if reading.exception() else reading.result()

        async with asyncio.timeout(WAIT):
            trickled = asyncio.gather(*map(trickle, slow))
            assert await status(await connect()) == b"HTTP/1.1 200 OK"
            for told in await trickled:
                assert told == b"" or told.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_says_nothing_is_sent_away() -> None:
    async with served(HttpLimits(head_seconds=0.1)) as connect:
        assert (await answer(await connect())).startswith(b"HTTP/1.1 408 ")


async def test_the_second_request_of_a_connection_has_to_be_in_time_too() -> None:
    async with served(HttpLimits(head_seconds=0.2)) as connect:
        streams = await connect()
        assert await status(streams) == b"HTTP/1.1 200 OK"
        assert (await answer(streams, b"GET / HTTP/1.1\r\nHost: loc")).startswith(b"HTTP/1.1 408 ")


async def test_blank_lines_between_requests_do_not_hold_a_connection() -> None:
    async with served(HttpLimits(head_seconds=0.2)) as connect:
        streams = await connect()
        assert await status(streams) == b"HTTP/1.1 200 OK"
        assert (await answer(streams, b"\r\n")).startswith(b"HTTP/1.1 408 ")


async def test_two_requests_in_one_packet_are_answered_both() -> None:
    async with served(HttpLimits()) as connect:
        streams = await connect()
        assert await status(streams, REQUEST + REQUEST) == b"HTTP/1.1 200 OK"
        assert await status(streams, b"") == b"HTTP/1.1 200 OK"


async def test_a_slow_answer_is_not_a_slow_client() -> None:
    go = asyncio.Event()
    async with served(HttpLimits(head_seconds=0.1), go) as connect:
        waiting, silent = await connect(), await connect()
        waiting[1].write(REQUEST)
        # Past the time that a client has: the one that said nothing is gone.
        assert (await answer(silent)).startswith(b"HTTP/1.1 408 ")
        go.set()
        assert await status(waiting, b"") == b"HTTP/1.1 200 OK"


async def test_connections_beyond_the_bound_are_refused_until_others_go() -> None:
    async with served(HttpLimits(connections=2)) as connect:
        first, second = await connect(), await connect()
        assert await status(first) == b"HTTP/1.1 200 OK"
        assert await status(second) == b"HTTP/1.1 200 OK"
        assert (await answer(await connect())).startswith(b"HTTP/1.1 503 ")
        second[1].close()
        async with asyncio.timeout(WAIT):
            while (await status(await connect())).split()[1] == b"503":
                pass


@pytest.mark.parametrize("size", [70_000, 10_000_000])
async def test_headers_without_end_are_refused(size: int) -> None:
    async with served(HttpLimits()) as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nX-A: " + b"a" * size)
        assert (await asyncio.wait_for(reader.read(12), WAIT)).startswith(b"HTTP/1.1 4")
