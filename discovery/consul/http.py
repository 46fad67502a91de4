"""The HTTP API of one Consul agent: a thin shell around aiohttp that bounds time and size, and decodes nothing.

The file with the token is read again for each request, so that a token can be replaced; no error shows it. Those for
TLS are read again when a request fails after they were changed: new connections are made with a renewed certificate
then, and none that is open is cut. Redirects are not followed: a token goes to nobody else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec

from discovery.sockets import Sockets

MAX_BODY = 256 * 1024 * 1024
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 15.0
MOST_RETRY_AFTER_SECONDS = 60.0
"""An agent that wants to be left alone for longer is asked all the same: a proxy before it may say a day."""
_SLACK_SECONDS = 15.0  # Consul adds up to a sixteenth to a wait, and the answer has to come over


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An agent and how to speak to it: `url` like `http://127.0.0.1:8500`; files are paths, empty for none."""

    url: str
    token_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    datacenter: str = ""
    namespace: str = ""
    partition: str = ""


class Answer(msgspec.Struct, frozen=True):
    """A good answer; `index` is 0 where there is none. `headers` are found in any case of their letters."""

    index: int
    body: bytes
    headers: Mapping[str, str]


class UnreachableError(Exception):
    """No answer that could be understood."""


class ConsulError(Exception):
    """The agent answered with an error."""

    def __init__(self, status: int, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after


class Consul:
    """An agent. Opens nothing before the first request; `close` when done."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._session: aiohttp.ClientSession | None = None
        self._files: tuple[_Version, ...] = ()  # as they were when the session was made
        self._retired: list[aiohttp.ClientSession] = []
        self._sockets = Sockets()
        self._token_read: asyncio.Task[str] | None = None  # while one is under way

    async def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        index: int = 0,
        wait: float = 0.0,
        slack: float = _SLACK_SECONDS,
    ) -> Answer:
        """Read; with an index above 0 the answer comes when there is a newer one, or after `wait` seconds.

        `slack` is how much longer than that is waited for it.

        Raises:
            ConsulError: the agent says no.
            UnreachableError: no answer, or too long a one.
        """
        blocking = {"index": str(index), "wait": f"{max(1, round(wait * 1000))}ms"} if index > 0 else {}
        seconds = wait * 17 / 16 + slack if blocking else REQUEST_SECONDS
        return await self._request("GET", path, {**(query or {}), **blocking}, None, seconds)

    async def put(self, path: str, body: bytes = b"", query: Mapping[str, str] | None = None) -> Answer:
        """Write. Raises as `get` does."""
        return await self._request("PUT", path, query or {}, body, REQUEST_SECONDS)

    async def delete(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Delete. Raises as `get` does."""
        return await self._request("DELETE", path, query or {}, None, REQUEST_SECONDS)

    async def close(self) -> None:
        """Let go of all connections."""
        session, self._session = self._session, None
        retired, self._retired = self._retired, []
        await self._sockets.end(session, *retired)

    async def _request(
        self,
        method: Literal["GET", "PUT", "DELETE"],
        path: str,
        query: Mapping[str, str],
        body: bytes | None,
        seconds: float,
    ) -> Answer:
        at = self.target
        places = {"dc": at.datacenter, "ns": at.namespace, "partition": at.partition}
        params = {name: value for name, value in places.items() if value} | dict(query)
        try:
            async with asyncio.timeout(seconds):
                headers = {"X-Consul-Token": await self._token()} if at.token_file else {}
                async with self._ready().request(
                    method, at.url + path, params=params, data=body, headers=headers, allow_redirects=False
                ) as answer:
                    content = await _whole(answer)
                    if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                        raise _error(answer, content)
                    return Answer(_index(answer), content, answer.headers)
        except TimeoutError:
            raise UnreachableError(f"no answer to {method} {path} within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            await self._retire_old_files()
            raise UnreachableError(_words(error)) from None

    async def _token(self) -> str:
        """What is in its file now. A disk that hangs holds one thread, and not one for each request."""
        if self._token_read is None:
            path = self.target.token_file
            self._token_read = asyncio.get_running_loop().create_task(asyncio.to_thread(_token, path))
            self._token_read.add_done_callback(self._token_was_read)
        return await asyncio.shield(self._token_read)

    def _token_was_read(self, task: asyncio.Task[str]) -> None:
        self._token_read = None
        if not task.cancelled():
            task.exception()  # that nobody waits for it any more is no reason for asyncio to complain

    async def _retire_old_files(self) -> None:
        """Have the next request read the files for TLS, if they are not what they were."""
        if self._session is None or not self._files or _versions(self.target) == self._files:
            return
        older, self._retired = self._retired, [self._session]  # what is asked over that one may be answered yet
        self._session = None
        for session in older:
            await session.close()

    def _ready(self) -> aiohttp.ClientSession:
        if self._session is None:
            secure = self.target.url.startswith("https:")
            self._files = _versions(self.target) if secure else ()
            context: ssl.SSLContext | bool = tls_context(self.target) if secure else False
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=context, socket_factory=self._sockets.make),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                headers={"User-Agent": "fairlead"},
            )
        return self._session


def _token(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise UnreachableError(f"the token in {path} is no token") from None
    if not token.isprintable():
        raise UnreachableError(f"the token in {path} is no token")
    return token


_Version = tuple[int, int, int]


def _versions(target: Target) -> tuple[_Version, ...]:
    """What tells that the files for TLS were written anew; zeros for one that is away."""
    return tuple(_version(path) for path in (target.ca_file, target.certificate_file, target.key_file) if path)


def _version(path: str) -> _Version:
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def tls_context(target: Target) -> ssl.SSLContext:
    """Whom to believe, and who we are. Raises UnreachableError, which names the file."""
    try:
        context = ssl.create_default_context(cafile=target.ca_file or None)
    except (OSError, ValueError) as error:
        raise UnreachableError(f"{target.ca_file} holds no authorities in PEM: {error}") from None
    if target.certificate_file:
        try:
            context.load_cert_chain(target.certificate_file, target.key_file or None, password=_no_password)
        except (OSError, ValueError) as error:
            files = f"{target.certificate_file} and {target.key_file or target.certificate_file}"
            raise UnreachableError(f"{files} hold no certificate and its key in PEM: {error}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


def _words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"{text}: nothing there speaks TLS" if "WRONG_VERSION_NUMBER" in text else text


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_BODY:
            answer.close()
            raise UnreachableError(f"the answer is longer than {MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def _index(answer: aiohttp.ClientResponse) -> int:
    text = answer.headers.get("X-Consul-Index", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0


def _error(answer: aiohttp.ClientResponse, body: bytes) -> ConsulError:
    after = answer.headers.get("Retry-After", "")
    words = " ".join(body[:500].decode("utf-8", "replace").split())
    seconds = float(after) if after.isascii() and after.isdigit() and len(after) <= 5 else 0.0
    seconds = min(seconds, MOST_RETRY_AFTER_SECONDS)
    return ConsulError(answer.status, words or (answer.reason or ""), retry_after=seconds)
