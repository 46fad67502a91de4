"""Cross-site request forgery: the `csrf` filter, for a route that says whose pages may send requests."""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import CSRF
from xds.schema import message, pack

_Policy = message("envoy.extensions.filters.http.csrf.v3.CsrfPolicy")
_HUNDRED = 100


def csrf(wanted: CSRF) -> list[tuple[str, Any]]:
    """The filter, by name and packed configuration, that refuses what pages of other origins send."""
    policy = _Policy()
    policy.filter_enabled.default_value.numerator = _HUNDRED
    for origin in wanted.additional_origins:
        matcher = policy.additional_origins.add()
        if origin.startswith("*."):
            matcher.suffix = origin[1:]
        else:
            matcher.exact = origin
    return [("csrf", pack(policy))]
