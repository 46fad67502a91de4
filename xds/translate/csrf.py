"""Cross-site request forgery: a filter that knows whose pages may ask, which a route puts into its place."""

from __future__ import annotations

from mesh.kinds import routepolicy
from xds.schema import message, pack
from xds.translate.composite import Filters

_Policy = message("envoy.extensions.filters.http.csrf.v3.CsrfPolicy")
_HUNDRED = 100


def csrf_filters(wanted: routepolicy.CSRF) -> Filters:
    """The filter that refuses what pages of other origins send to a route. It holds nothing back."""
    policy = _Policy()
    policy.filter_enabled.default_value.numerator = _HUNDRED
    for origin in wanted.additional_origins:
        matcher = policy.additional_origins.add()
        if origin.startswith("*."):
            matcher.suffix = origin[1:]
        else:
            matcher.exact = origin
    return (("csrf", pack(policy)),)
