"""Asks a Prometheus server for the one value of an instant query (its HTTP API, `/api/v1/query`).

Which servers may be asked is the operator's word, not that of whoever writes a query: a query goes nowhere else. What
comes back is bounded in time and bytes, redirects are not followed, and nothing of it but a number, or Prometheus' own
word for an error, is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httptools
import msgspec

TIMEOUT: Final = 5.0
MAX_BYTES: Final = 256 * 1024
_CHUNK: Final = 16_384


class NoValueError(Exception):
    """There is no value to be had; says why."""


class _Result(msgspec.Struct):
    value: tuple[float, str]


class _Data(msgspec.Struct, rename="camel"):
    result_type: str = ""
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Answer(msgspec.Struct, rename="camel"):
    status: str = ""
    data: _Data | None = None
    error_type: str = ""


class _Response:
    """A response as far as it has come; the parser calls these methods."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """The end."""
        self.complete = True


def server_problem(url: str) -> str:
    """Why a URL cannot be a Prometheus server's; empty where it can."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not url.isascii() or not url.isprintable() or " " in url:
        return "write http://HOST:PORT or https://HOST:PORT, with a path where the API is below one"
    if parts.query or parts.fragment or parts.username is not None:
        return "leave out what is before `@` and after `?` or `#`"
    return ""


class Prometheus:
    """Queries one server; `context` is how one over https proves itself, `timeout` bounds a whole answer (seconds)."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._url = urlsplit(url.rstrip("/"))
        self._timeout = timeout
        self._make_context = context
        self._context: ssl.SSLContext | None = None

    async def value(self, query: str) -> float:
        """The value of a query by now.

        Raises:
            NoValueError: there is none, or not one alone.
        """
        try:
            async with asyncio.timeout(self._timeout):
                status, body = await self._post(urlencode({"query": query}).encode("ascii"))
        except TimeoutError:
            raise NoValueError(f"Prometheus did not answer within {self._timeout:g} s") from None
        except ssl.SSLError as error:
            raise NoValueError(
                f"Prometheus cannot be trusted: {getattr(error, 'verify_message', error.reason)}"
            ) from None
        except OSError:
            raise NoValueError("Prometheus cannot be reached") from None
        except httptools.HttpParserError:
            raise NoValueError("what answers does not speak HTTP") from None
        return read_value(status, body)

    async def _post(self, form: bytes) -> tuple[int, bytes]:
        host, secure = self._url.hostname or "", self._url.scheme == "https"
        port = self._url.port or (443 if secure else 80)
        if secure and self._context is None:
            self._context = self._make_context()
        reader, writer = await asyncio.open_connection(host, port, ssl=self._context if secure else None, limit=_CHUNK)
        try:
            head = (
                f"POST {self._url.path}/api/v1/query HTTP/1.1",
                f"Host: {self._url.netloc}",
                "Accept: application/json",
                "Accept-Encoding: identity",
                "User-Agent: fairlead",
                "Content-Type: application/x-www-form-urlencoded",
                f"Content-Length: {len(form)}",
                "Connection: close",
            )
            writer.write("\r\n".join((*head, "", "")).encode("ascii") + form)
            return await _read(reader)
        finally:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    response = _Response()
    parser: Any = httptools.HttpResponseParser(response)
    taken = 0
    while not response.complete:
        data = await reader.read(_CHUNK)
        if not data:
            break
        taken += len(data)
        if taken > MAX_BYTES:
            raise NoValueError(f"the answer has more than {MAX_BYTES} bytes")
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(data)
    if not response.complete:
        raise NoValueError("the answer ends in the middle")
    return int(parser.get_status_code()), bytes(response.body)


def read_value(status: int, body: bytes) -> float:
    """The number in an answer: a scalar, or a vector of one sample. Raises NoValueError."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NoValueError(f"the answer ({status}) is none of Prometheus'") from None
    if answer.status != "success" or answer.data is None:
        word = answer.error_type if answer.error_type.isidentifier() else "an error"
        raise NoValueError(f"Prometheus answers {word[:40]} ({status})")
    try:
        if answer.data.result_type == "scalar":
            text = msgspec.json.decode(answer.data.result, type=tuple[float, str])[1]
        elif answer.data.result_type == "vector":
            found = msgspec.json.decode(answer.data.result, type=list[_Result])
            if len(found) != 1:
                raise NoValueError(f"the query has {len(found)} series, and one is needed")
            text = found[0].value[1]
        else:
            raise NoValueError("the query gives neither a number nor a vector")
        value = float(text)
    except (msgspec.DecodeError, ValueError):
        raise NoValueError("the value is no number") from None
    if math.isnan(value):
        raise NoValueError("the value is NaN: nothing was there to divide by, most likely")
    return value
