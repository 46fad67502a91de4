"""The program's own connection to the tests' cluster, with what can happen to a line, and waiting on the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from discovery.kubernetes.api import UnreachableError
from discovery.kubernetes.connection import Connection
from tests.support.kubernetes import PATIENCE


class Line:
    """An API over a real connection. It can be cut, refuse, and be looked at: `sent` has method and path of each write.

    `refuse` makes the error with which a request is answered instead, or None. `before` runs before each write.
    """

    def __init__(self, api: Connection) -> None:
        self._api = api
        self.cut = False
        self.refuse: Callable[[str, str], Exception | None] = lambda _method, _path: None
        self.before: Callable[[str, str], Awaitable[None]] | None = None
        self.sent: list[tuple[str, str]] = []

    async def request(self, method: str, path: str, **named: Any) -> bytes:
        if self.cut:
            raise UnreachableError("the line is cut")
        if method != "GET":
            self.sent.append((method, path))
            if (error := self.refuse(method, path)) is not None:
                raise error
            if self.before is not None:
                await self.before(method, path)
        return await self._api.request(method, path, **named)  # type: ignore[arg-type]

    def lines(self, path: str, **named: Any) -> AsyncIterator[bytes]:
        return self._api.lines(path, **named)


async def until(ask: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
    """Let the loop run until the answer is true.

    Raises:
        AssertionError: it did not become so in time.
    """
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        await asyncio.sleep(0.02)
