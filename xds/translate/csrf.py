"""Cross-site request forgery: the `csrf` filter, which lets all pass until a route says whose pages may ask."""

from __future__ import annotations

from typing import Any

from mesh.kinds import routepolicy
from xds.schema import message, pack
from xds.translate.http_filters import CSRF, http_filter

_Policy = message("envoy.extensions.filters.http.csrf.v3.CsrfPolicy")
_HUNDRED = 100


def _policy(percent: int) -> Any:
    policy = _Policy()
    policy.filter_enabled.default_value.numerator = percent
    return policy


FILTER = http_filter(CSRF, pack(_policy(0)))


def set_csrf(route: Any, wanted: routepolicy.CSRF) -> None:
    """Let a `Route` refuse what pages of other origins send."""
    policy = _policy(_HUNDRED)
    for origin in wanted.additional_origins:
        matcher = policy.additional_origins.add()
        if origin.startswith("*."):
            matcher.suffix = origin[1:]
        else:
            matcher.exact = origin
    route.typed_per_filter_config[CSRF].CopyFrom(pack(policy))
