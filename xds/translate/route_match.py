"""Route matches: an HTTPRoute's path, header, query and method matches as Envoy's `RouteMatch`.

Envoy takes the first route that matches, so the order is decided elsewhere (`mesh.precedence`). Regular expressions
match the whole value on both sides. A `CONNECT` request has no path and is matched by no route that has one, which is
all of them.
"""

from __future__ import annotations

import re
from typing import Any

import re2

from mesh.kinds.httproute import HTTPPathMatch, HTTPRouteMatch


def set_match(route_match: Any, match: HTTPRouteMatch, *, grpc: bool) -> None:
    """Fill a `RouteMatch`. `grpc`: for proxyless clients, which refuse `path_separated_prefix` (gRFC A28)."""
    _set_path(route_match, match.path, grpc=grpc)
    if match.method is not None:
        _add_string_match(route_match.headers.add(), ":method", match.method, regex=False)
    for header in match.headers:
        regex = header.type == "RegularExpression"
        _add_string_match(route_match.headers.add(), header.name.lower(), header.value, regex=regex)
    for query in match.query_params:
        regex = query.type == "RegularExpression"
        _add_string_match(route_match.query_parameters.add(), query.name, query.value, regex=regex)


def narrow(route_match: Any, pattern: str) -> bool:
    """Let a `RouteMatch` match only paths that a regular expression matches, too; False where there can be none.

    Both the whole path without its query. Envoy takes one condition of a path, and others of the header `:path`, which
    has the query: so the given condition goes there, and where it is an expression itself, the new one.
    """
    match route_match.WhichOneof("path_specifier"):
        case "path":
            return re2.fullmatch(pattern, route_match.path) is not None
        case "safe_regex":
            _add_string_match(route_match.headers.add(), ":path", rf"(?:{pattern})(?:\?.*)?", regex=True)
            return True
        case "path_separated_prefix":
            prefix = re.escape(route_match.path_separated_prefix)
            _add_string_match(route_match.headers.add(), ":path", f"{prefix}(?:[/?].*)?", regex=True)
    route_match.safe_regex.regex = pattern
    return True


def matched_prefix(path: HTTPPathMatch) -> str:
    """The prefix without the slashes at its end, empty for every path: `/foo/` and `/foo` mean the same."""
    return path.value.rstrip("/")


def _set_path(route_match: Any, path: HTTPPathMatch, *, grpc: bool) -> None:
    if path.type == "Exact":
        route_match.path = path.value
    elif path.type == "RegularExpression":
        route_match.safe_regex.regex = path.value
    elif not (prefix := matched_prefix(path)):
        route_match.prefix = "/"
    elif grpc:
        route_match.safe_regex.regex = f"{re.escape(prefix)}(/.*)?"
    else:
        route_match.path_separated_prefix = prefix


def _add_string_match(matcher: Any, name: str, value: str, *, regex: bool) -> None:
    matcher.name = name
    if regex:
        matcher.string_match.safe_regex.regex = value
    else:
        matcher.string_match.exact = value
