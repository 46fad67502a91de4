"""Header modifiers: what RequestHeaderModifier and ResponseHeaderModifier become on a route or a weighted cluster.

Envoy reads `%` in a header value as the start of a command (`%REQ(cookie)%`), which Gateway API does not know: values
are literal, so it is doubled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.kinds.http_filters import HTTPHeader, HTTPHeaderFilter
from mesh.kinds.routepolicy import PolicyHeaders
from xds.schema import message
from xds.schema.types import HeaderValueOption

OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
APPEND = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD

_HeaderMutation = message("envoy.config.common.mutation_rules.v3.HeaderMutation")


def modify_request_headers(message: Any, modifier: HTTPHeaderFilter) -> None:
    """Add a modifier to a `Route` or `ClusterWeight`."""
    _add(message.request_headers_to_add, modifier.set, OVERWRITE)
    _add(message.request_headers_to_add, modifier.add, APPEND)
    message.request_headers_to_remove.extend(name.lower() for name in modifier.remove)


def modify_response_headers(message: Any, modifier: HTTPHeaderFilter) -> None:
    """The same for the response."""
    _add(message.response_headers_to_add, modifier.set, OVERWRITE)
    _add(message.response_headers_to_add, modifier.add, APPEND)
    message.response_headers_to_remove.extend(name.lower() for name in modifier.remove)


def mutations(wanted: PolicyHeaders) -> Iterable[Any]:
    """What a policy does to headers, as the `HeaderMutation`s of extensions that change them."""
    for name in wanted.remove:
        yield _HeaderMutation(remove=name.lower())
    for headers, how in ((wanted.set, OVERWRITE), (wanted.add, APPEND)):
        for header in headers:
            mutation = _HeaderMutation()
            mutation.append.header.key = header.name.lower()
            mutation.append.header.value = header.value
            mutation.append.append_action = how
            # Else a header of which Envoy knows no value stays as the client has written it.
            mutation.append.keep_empty_value = True
            yield mutation


def literal(value: str) -> str:
    """A header's value in which Envoy sees no command."""
    return value.replace("%", "%%")


def _add(options: Any, headers: Iterable[HTTPHeader], action: int) -> None:
    for header in headers:
        option = options.add()
        option.header.key = header.name.lower()
        option.header.value = literal(header.value)
        option.append_action = action
        option.keep_empty_value = True
