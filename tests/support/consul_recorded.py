"""An agent that is not here, by its answers: what one answered once, or what its documentation says that it would.

The files are in `tests/consul/recorded`; its README says how they come about. Blocking queries block here too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

FOLDER = Path(__file__).parent.parent / "consul" / "recorded"
_BLOCKING = ("index", "wait")


class Recorded(msgspec.Struct, frozen=True):
    """An answer to a question; a flag of the query without a value is empty."""

    path: str
    query: dict[str, str]
    status: int
    headers: dict[str, str]
    body: Any


class Recording(msgspec.Struct, frozen=True):
    """What an agent said. Of several answers to one question each comes after the one before."""

    agent: str
    origin: str
    answers: tuple[Recorded, ...]


def recording(name: str) -> Recording:
    """One of the files."""
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Recording)


def written(name: str, made: Recording) -> None:
    """Write one of the files."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(msgspec.to_builtins(made), indent=2) + "\n")


class RecordedAgent:
    """Answers as recorded. `unknown`: the questions that were not, which got 404."""

    def __init__(self, made: Recording) -> None:
        self.url = ""
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.unknown: set[str] = set()
        self._recording = made
        self._at = 0
        self._advanced = asyncio.Event()

    def advance(self) -> None:
        """From now on the next answer to each question is the one that holds, where there is one."""
        self._at += 1
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer, at once or when there is more to say than at the index that is named."""
        self.asked.append((request.path, dict(request.query)))
        query = {name: value for name, value in request.query.items() if name not in _BLOCKING}
        found = [each for each in self._recording.answers if each.path == request.path and each.query == query]
        if not found:
            self.unknown.add(request.path_qs)
            return web.Response(status=404)
        known = request.query.get("index", "")
        while known and self._now(found).headers.get("X-Consul-Index") == known:
            advanced = self._advanced
            await advanced.wait()
        said = self._now(found)
        body = said.body if isinstance(said.body, str) else json.dumps(said.body)
        return web.Response(status=said.status, headers=said.headers, text=body)

    def _now(self, found: list[Recorded]) -> Recorded:
        return found[min(self._at, len(found) - 1)]


@asynccontextmanager
async def recorded_agent(name: str) -> AsyncIterator[RecordedAgent]:
    """One that answers by a file, on a port of loopback."""
    made = RecordedAgent(recording(name))
    server = web.Server(made.answer)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
