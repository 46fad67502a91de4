"""Implements `api.Api` over HTTP/1.1: one session per cluster, made anew when credentials or certificates change.

A thin shell around aiohttp. It decodes nothing but the `Status` of an error, retries nothing but a request that was
refused for a token that had just expired, and bounds everything: time, size of a body, length of a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

import aiohttp
import msgspec

from discovery.kubernetes.api import JSON, ApiError, Method, UnreachableError
from discovery.kubernetes.credentials import Access, Credentials
from discovery.sockets import Sockets

MAX_BODY = 256 * 1024 * 1024
MAX_LINE = 32 * 1024 * 1024
CONNECT_SECONDS = 10.0
OPEN_SECONDS = 60.0
"""An API server under load lets a watch wait for so long before it accepts it."""
_ACCEPT = f"{JSON}, */*;q=0.1"  # keys of tokens are had as `application/jwk-set+json` alone
_AT_ONCE = 32  # requests; watches are not counted
_READ_BUFFER = 256 * 1024
# A peer that vanished without a word is noticed within half a minute, however quiet a watch is.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)


class _Status(msgspec.Struct, gc=False):
    """`v1` Status, as far as it is read."""

    reason: str = ""
    message: str = ""


_STATUS = msgspec.json.Decoder(_Status)


class Connection:
    """See `api.Api`. Opens nothing before the first request; `close` when done."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._access: Access | None = None
        self._session: aiohttp.ClientSession | None = None
        self._retired: aiohttp.ClientSession | None = None
        self._loading = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._sockets = Sockets(*_KEEPALIVE)

    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        timeout: float = 15.0,  # noqa: ASYNC109 - the interface's
    ) -> bytes:
        """See `api.Api.request`."""
        async with self._slots:
            try:
                async with asyncio.timeout(timeout):
                    answer = await self._open(method, path, query or {}, body, content_type)
                    async with contextlib.aclosing(_Closing(answer)):
                        return await _whole(answer)
            except TimeoutError:
                raise UnreachableError(f"no answer to {method} {path} within {timeout:g} s") from None
            except (aiohttp.ClientError, OSError) as error:
                raise UnreachableError(_words(error)) from None

    async def lines(self, path: str, *, query: Mapping[str, str], idle_timeout: float) -> AsyncIterator[bytes]:
        """See `api.Api.lines`."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                answer = await self._open("GET", path, query, None, JSON)
        except TimeoutError:
            raise UnreachableError(f"no answer to a watch of {path} within {OPEN_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(_words(error)) from None
        async with contextlib.aclosing(_Closing(answer)):
            yield b""
            async for line in _lines(answer, path, idle_timeout):
                yield line

    async def close(self) -> None:
        """Let go of all connections."""
        sessions = (self._session, self._retired)
        self._session = self._retired = self._access = None
        await self._sockets.end(*sessions)

    async def _open(
        self, method: Method, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> aiohttp.ClientResponse:
        """The answer, its body unread; with fresh credentials if the first were refused."""
        session, access = await self._ready()
        answer = await _send(session, access, method, path, query, body, content_type)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            await _Closing(answer).aclose()
            session, access = await self._ready(refused=access)
            answer = await _send(session, access, method, path, query, body, content_type)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:  # redirects are not followed: a token goes to nobody else
            async with contextlib.aclosing(_Closing(answer)):
                raise _api_error(answer, await _whole(answer))
        return answer

    async def _ready(self, *, refused: Access | None = None) -> tuple[aiohttp.ClientSession, Access]:
        async with self._loading:
            # Of many requests refused at the same time the first one renews the credentials for all.
            access = await self._credentials.load(refused=refused is not None and refused == self._access)
            if self._session is None or self._access is None or _transport(access) != _transport(self._access):
                made = _session(access, self._sockets)
                # Requests and watches under way end on the session that they began on, until the next one retires.
                oldest, self._retired, self._session = self._retired, self._session, made
                if oldest is not None:
                    await oldest.close()
            self._access = access
            return self._session, access


class _Closing:
    """Closes a response that was not read to its end: its connection cannot be used again."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def aclose(self) -> None:
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            # Nothing is said any more, so there is no goodbye of TLS to wait for: it would outlive `Connection.close`.
            if (at := self._answer.connection) is not None and at.transport is not None:
                at.transport.abort()
            self._answer.close()


def _transport(access: Access) -> Access:
    """What a session is made of; a token is not, it goes with each request."""
    return msgspec.structs.replace(access, authorization="")


def _session(access: Access, sockets: Sockets) -> aiohttp.ClientSession:
    context: ssl.SSLContext | bool = _tls(access) if access.server.startswith("https:") else False
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context, socket_factory=sockets.make, keepalive_timeout=60),
        auto_decompress=True,
        trust_env=not access.proxy,
        read_bufsize=_READ_BUFFER,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        headers={"User-Agent": "fairlead", "Accept-Encoding": "identity"},
    )


def _tls(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=access.ca.decode("ascii") if access.ca else None)
        # Authorities that clusters made for themselves often lack extensions that newer Pythons ask for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not access.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if access.certificate:
            with tempfile.NamedTemporaryFile(prefix="fairlead-", mode="wb") as file:  # mode 0600
                file.write(access.certificate + b"\n" + access.key)
                file.flush()
                context.load_cert_chain(file.name)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise UnreachableError(f"the certificates for {access.server} cannot be used: {error}") from None
    return context


async def _send(
    session: aiohttp.ClientSession,
    access: Access,
    method: Method,
    path: str,
    query: Mapping[str, str],
    body: bytes | None,
    content_type: str,
) -> aiohttp.ClientResponse:
    headers = {"Accept": _ACCEPT}
    if access.authorization:
        headers["Authorization"] = access.authorization
    if body is not None:
        headers["Content-Type"] = content_type
    try:
        return await session.request(
            method,
            access.server + path,
            params=query,
            data=body,
            headers=headers,
            proxy=access.proxy or None,
            server_hostname=access.server_name or None,
            allow_redirects=False,
        )
    except aiohttp.ClientConnectorError:  # some of these are ValueErrors
        raise
    except RuntimeError as error:
        # The session was closed under a request that had just taken it: another one made a new session.
        raise UnreachableError(str(error)) from None
    except ValueError as error:  # a server or proxy that is no URL
        raise UnreachableError(f"{access.server} cannot be asked: {error}") from None


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_BODY:
            raise UnreachableError(f"the answer is longer than {MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


async def _lines(answer: aiohttp.ClientResponse, path: str, idle_timeout: float) -> AsyncIterator[bytes]:
    """The lines as they come; a last one without its end was cut off and is dropped."""
    rest: list[bytes] = []
    waiting = 0
    while True:
        try:
            async with asyncio.timeout(idle_timeout):
                part = await answer.content.readany()
        except TimeoutError:
            raise UnreachableError(f"nothing came on the watch of {path} for {idle_timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(_words(error)) from None
        if not part:
            return
        first, *others = part.split(b"\n")
        rest.append(first)
        waiting += len(first)
        if waiting > MAX_LINE:
            raise UnreachableError(f"a line of the watch of {path} is longer than {MAX_LINE} bytes")
        if others:
            whole = b"".join(rest)
            if whole:
                yield whole
            for line in others[:-1]:
                if line:
                    yield line
            rest, waiting = [others[-1]], len(others[-1])
            await asyncio.sleep(0)  # others get their turn in a long burst


def _api_error(answer: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        status = _STATUS.decode(body)
    except msgspec.DecodeError:
        status = _Status(message=body[:200].decode("utf-8", "replace"))
    retry_after = answer.headers.get("Retry-After", "")
    return ApiError(
        answer.status,
        status.reason or (answer.reason or ""),
        " ".join(status.message.split())[:1000],
        retry_after=float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None,
    )


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {_strerror(error.os_error)}"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the connection broke off"
    if isinstance(error, OSError):
        return _strerror(error)
    return str(error) or type(error).__name__


def _strerror(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error) or type(error).__name__
