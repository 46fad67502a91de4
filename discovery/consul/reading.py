"""How the catalog is read: with which consistency, how old an answer may be, and where large ones are decoded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeVar

from discovery.consul.http import Answer, Consul, ConsulError, UnreachableError
from discovery.consul.trouble import Failure, TooOldError, trouble
from discovery.consul.watch_state import Ask
from discovery.consul.wire import UnreadableError

Reads = Literal["default", "stale", "consistent", "cached"]
"""Consul's consistency modes, and `cached`: from the agent's own cache, which newer agents fill by streaming."""

FAILURES = (ConsulError, UnreachableError, UnreadableError)
_SLACK_SECONDS = 15.0
_LARGE = 500_000  # bytes; what is larger is decoded in a thread

T = TypeVar("T")


class Reading:
    """Blocking queries to an agent. `failures` counts those without a good answer, by why."""

    def __init__(self, consul: Consul, *, reads: Reads = "default", max_stale: float = 30.0) -> None:
        self._consul = consul
        self._reads = reads
        self._max_stale = max_stale
        self.failures: Counter[str] = Counter()

    async def ask(
        self, path: str, datacenter: str, step: Ask, *, slack: float = _SLACK_SECONDS, cache: bool = True
    ) -> Answer:
        """One question to a datacenter, the agent's own if empty. Raises one of `FAILURES`.

        `cache`: the agent's cache may answer, where that is asked for.
        """
        query = {"dc": datacenter} if datacenter else {}
        if self._reads != "default" and (cache or self._reads != "cached"):
            query[self._reads] = ""
        answer = await self._consul.get(path, query, index=step.index, wait=step.wait, slack=slack)
        contact = answer.headers.get("X-Consul-LastContact", "")
        if self._reads == "stale" and contact.isascii() and contact.isdecimal():
            age = int(contact[:12]) / 1000
            if age > self._max_stale:
                raise TooOldError(f"a server answered that has not heard from a leader for {age:.0f} s")
        return answer

    async def get(self, path: str) -> bytes:
        """An answer of the agent about itself. Raises one of `FAILURES`."""
        return (await self._consul.get(path)).body

    def count(self, error: Failure) -> None:
        """Count a question without a good answer."""
        self.failures[trouble(error).code] += 1


async def decoded(read: Callable[[bytes], T], body: bytes) -> T:
    """What a body says; others have their turns while a large one is read. Raises UnreadableError."""
    return read(body) if len(body) < _LARGE else await asyncio.to_thread(read, body)
