"""Filters that only some routes have: a `composite` filter in every chain, which is filled in by the route.

Envoy can also put a filter asleep (`HttpFilter.disabled`) until a route has a configuration for it. But which filters
sleep it decides when a request comes in, and a request for a wildcard's host finds its route only later
(`scoped_routes`): it would go past the filter. This one looks at the route when its turn comes.

Of several filters in one place only the last may hold a request back: when it lets go, Envoy goes on behind the place.
"""

from __future__ import annotations

from typing import Any

from xds.schema import message, pack
from xds.translate.http_filters import Filter, http_filter

_Composite = message("envoy.extensions.filters.http.composite.v3.Composite")
_PerRoute = message("envoy.extensions.filters.http.composite.v3.CompositePerRoute")
_Execute = message("envoy.extensions.filters.http.composite.v3.ExecuteFilterAction")
_EMPTY = pack(_Composite())


def place(name: str) -> Filter:
    """The filter of that name in the table, which does nothing until a route fills it in."""
    return http_filter(name, _EMPTY)


def filled(*filters: tuple[str, Any]) -> Any:
    """What a route puts into a place: filters by name and packed configuration, in their order, packed."""
    action = _Execute()
    for name, config in filters:
        each = action.filter_chain.typed_config.add()
        each.name = name
        each.typed_config.CopyFrom(config)
    per_route = _PerRoute()
    per_route.matcher.on_no_match.action.name = "run"
    per_route.matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    return pack(per_route)
