"""A sample service: answers every request with who it is and what it was asked, as JSON.

`python -m fairlead.demo.backend --name reviews --version v1 --port 0` prints the port it got on its first line. A
server of its own on asyncio streams, because it must start in a moment and need nothing. On SIGTERM it stops to accept
connections, answers what is under way, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from urllib.parse import urlsplit

_MAX_HEAD = 64 * 1024


class Backend:
    """One instance. `identity` is part of each answer; `hits` counts the requests it answered.

    `failing` percent of them, evenly spread, are answered 503.
    """

    def __init__(self, identity: dict[str, str], *, failing: int = 0) -> None:
        self.identity = identity
        self.failing = failing
        self.hits = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_MAX_HEAD)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop accepting and close the connections."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._connections):
                writer.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = request.split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await _read_body(reader, headers)
        self.hits += 1
        fails = self.hits * self.failing // 100 > (self.hits - 1) * self.failing // 100
        url = urlsplit(target)
        answer = json.dumps(
            {
                **self.identity,
                "method": method,
                "path": url.path,
                "query": url.query,
                "host": headers.get("host", ""),
                "headers": headers,
                "body": body.decode("utf-8", "replace"),
            }
        ).encode()
        writer.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (b"503 Service Unavailable" if fails else b"200 OK", len(answer))
            + (b"" if method == "HEAD" else answer)
        )
        await writer.drain()
        return headers.get("connection", "").lower() != "close"


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", "0")))


async def _run(arguments: argparse.Namespace) -> None:
    identity = {"service": arguments.name, "version": arguments.version, "instance": arguments.instance}
    backend = Backend(identity, failing=arguments.failing)
    port = await backend.start(arguments.host, arguments.port)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await backend.stop()


def main() -> None:
    """Run one backend until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m fairlead.demo.backend", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--instance", default="1")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--failing", type=int, default=0, metavar="PERCENT")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
