"""Route matches: an HTTPRoute's path, header, query and method matches as Envoy's `RouteMatch`.

Envoy takes the first route that matches, so the order is decided elsewhere (`mesh.precedence`). Regular expressions
match the whole value on both sides. A `CONNECT` request has no path and is matched by no route that has one, which is
all of them.
"""

from __future__ import annotations

import re
from typing import Any

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
