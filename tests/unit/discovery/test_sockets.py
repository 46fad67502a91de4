"""Clients of platforms that are closed while requests are under way: nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from discovery.consul.http import Consul, Target
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import Access
from tests.support.certificates import Authority
from tests.support.loops import everything_is_closed

DEADLINE = 20.0
Asking = tuple[Callable[[], Coroutine[Any, Any, object]], Callable[[], Awaitable[None]]]
"""Makes a request without end, and closes the client."""


class Given:
    """Credentials that stay."""

    def __init__(self, access: Access) -> None:
        self.access = access

    async def load(self, *, refused: bool = False) -> Access:
        return self.access


def of_kubernetes(url: str, authority: Authority) -> Asking:
    api = Connection(Given(Access(url, ca=authority.ca.read_bytes())))
    return lambda: api.request("GET", "/x"), api.close


def of_consul(url: str, authority: Authority) -> Asking:
    consul = Consul(Target(url=url, ca_file=str(authority.ca)))
    return lambda: consul.get("/v1/catalog/services", index=7, wait=60), consul.close


@pytest.mark.parametrize("client", [of_kubernetes, of_consul])
async def test_closing_ends_the_connection_of_a_request_that_was_cancelled_before_its_answer(
    client: Callable[[str, Authority], Asking], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.server("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    listening = socket.create_server(("127.0.0.1", 0))
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def say_nothing() -> None:
        """Read a request, answer neither it nor the goodbye, and wait for the end of the connection."""
        accepted, _ = listening.accept()
        with context.wrap_socket(accepted, server_side=True) as line:
            line.recv(65536)
            loop.call_soon_threadsafe(asked.set)
            raw = socket.socket(fileno=os.dup(line.fileno()))
            raw.settimeout(DEADLINE / 2)
            with raw, contextlib.suppress(ConnectionResetError):
                while raw.recv(65536):
                    pass

    ask, close = client(f"https://127.0.0.1:{listening.getsockname()[1]}", authority)
    with listening:
        server = loop.run_in_executor(None, say_nothing)
        async with asyncio.timeout(DEADLINE):
            async with asyncio.TaskGroup() as tasks:
                request = tasks.create_task(ask())
                await asked.wait()
                request.cancel()
            await close()
            await server
    await everything_is_closed()
