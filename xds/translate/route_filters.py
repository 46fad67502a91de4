"""The HTTP filters that a route has of its own, as one `composite` filter that is in every chain.

Features write a filter's configuration on the route under the filter's name (`typed_per_filter_config`); `gather` makes
one chain of them, in the order of the table, which every request of that route takes. So none of them is in the chain
of other requests, and none changes a listener.

Not as filters that are asleep in the chain until a route wakes them, which Envoy offers too: it decides that when a
request comes in, and hosts without a scope of their own find their route later (`scoped_routes`).
"""

from __future__ import annotations

from typing import Any

from xds.schema import message, pack, unpack
from xds.translate.http_filters import EXTENSIONS, OF_ROUTES, ROUTE_FILTERS, http_filter

_Composite = message("envoy.extensions.filters.http.composite.v3.Composite")
_PerRoute = message("envoy.extensions.filters.http.composite.v3.CompositePerRoute")
_Action = message("envoy.extensions.filters.http.composite.v3.ExecuteFilterAction")

FILTER = http_filter(ROUTE_FILTERS, pack(_Composite()))


def gather(route: Any) -> None:
    """Make one chain of the filters of a `Route`."""
    configs = route.typed_per_filter_config
    names = [name for name in OF_ROUTES if name in configs]
    if not names:
        return
    action = _Action()
    for name in names:
        if name == EXTENSIONS:
            action.filter_chain.typed_config.extend(unpack(configs[name]).filter_chain.typed_config)
        else:
            made = action.filter_chain.typed_config.add()
            made.name = name
            made.typed_config.CopyFrom(configs[name])
        del configs[name]
    per_route = _PerRoute()
    per_route.matcher.on_no_match.action.name = ROUTE_FILTERS
    per_route.matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    configs[ROUTE_FILTERS].CopyFrom(pack(per_route))
