"""A request as Envoy sees it when it looks for a route: host, normalised path, query, headers.

The facts were measured on Envoy 1.40 with `normalize_path` and `merge_slashes` on and
`path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT`, which is what our listeners have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import quote, urlsplit

import msgspec

WELL_KNOWN_PORTS = {"http": 80, "https": 443}

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPED = re.compile("%([0-9A-Fa-f]{2})")
_ESCAPED_SLASH = re.compile("%(?:2F|5C)", re.IGNORECASE)
_KEPT = "/%!$&'()*+,;=:@[]"


class Request(msgspec.Struct, frozen=True):
    """What routes match on. `port` is 0 where the URL names none; `sni` is the server name of the TLS handshake.

    `host` is in lower case and without a port, `path` normalised and without the query, `query` the raw pairs (Envoy
    does not decode them). `headers` have names in lower case; `host` is among them with its port, as it was sent.
    `escaped_slashes`: the path held `%2F` or `%5C`, so that Envoy redirects to `path` before it looks for a route.
    """

    method: str
    scheme: Literal["http", "https"]
    port: int
    sni: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    raw_query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    escaped_slashes: bool = False

    def header(self, name: str) -> tuple[str, ...]:
        """All values of a header, in order."""
        return tuple(value for key, value in self.headers if key == name.lower())

    def query_param(self, name: str) -> str | None:
        """The first value of a query parameter, or None."""
        return next((value for key, value in self.query if key == name), None)


def request(method: str, url: str, headers: Iterable[tuple[str, str]] = ()) -> Request:
    """The request that a client would send for a URL; a `Host` header among the headers replaces the URL's host.

    Raises ValueError, with a sentence for the user, where the URL is not an absolute http or https one.
    """
    wrong = f"{url!r} is not a URL to explain; write it as http://HOST[:PORT]/PATH or https://…"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{wrong} ({error})") from None
    if parts.scheme not in WELL_KNOWN_PORTS or not parts.hostname:
        raise ValueError(wrong)
    sent = [(name.lower(), value.strip(" \t")) for name, value in headers]
    authority = next((value for name, value in sent if name in ("host", ":authority")), parts.netloc.rpartition("@")[2])
    rest = [(name, value) for name, value in sent if name not in ("host", ":authority")]
    return Request(
        method=method.upper(),
        scheme="https" if parts.scheme == "https" else "http",
        port=port or 0,
        sni=parts.hostname.lower(),
        host=host_of(authority),
        path=normalised(_ESCAPED_SLASH.sub("/", parts.path or "/")),
        query=_query(parts.query),
        raw_query=parts.query,
        headers=(("host", authority), *rest),
        escaped_slashes=_ESCAPED_SLASH.search(parts.path) is not None,
    )


def host_of(authority: str) -> str:
    """The host of a Host header, in lower case and without its port; an IPv6 literal keeps its brackets."""
    return re.sub(r":[0-9]*$", "", authority.lower()) if not authority.endswith("]") else authority.lower()


def normalised(path: str) -> str:
    """The path as Envoy matches it: unreserved characters unescaped, no dot segments, no empty segments."""
    path = _ESCAPED.sub(_unescaped, quote(path.replace("\\", "/"), safe=_KEPT))
    kept: list[str] = []
    *segments, last = path.split("/")[1:]
    for segment in segments:
        _walk(kept, segment)
    if last in (".", ".."):
        _walk(kept, last)
        last = ""
    return re.sub("/+", "/", "/".join(("", *kept, last)))


def _walk(kept: list[str], segment: str) -> None:
    if segment == "..":
        del kept[-1:]
    elif segment != ".":
        kept.append(segment)


def _unescaped(escaped: re.Match[str]) -> str:
    character = chr(int(escaped[1], 16))
    return character if character in _UNRESERVED else escaped[0]


def _query(query: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return tuple((name, value) for name, _, value in pairs)
