"""The sockets of an HTTP client, so that its end is the end of them all.

A request that is cancelled before its answer leaves a connection that aiohttp has let go of: it waits for TLS's goodbye
for half a minute (asyncio's shutdown timeout) and outlives the session, even the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from typing import Any

import aiohttp

_HANG_UP_SECONDS = 1.0


class Sockets:
    """Makes sockets for aiohttp (`socket_factory=sockets.make`), with these options, and ends them."""

    def __init__(self, *options: tuple[int, int, int]) -> None:
        self._options = options
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def make(self, info: Any) -> socket.socket:
        """A socket as `socket.getaddrinfo` describes it."""
        made = socket.socket(info[0], info[1], info[2])
        self._made.add(made)
        for level, option, value in self._options:
            made.setsockopt(level, option, value)
        return made

    async def end(self, *sessions: aiohttp.ClientSession | None) -> None:
        """Close sessions that use them, and what aiohttp has let go of; no goodbye is waited for."""
        for session in sessions:
            if session is not None:
                if isinstance(session.connector, aiohttp.TCPConnector):
                    await session.connector.close(abort_ssl=True)
                await session.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HANG_UP_SECONDS):
                while open_ones := [one for one in self._made if one.fileno() != -1]:
                    for one in open_ones:
                        with contextlib.suppress(OSError):  # not connected yet, or not any more
                            one.shutdown(socket.SHUT_RDWR)
                    await asyncio.sleep(0)  # its transport sees the end and closes it
