"""A Unix socket that lets certain users in and nobody else: what `fairlead agent` puts before its SDS server.

The kernel tells who is at the other end (SO_PEERCRED, as it was when that process connected); gRPC does not pass it
on. So connections are taken here, and those of users that may come are handed, byte by byte, to a socket in a folder
that only this user can enter. The mode of the outer socket is the first barrier, this the second: root, and whoever a
careless `chmod` lets near, are asked too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import struct
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

_CREDENTIALS: Final = struct.Struct("3i")
# A socket's path has at most 107 bytes, of which `/.agent-xxxxxxxx/sds.sock` takes 25.
_LONGEST_FOLDER: Final = 107 - 25
_PREFIX: Final = ".agent-"
_INNER: Final = "sds.sock"
# A folder is made before its server listens: one that is so young may be of an agent that starts.
_YOUNG: Final = 60.0
_CHUNK: Final = 65_536
_CONNECTIONS: Final = 64
_SAY_AGAIN: Final = 60.0
_log = logging.getLogger(__name__)


class Peer(NamedTuple):
    """Who is at the other end of a connection."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Who connected. Raises OSError."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


class PeerGate:
    """Listens at `path` for users of `allowed`; `inner` is where the server behind it must listen."""

    def __init__(self, path: Path, allowed: frozenset[int]) -> None:
        self._path = path
        self._allowed = allowed
        # Of mode 0700. Beside the socket, where it can be written for sure: a pod's file system may be read-only.
        beside = path.parent if len(os.fsencode(path.parent)) <= _LONGEST_FOLDER else None
        _remove_of_the_dead(beside or Path(tempfile.gettempdir()))
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=beside)
        self.inner = Path(self._folder.name) / _INNER
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._told: dict[int, float] = {}

    async def start(self) -> None:
        """Listen. Others than this user can reach the socket only if others are allowed.

        Raises:
            OSError: the path cannot be had.
        """
        others = self._allowed - {os.getuid()}
        before = os.umask(0o111 if others else 0o177)  # from the first moment on
        try:
            self._server = await asyncio.start_unix_server(self._came, self._path, limit=_CHUNK)
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        if self._server is not None:
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)
        self._folder.cleanup()

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._lets_in(writer.get_extra_info("socket")):
                await self._hand_over(reader, writer)
        except OSError as error:
            _log.info("a connection to %s ended: %s", self._path, error)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    def _lets_in(self, connection: socket.socket) -> bool:
        peer = peer_of(connection)
        if peer.uid not in self._allowed:
            self._say(peer.uid, "user %d (process %d) may not ask for this identity", peer.uid, peer.pid)
            return False
        if len(self._open) > _CONNECTIONS:
            self._say(-1, "more than %d connections to %s", _CONNECTIONS, self._path)
            return False
        return True

    def _say(self, what: int, words: str, *values: object) -> None:
        """Log it, but not again and again: who is refused could fill a disk with it."""
        now = asyncio.get_running_loop().time()
        if now - self._told.get(what, float("-inf")) >= _SAY_AGAIN:
            self._told[what] = now
            _log.warning(words, *values)

    async def _hand_over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self.inner, limit=_CHUNK)
        self._open.add(back)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, back))
                both.create_task(_pump(there, writer))
        except* OSError:
            pass  # one side went away
        finally:
            self._open.discard(back)
            back.transport.abort()


def _remove_of_the_dead(beside: Path) -> None:
    """Remove folders that killed agents of this user left here: old ones where nobody listens any more."""
    for folder in beside.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _YOUNG and not _listens(folder / _INNER):
                shutil.rmtree(folder)


def _listens(path: Path) -> bool:
    """Whether a server is behind a socket. Raises OSError where that cannot be told."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until its end, which is passed on too."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
