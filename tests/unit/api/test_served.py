"""The API over real sockets, as uvicorn serves it: what bad clients do, and that others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import uvicorn

from api.bodies import Limits
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from tests.unit.api.fakes import Fixture, fixture, made, service

KEY = ObjectKey("Service", "default", "reviews")
URL = "/api/v1/namespaces/default/services/reviews"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Served(msgspec.Struct):
    api: Fixture
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: bytes) -> bytes:
        """Everything the server answers until it closes the connection."""
        reader, writer = await self.connect()
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    async def still_serves(self) -> bool:
        answer = await self.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return answer.startswith(b"HTTP/1.1 200")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    api = fixture(limits=Limits(body_seconds=0.2, body_bytes=10_000, stalled_seconds=0.2), ring=1000)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = _Server(uvicorn.Config(api.app, log_config=None, lifespan="off", timeout_graceful_shutdown=5))
        task = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
        yield Served(api, listening.getsockname()[1])
        api.feed.close()
        server.should_exit = True
        await asyncio.wait_for(task, 10)


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", "")).encode()


async def test_a_body_that_stalls_is_answered_and_the_connection_closed(served: Served) -> None:
    answer = await served.ask(head("PUT", URL, "Content-Type: application/json", "Content-Length: 100") + b'{"spec"')
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"BodyTimeout" in answer
    assert await served.still_serves()


async def test_a_huge_body_is_refused_before_it_is_read(served: Served) -> None:
    answer = await served.ask(head("PUT", URL, "Content-Type: application/json", "Content-Length: 104857600"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert await served.still_serves()


async def test_a_client_that_goes_in_the_middle_of_a_body_writes_nothing(served: Served) -> None:
    _, writer = await served.connect()
    writer.write(head("PUT", URL, "Content-Type: application/json", "Content-Length: 100") + b"{}")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await served.still_serves()
    assert served.api.config.items == {}


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 50 + b"x y z\r\n\r\n"]
)
async def test_garbage_is_answered_with_400_or_nothing(served: Served, garbage: bytes) -> None:
    reader, writer = await served.connect()
    writer.write(garbage)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421", b"HTTP/1.1 403", b"HTTP/1.1 404"))
    assert await served.still_serves()


async def test_a_watch_streams_and_a_client_that_goes_frees_its_place(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(head("GET", "/api/v1/services?watch=true"))
    await asyncio.wait_for(reader.readuntil(b"event: SYNCED"), 10)
    assert (await served.api.client.put(URL, service())).status == 201
    await asyncio.wait_for(reader.readuntil(b"event: ADDED"), 10)
    assert served.api.feed.watchers == 1
    writer.close()
    async with asyncio.timeout(10):
        while served.api.feed.watchers:  # noqa: ASYNC110 - a condition with a deadline
            await asyncio.sleep(0.01)


async def test_a_client_that_never_reads_its_watch_does_not_hold_up_the_others(served: Served) -> None:
    _, writer = await served.connect()
    writer.write(head("GET", "/api/v1/services?watch=true"))
    await writer.drain()
    for port in range(1, 400):
        await served.api.client.put(URL, service(port=port, annotations={"note": "x" * 5000}))
    assert await served.still_serves()
    assert served.api.feed.since(0, "Service") == (KEY,), "what waits for it is a key, not a queue of objects"
    writer.close()


async def next_data(reader: asyncio.StreamReader) -> bytes:
    """The data of the next event that has any, out of the chunks of HTTP."""
    text = b""
    while b"\n\n" not in text.partition(b"event: ADDED")[2]:
        size = int(await asyncio.wait_for(reader.readline(), 10) or b"0", 16)
        text += (await asyncio.wait_for(reader.readexactly(size + 2), 10))[:-2]
    return text.partition(b"event: ADDED\ndata: ")[2].partition(b"\n\n")[0]


def large(port: int) -> Object:
    """A Service of 200 kB."""
    endpoints = [
        {"address": f"10.0.{n // 250}.{n % 250}", "ports": {"http": port}, "labels": {"note": "x" * 60}}
        for n in range(1500)
    ]
    return made({**service(), "spec": {"ports": [{"name": "http", "port": port}], "endpoints": endpoints}})


async def test_a_large_object_comes_whole_to_every_watcher_and_is_read_once(served: Served) -> None:
    watchers = [await served.connect() for _ in range(20)]
    for reader, writer in watchers:
        writer.write(head("GET", "/api/v1/services?watch=true"))
        await asyncio.wait_for(reader.readuntil(b"data: {}\n\n\r\n"), 10)
    await served.api.config.put(large(81), expected=None, by="")
    for reader, writer in watchers:
        data = await next_data(reader)
        assert len(msgspec.json.decode(data)["spec"]["endpoints"]) == 1500
        writer.close()
    assert served.api.config.reads == 1


async def test_many_watchers_that_never_read_hold_up_nobody_and_are_dropped(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    sleepers = [await served.connect() for _ in range(20)]
    for reader, writer in sleepers:
        writer.write(head("GET", "/api/v1/services?watch=true"))
        await asyncio.wait_for(reader.readuntil(b"event: SYNCED"), 10)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
    port, writes = 1, 0
    async with asyncio.timeout(60):
        while served.api.feed.watchers:
            port = port % 60_000 + 1
            writes += 1
            await served.api.config.put(large(port), expected=None, by="")
            assert await served.still_serves()
    assert served.api.config.reads <= writes, "each change is read once at most, however many watch"
    assert "dropped a watcher that did not read for 0.2 s" in caplog.text
    assert (await served.ask(head("GET", "/api/v1/services", "Connection: close"))).startswith(b"HTTP/1.1 200")
    for _, writer in sleepers:
        writer.transport.abort()
