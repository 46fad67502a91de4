"""Fetches one set of keys over HTTPS, from an address that nobody vouches for.

Everything is bounded: time in all, bytes, redirects, headers. Each connection goes to an address that was judged
(`addresses`), never through a proxy, and to a server that proves the name that was written. What went wrong is told in
words of our own: an answer's text never reaches who wrote the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httptools

from discovery.jwks.addresses import Exceptions, may_connect
from mesh.jwks import MAX_BYTES, UnusableKeys, read_key_set, uri_problem

TIMEOUT: Final = 10.0
_REDIRECTS: Final = 3
_REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})
_CHUNK: Final = 16_384
_MOST_HEADERS: Final = 32_768
_ADDRESSES: Final = 4

Resolve = Callable[[str, int], Awaitable[list[str]]]


class NoKeysError(Exception):
    """Keys could not be had; says why."""


class _Answer:
    """What a server answers, as far as it has come; the parser calls these methods."""

    def __init__(self) -> None:
        self.location = ""
        self.body = bytearray()
        self.complete = False
        self.encoded = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if name.lower() == b"location":
            self.location = value.decode("latin-1")
        elif name.lower() == b"content-encoding" and value.lower() != b"identity":
            self.encoded = True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """The end."""
        self.complete = True


class KeyFetcher:
    """`context` is how servers prove themselves; `resolver` looks names up, beside the threads of all others."""

    def __init__(
        self,
        context: ssl.SSLContext,
        exceptions: Exceptions,
        *,
        resolver: Executor | None = None,
        timeout: float = TIMEOUT,
        resolve: Resolve | None = None,
    ) -> None:
        self._context = context
        self._exceptions = exceptions
        self._resolver = resolver
        self._timeout = timeout
        self._resolve = resolve or self._look_up

    async def fetch(self, uri: str) -> bytes:
        """The keys at an address, as `mesh.jwks` writes them.

        Raises:
            NoKeysError: they cannot be had.
        """
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._follow(uri)
        except TimeoutError:
            raise NoKeysError(f"no whole answer came within {self._timeout:g} s") from None
        try:
            return read_key_set(body).jwks
        except UnusableKeys as error:
            raise NoKeysError(f"the answer cannot be used: {error}") from None

    async def _follow(self, uri: str) -> bytes:
        for _ in range(_REDIRECTS + 1):
            problem = uri_problem(uri)
            if problem:
                raise NoKeysError(problem)
            status, answer = await self._get(uri)
            if status not in _REDIRECTED:
                if status != 200:
                    raise NoKeysError(f"the answer was {status}")
                if answer.encoded:
                    raise NoKeysError("the answer is compressed, which was not asked for")
                return bytes(answer.body)
            try:
                uri = urljoin(uri, answer.location).partition("#")[0]
            except ValueError:
                raise NoKeysError("it sends elsewhere, to what is no address") from None
        raise NoKeysError(f"it sends elsewhere more than {_REDIRECTS} times")

    async def _get(self, uri: str) -> tuple[int, _Answer]:
        split = urlsplit(uri)
        host = split.hostname or ""
        reader, writer = await self._connect(host, split.port or 443)
        try:
            target = (split.path or "/") + (f"?{split.query}" if split.query else "")
            named = split.netloc.rpartition("@")[2]
            lines = (
                f"GET {target} HTTP/1.1",
                f"Host: {named}",
                "Accept: application/jwk-set+json, application/json",
                "Accept-Encoding: identity",
                "User-Agent: fairlead",
                "Connection: close",
            )
            writer.write("\r\n".join((*lines, "", "")).encode("ascii"))
            return await _read(reader)
        except (OSError, ssl.SSLError, httptools.HttpParserError, UnicodeEncodeError):
            raise NoKeysError("the server does not answer as one of HTTP does") from None
        finally:
            # Whatever the other side would still like to say: we have read what we wanted.
            writer.transport.abort()

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            found = await self._resolve(host, port)
        except OSError:
            raise NoKeysError(f"the name {host} is not known") from None
        allowed = [address for address in found if may_connect(host, address, self._exceptions)]
        if not allowed:
            raise NoKeysError(
                f"{host} is no address of the public internet; an operator may except it (`jwks_private`)"
            )
        problem = "the server cannot be reached"
        for address in allowed[:_ADDRESSES]:
            try:
                return await self._connect_to(address, port, host)
            except ssl.SSLCertVerificationError as error:
                problem = f"the server does not prove to be {host}: {error.verify_message}"
            except (OSError, ssl.SSLError):
                continue
        raise NoKeysError(problem)

    async def _connect_to(
        self, address: str, port: int, host: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to exactly this address: nothing looks the name up again."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
            return await asyncio.open_connection(sock=connection, ssl=self._context, server_hostname=host, limit=_CHUNK)
        except BaseException:
            connection.close()
            raise

    async def _look_up(self, host: str, port: int) -> list[str]:
        found: list[Any] = await asyncio.get_running_loop().run_in_executor(
            self._resolver, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(one[4][0]) for one in found))


async def _read(reader: asyncio.StreamReader) -> tuple[int, _Answer]:
    """A whole answer."""
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    taken = 0
    while not answer.complete:
        data = await reader.read(_CHUNK)
        if not data:
            break
        taken += len(data)
        if len(answer.body) > MAX_BYTES or taken > MAX_BYTES + _MOST_HEADERS:
            raise NoKeysError(f"the answer has more than {MAX_BYTES} bytes")
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(data)
    if not answer.complete:
        raise NoKeysError("the answer ends in the middle")
    return int(parser.get_status_code()), answer
