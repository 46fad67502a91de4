"""Filters that only some routes have: a place in every chain, which a route fills with filters of its own.

Envoy can also put a filter asleep (`HttpFilter.disabled`) until a route has a configuration for it. But which filters
sleep it decides when a request comes in, and a request for a wildcard's host finds its route only later
(`scoped_routes`): it would go past the filter. A place looks at the route when its turn comes.

It is a `composite` filter, which can become others, inside of a `match_delegate`, which a route tells what it becomes:
the way that Envoys since 1.38 take alike. (`CompositePerRoute` says the same in one, and a 1.38 refuses it.)

Of several filters in one place only the last may hold a request back: when it lets go, Envoy goes on behind the place.
"""

from __future__ import annotations

from typing import Any

from xds.schema import message, pack
from xds.translate.http_filters import Filter, http_filter

_Composite = message("envoy.extensions.filters.http.composite.v3.Composite")
_Execute = message("envoy.extensions.filters.http.composite.v3.ExecuteFilterAction")
_Skip = message("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
_Delegate = message("envoy.extensions.common.matching.v3.ExtensionWithMatcher")
_PerRoute = message("envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute")
_Header = message("envoy.type.matcher.v3.HttpRequestHeaderMatchInput")


Filters = tuple[tuple[str, Any], ...]
"""Filters for a place: by name, each with its packed configuration."""


def place(name: str) -> Filter:
    """The filter of that name in the table, which does nothing until a route fills it in."""
    return http_filter(name, pack(_delegate("composite", pack(_Composite()))))


def filled(*filters: tuple[str, Any]) -> Any:
    """What a route puts into a place: filters by name and packed configuration, in their order, packed."""
    action = _Execute()
    for name, config in filters:
        each = action.filter_chain.typed_config.add()
        each.name = name
        each.typed_config.CopyFrom(config)
    return _always("run", action)


def for_content_type(name: str, prefix: str, config: Any) -> Filter:
    """A filter by name and packed configuration that sees requests of such a content type, where no route skips it."""
    delegate = _delegate("filter", config)
    other = delegate.xds_matcher.matcher_list.matchers.add()
    is_such = other.predicate.not_matcher.single_predicate
    is_such.value_match.prefix = prefix
    header = _Header()
    header.header_name = "content-type"
    is_such.input.name = "content-type"
    is_such.input.typed_config.CopyFrom(pack(header))
    other.on_match.action.name = "skip"
    other.on_match.action.typed_config.CopyFrom(pack(_Skip()))
    return http_filter(name, pack(delegate))


def skipped() -> Any:
    """What a route says to a filter that it does not want, packed."""
    return _always("skip", _Skip())


def _delegate(name: str, config: Any) -> Any:
    delegate = _Delegate()
    delegate.extension_config.name = name
    delegate.extension_config.typed_config.CopyFrom(config)
    return delegate


def _always(name: str, action: Any) -> Any:
    per_route = _PerRoute()
    per_route.xds_matcher.on_no_match.action.name = name
    per_route.xds_matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    return pack(per_route)
