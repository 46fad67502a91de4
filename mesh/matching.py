"""Whether a request satisfies a match of a route, and if not, why not: the words that `explain` shows.

Judges as Envoy does with the configuration that translation makes: regular expressions match the whole value, and a
header sent more than once matches when one of
its values does (Envoy 1.40).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

from mesh.kinds.httproute import HTTPPathMatch, HTTPRouteMatch
from mesh.requests import Request

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


def mismatch(match: HTTPRouteMatch, request: Request) -> str:
    """Why the request does not satisfy the match; empty where it does."""
    if request.method == "CONNECT":
        return "a CONNECT request has no path to match"
    if not path_matches(match.path, request.path):
        return f"path {request.path} is not {_path_words(match.path)}"
    if match.method is not None and request.method != match.method:
        return f"method is {request.method}, not {match.method}"
    for header in match.headers:
        name = header.name.lower()
        values = request.header(name)
        if not any(_value_matches(header.type, header.value, value) for value in values):
            return _value_words("header", name, header.type, header.value, values)
    for param in match.query_params:
        value = request.query_param(param.name)
        if value is None or not _value_matches(param.type, param.value, value):
            sent = () if value is None else (value,)
            return _value_words("query parameter", param.name, param.type, param.value, sent)
    return ""


def path_matches(match: HTTPPathMatch, path: str) -> bool:
    """Whether a normalised path satisfies a path match; prefixes match whole segments only."""
    if match.type == "Exact":
        return path == match.value
    if match.type == "RegularExpression":
        return _fullmatch(match.value, path)
    prefix = match.value.rstrip("/")
    return path == prefix or path.startswith(f"{prefix}/")


def match_words(match: HTTPRouteMatch) -> str:
    """The match in a line: `path /api (prefix), header x-user = me`."""
    words = [f"path {match.path.value} ({_TYPE_WORDS[match.path.type]})"]
    if match.method is not None:
        words.append(f"method {match.method}")
    words += [f"header {item.name.lower()} {_OPERATORS[item.type]} {item.value}" for item in match.headers]
    words += [f"query parameter {item.name} {_OPERATORS[item.type]} {item.value}" for item in match.query_params]
    return ", ".join(words)


_TYPE_WORDS = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regular expression"}
_OPERATORS = {"Exact": "=", "RegularExpression": "matches"}


def _path_words(match: HTTPPathMatch) -> str:
    if match.type == "PathPrefix":
        return f"under {match.value}"
    return match.value if match.type == "Exact" else f"matched by {match.value}"


def _value_words(what: str, name: str, kind: str, wanted: str, sent: tuple[str, ...]) -> str:
    if not sent:
        return f"{what} {name} is not there"
    said = "matched by" if kind == "RegularExpression" else "equal to"
    return f"{what} {name} is {', '.join(repr(value) for value in sent)}, not {said} {wanted!r}"


def _value_matches(kind: str, wanted: str, value: str) -> bool:
    return _fullmatch(wanted, value) if kind == "RegularExpression" else value == wanted


def _fullmatch(pattern: str, value: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is not None and compiled.fullmatch(value) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error:
        return None
