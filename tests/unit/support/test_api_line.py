"""The line that tests cut: whoever comes in just then is cut off too."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from tests.support.api_line import Line
from tests.support.loops import everything_is_closed


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(100):
            writer.write(data)
    writer.close()


@pytest.mark.parametrize("turns", range(12))
async def test_a_connection_that_comes_in_while_the_line_is_cut_is_ended_and_leaves_nothing_open(turns: int) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        line = Line("127.0.0.1", server.sockets[0].getsockname()[1])
        await line.restore()
        with socket.create_connection(("127.0.0.1", line.port), timeout=20) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            await line.cut()
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.to_thread(client.recv, 1) == b"", "its end"
    await everything_is_closed()


async def test_a_line_that_was_restored_lets_through() -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        line = Line("127.0.0.1", server.sockets[0].getsockname()[1])
        await line.restore()
        await line.cut()
        await line.restore()
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await line.cut()
    await everything_is_closed()
