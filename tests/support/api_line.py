"""A line to an API server that a test can cut, and kubeconfigs that lead over it or that may do less."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_TURNS = 10
"""Of the loop, after which what had been accepted is served."""


class Line:
    """Forwards TCP connections to a server. `url` is where to connect to."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._server: asyncio.Server | None = None
        self._port = 0
        self._is_cut = True
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.connections = 0
        self._abandoned: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where to connect to."""
        return self._port

    def abandon(self) -> None:
        """Let nothing more through on the connections that are open, and do not end them; new ones get through."""
        self._abandoned |= self._serving

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    async def restore(self) -> None:
        """Let connections through."""
        self._is_cut = False
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all connections and take no new ones."""
        self._is_cut = True
        await self.drop()
        if self._server is not None:
            # A server that is closed leaves open, for good, what it has accepted and not yet begun to serve.
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        await self.drop()

    async def drop(self) -> None:
        """End all connections; new ones get through."""
        for writer in list(self._open):
            writer.transport.abort()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        self.connections += 1
        self._open.add(writer)  # now: it may be cut before it leads anywhere
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # Being cut is no error; asyncio would log it as one of the server's.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            onward_reader, onward_writer = await asyncio.open_connection(*self._to)
            self._open.add(onward_writer)
            try:
                if not writer.is_closing():
                    await asyncio.gather(
                        *(self._pump(*ends, task) for ends in ((reader, onward_writer), (onward_reader, writer)))
                    )
            finally:
                self._open.discard(onward_writer)
                onward_writer.close()
        self._open.discard(writer)
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, of: asyncio.Task[None]) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if of in self._abandoned:
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def line_to(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[Line, Path]]:
    """A line to a kubeconfig's server, open, and a kubeconfig that leads over it."""
    config = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240 - a test may
    cluster = current(config, "cluster")
    at = urlsplit(cluster["server"])
    assert at.hostname is not None
    line = Line(at.hostname, at.port or 443)
    await line.restore()
    cluster["server"] = line.url
    cluster.setdefault("tls-server-name", at.hostname)
    path = folder / "over-the-line.yaml"
    path.write_text(yaml.safe_dump(config))
    try:
        yield line, path
    finally:
        await line.cut()


def current(config: dict[str, Any], what: str) -> dict[str, Any]:
    """The cluster or the user of a kubeconfig's current context."""
    context = next(one["context"] for one in config["contexts"] if one["name"] == config["current-context"])
    found: dict[str, Any] = next(one[what] for one in config[f"{what}s"] if one["name"] == context[what])
    return found


def as_user(kubeconfig: Path, token: str, path: Path) -> Path:
    """A kubeconfig as another one, with a token in place of its user."""
    config = yaml.safe_load(kubeconfig.read_text())
    user = current(config, "user")
    user.clear()
    user["token"] = token
    path.write_text(yaml.safe_dump(config))
    return path
