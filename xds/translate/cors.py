"""CORS: the filter of that name as a route's `CorsPolicy`.

A preflight that matches no allowed origin is answered here and not by the backend, which may know nothing of CORS.
With credentials a browser takes a `*` literally; Envoy (1.38 and newer) then answers with what was asked for instead.
"""

from __future__ import annotations

from typing import Any

import re2

from mesh.kinds.http_filters import HTTPCORSFilter
from xds.schema import pack
from xds.schema.types import CorsPolicy
from xds.translate.http_filters import CORS


def set_cors(route: Any, cors: HTTPCORSFilter) -> None:
    """Give a `Route` its own CORS policy."""
    policy = CorsPolicy()
    for origin in cors.allow_origins:
        _set_origin(policy.allow_origin_string_match.add(), origin)
    policy.allow_methods = ", ".join(cors.allow_methods)
    policy.allow_headers = ", ".join(cors.allow_headers)
    policy.expose_headers = ", ".join(cors.expose_headers)
    policy.max_age = str(cors.max_age)
    policy.allow_credentials.value = bool(cors.allow_credentials)
    policy.forward_not_matching_preflights.value = False
    route.typed_per_filter_config[CORS].CopyFrom(pack(policy))


def _set_origin(matcher: Any, origin: str) -> None:
    if origin == "*":
        matcher.safe_regex.regex = ".*"
    elif "*" in origin:
        scheme, _, host = origin.partition("://")
        pattern = "[^/]+".join(re2.escape(part) for part in host.split("*"))
        matcher.safe_regex.regex = f"{scheme}://{pattern}"
    else:
        matcher.exact = origin
