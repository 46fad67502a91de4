"""The commands' side of the REST API: standard library only, so that commands start fast.

Owns the wire: connections, timeouts, problem documents (RFC 9457) turned into errors, server-sent events. What a
command does with an answer is the command's business.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import typer

from fairlead.errors import CommandError, UsageError, oserror_words
from mesh.problems import Problem, sentence, shown

SERVER_CA = "FAIRLEAD_SERVER_CA"
DEFAULT_SERVER = "http://127.0.0.1:8080"
Query = Mapping[str, str] | Sequence[tuple[str, str]]

_MAX_BODY = 256 * 1024 * 1024

ServerOption = Annotated[
    str, typer.Option("--server", envvar="FAIRLEAD_SERVER", metavar="URL", help="The API of a running server.")
]
TokenOption = Annotated[
    str,
    typer.Option("--token", envvar="FAIRLEAD_TOKEN", show_envvar=True, help="Token, where the server asks for one."),
]


class RefusedError(CommandError):
    """The server answered with an error: `status`, and its problem document."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status = status
        self.document = document
        super().__init__(_words(status, document))


def _words(status: int, document: Mapping[str, Any]) -> str:
    title = str(document.get("detail") or document.get("title") or http.client.responses.get(status, "error"))
    fix = str(document.get("fix") or "")
    if status == http.client.UNAUTHORIZED:
        ours = document.get("code") == "NoToken"  # its fix is for whoever speaks HTTP, and names the flag for us
        fix = "give a token with --token or FAIRLEAD_TOKEN" + (f"; {fix}" if fix and not ours else "")
    lines = [f"{title} (HTTP {status})" + (f". Fix: {sentence(fix)}" if fix else "")]
    lines.extend(f"  {problem_line(problem)}" for problem in document.get("problems", ()))
    return "\n".join(lines)


def problem_line(problem: Mapping[str, Any]) -> str:
    """One validation problem as the server tells it, as people read it."""
    return str(msgspec.convert(problem, Problem))


class Answer:
    """A successful answer: decoded body, and the headers that matter."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, *, server: str) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.server = server

    def json(self) -> Any:
        """The body as JSON, None where it is empty.

        Raises:
            CommandError: it is something else; whatever listens there is not Fairlead.
        """
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            begin = shown(self.body[:200].decode(errors="replace").strip())
            raise _stranger(self.server, f"with something that is not JSON ('{begin}')") from None


class NobodyListensError(CommandError):
    """Nothing listens at the server's address."""


class Trust(msgspec.Struct, frozen=True):
    """Files in PEM for a server over TLS, empty for none: whom to believe, and who we are."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


_PLAIN_TRUST = Trust()


class Client:
    """One server. Each call uses a connection of its own: commands make few calls, and none can poison the next."""

    def __init__(self, server: str, *, token: str = "", timeout: float = 30.0, trust: Trust = _PLAIN_TRUST) -> None:
        try:
            url = urlsplit(server)
        except ValueError:  # an IPv6 address without its bracket
            url = urlsplit("")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UsageError(f"--server: {server!r} is no http:// or https:// URL. Fix: like {DEFAULT_SERVER}")
        try:
            self.port = url.port or (443 if url.scheme == "https" else 80)
        except ValueError:
            raise UsageError(f"--server: the port in {server!r} is no port number") from None
        self.server = server
        self.host = url.hostname
        self.secure = url.scheme == "https"
        self.token = token
        self.timeout = timeout
        self.trust = trust

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET, decoded: an object, as everything is that the API answers.

        Raises:
            CommandError: as `request`, or it is something else.
        """
        return self.fetch(path, list(query.items()))

    def fetch(self, path: str, query: Query) -> dict[str, Any]:
        """`get` with a query whose names repeat or are no Python names."""
        found = self.request("GET", path, query=query).json()
        if not isinstance(found, dict):
            raise _stranger(self.server, "with JSON that is not an object")
        return found

    def items(self, path: str, **query: str) -> dict[str, Any]:
        """GET of a list: an object whose `items` is a list of objects."""
        found = self.get(path, **query)
        if not isinstance(found.get("items"), list):
            raise _stranger(self.server, f"to {path} without `items`")
        return found

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call; `body` is sent as JSON, `raw` as it is.

        Raises:
            RefusedError: the server answered with an error status.
            CommandError: no server there, no answer in time, or an answer that is not HTTP.
        """
        connection = self._connect()
        payload = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        try:
            connection.request(method, _target(path, query), body=payload, headers=self._headers(headers, body=payload))
            response = connection.getresponse()
            headers_read = dict(response.headers.items())
            answer = Answer(response.status, headers_read, response.read(_MAX_BODY), server=self.server)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise RefusedError(answer.status, _problem_document(answer))
        return answer

    def events(self, path: str, *, query: Query | None = None) -> Iterator[tuple[str, Any]]:
        """Server-sent events as (event name, decoded data), until the server closes or the caller stops iterating."""
        connection = self._connect()
        try:
            connection.request("GET", _target(path, query), headers=self._headers({"Accept": "text/event-stream"}))
            response = connection.getresponse()
            if response.status >= 400:
                refusal = Answer(response.status, {}, response.read(_MAX_BODY), server=self.server)
                raise RefusedError(response.status, _problem_document(refusal))
            yield from _parse_events(iter(response.readline, b""))
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self.secure:
            context = self._trusting()
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def _trusting(self) -> ssl.SSLContext:
        """Whom to believe: the authorities of a file, of the one that FAIRLEAD_SERVER_CA names, else the system's."""
        file = self.trust.ca or os.environ.get(SERVER_CA) or None
        try:
            context = ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError) as error:
            what = "" if self.trust.ca else f"{SERVER_CA}: "
            raise UsageError(f"{what}{file}: {error}. Fix: a PEM file with the server's authorities") from None
        if self.trust.certificate:
            try:
                context.load_cert_chain(self.trust.certificate, self.trust.key or None)
            except (OSError, ssl.SSLError) as error:
                fix = "PEM files with a certificate and its key"
                raise UsageError(f"{self.trust.certificate}: {error}. Fix: {fix}") from None
        return context

    def _headers(self, extra: Mapping[str, str] | None, *, body: bytes | None = None) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers | dict(extra or {})

    def _unreachable(self, error: Exception) -> CommandError:
        if isinstance(error, ConnectionRefusedError):
            return NobodyListensError(
                f"nothing listens at {self.server}: is `fairlead serve` running there?"
                " Fix: start it, or name its address with --server or FAIRLEAD_SERVER"
            )
        if isinstance(error, TimeoutError):
            return CommandError(
                f"{self.server} did not answer within {self.timeout:g} s. Fix: see its log, and check the address"
            )
        words = oserror_words(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return CommandError(f"cannot talk to {self.server}: {words}")


def _stranger(server: str, how: str) -> CommandError:
    """The error about a server that answers, but not as Fairlead does."""
    return CommandError(
        f"{server} answered {how}: is that Fairlead's API?"
        " Fix: name the address of `fairlead serve`'s --api with --server or FAIRLEAD_SERVER"
    )


def _target(path: str, query: Query | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _problem_document(answer: Answer) -> Mapping[str, Any]:
    try:
        document = answer.json()
    except CommandError:
        document = None
    if isinstance(document, dict):
        return document
    return {"detail": answer.body[:500].decode(errors="replace").strip()}


def _parse_events(lines: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """Server-sent events, as far as JSON events need them (WHATWG HTML §9.2.6)."""
    name, data = "message", list[str]()
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
