"""Scoped routes (SRDS): route changes at constant cost, for the listeners whose routes allow it.

With RDS one changed route means the listener's whole RouteConfiguration again, and Envoy rebuilds all its tables. Here
every host has a scope of its own with its routes inside, and Envoy replaces that scope alone: 3 ms and 260 bytes at
10,000 hosts (DESIGN §7). What must hold is that every request gets the answer that RDS would give.

How a request finds its scope. Before routing, Envoy writes the header `x-fairlead-scope` (over whatever a client put
there; every route configuration takes it off again) as `<chain>:<host>[:<port>]`, from which the scope key takes the
first two parts. `<chain>` keeps listeners apart, because all scopes of a proxy are one collection. For `<host>`:
- a host under a wildcard that some route uses is written as that wildcard: its scope holds the wildcard and all hosts
  beneath it. Only the widest wildcards count, and the expression changes only when their set does;
- a host with capital letters is written as `MIXED_CASE`: keys are compared by case and CEL here cannot lower it. In
  that scope alone a Lua filter is switched on (a filter's settings on a route do that), which lowers the key and has
  Envoy choose again;
- the port is cut off as the third part; what is left of an IPv6 literal (`[`) is no scope: hosts of routes are names.
Inside the scope Envoy matches the host by its own rules, so a scope may be wider than needed, never narrower.

Which listeners qualify: `scoping` says. Not those with a route for any host ("none of the known hosts" is no key), not
those that answer 421 for other listeners' hosts, and not those with more wildcards than an expression should test.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mesh.hostnames import ANY, covers
from xds.schema import pack
from xds.schema.types import (
    ApiVersion,
    EarlyHeaderMutation,
    HeaderValueOption,
    LuaPerRoute,
    RouteConfiguration,
    ScopedRouteConfiguration,
)
from xds.translate.framing import encode_checked, framed
from xds.translate.http_filters import HOST_SCOPE
from xds.translate.route_configuration import SCOPE_HEADER, route_configuration

MIXED_CASE = "-mixed-case"
MOST_WILDCARDS = 16

_EARLY_MUTATION = "envoy.http.early_header_mutation.header_mutation"
_ROUTE_CONFIGURATION = 5  # the field number of `ScopedRouteConfiguration.route_configuration`

# Lua's lower() and Envoy's own comparison of hosts both know ASCII only.
LOWER_CASE_LUA = f"""\
function envoy_on_request(request)
  local headers = request:headers()
  local chain = string.match(headers:get("{SCOPE_HEADER}"), "^[^:]*")
  headers:replace("{SCOPE_HEADER}", chain .. ":" .. string.lower(headers:get(":authority")))
  request:clearRouteCache()
end
"""


class Scoping(msgspec.Struct, frozen=True):
    """How a filter chain's hosts are divided into scopes: those under one of the `wildcards` share that one's."""

    wildcards: tuple[str, ...]

    def scope_of(self, hostname: str) -> str:
        """The scope in which a hostname's routes live: the wildcard it is under, or its own."""
        return next((wildcard for wildcard in self.wildcards if covers(wildcard, hostname)), hostname)

    def is_shared(self, hostname: str) -> bool:
        """Whether a hostname is, or lies beneath, a wildcard."""
        return any(covers(wildcard, hostname) for wildcard in self.wildcards)


def scoping(broad: Iterable[str], *, answers_421: bool) -> Scoping | None:
    """How to divide a chain with these hostnames that are no exact ones (wildcards, ANY), None where RDS must do."""
    hostnames = sorted(set(broad))
    if answers_421 or ANY in hostnames:
        return None
    widest = tuple(host for host in hostnames if not any(other != host and covers(other, host) for other in hostnames))
    return Scoping(widest) if len(widest) <= MOST_WILDCARDS else None


def host_expression(wildcards: Iterable[str]) -> str:
    """The CEL expression that writes the host part of the header."""
    cases = [f"request.host.matches('{_under(wildcard)}') ? '{wildcard}' : " for wildcard in wildcards]
    return f"{''.join(cases)}request.host.matches('[A-Z]') ? '{MIXED_CASE}' : request.host"


def set_scoped_routes(manager: Any, chain: str, scoping: Scoping) -> None:
    """Have a `HttpConnectionManager` choose routes by scope."""
    mutation = EarlyHeaderMutation()
    append = mutation.mutations.add().append
    append.header.key = SCOPE_HEADER
    append.header.value = f"{chain}:%CEL({host_expression(scoping.wildcards)})%"
    append.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    extension = manager.early_header_mutation_extensions.add()
    extension.name = _EARLY_MUTATION
    extension.typed_config.CopyFrom(pack(mutation))
    routes = manager.scoped_routes
    routes.name = chain
    for index in (0, 1):
        extractor = routes.scope_key_builder.fragments.add().header_value_extractor
        extractor.name = SCOPE_HEADER
        extractor.element_separator = ":"
        extractor.index = index
    routes.rds_config_source.ads.SetInParent()
    routes.rds_config_source.resource_api_version = ApiVersion.V3
    routes.scoped_rds.scoped_rds_config_source.ads.SetInParent()
    routes.scoped_rds.scoped_rds_config_source.resource_api_version = ApiVersion.V3


def scope_name(chain: str, host: str) -> str:
    """The name of a scope; `chain_and_host` takes it apart again."""
    return f"{chain}/{host}"


def chain_and_host(name: str) -> tuple[str, str]:
    """The chain and host that a scope's name is made from."""
    chain, _, host = name.partition("/")
    return chain, host


def scoped_route_configuration(name: str, hosts: Iterable[bytes]) -> bytes:
    """The encoded scope of that name, with the framed virtual hosts in a route configuration inside."""
    scope = _scope(name)
    return encode_checked(scope) + framed(_ROUTE_CONFIGURATION, route_configuration(name, hosts))


def mixed_case_scope(chain: str) -> bytes:
    """The encoded scope of hosts with capital letters: it answers 404 unless the Lua filter finds the right scope."""
    scope = _scope(scope_name(chain, MIXED_CASE))
    inside = RouteConfiguration()
    inside.name = scope.name
    host = inside.virtual_hosts.add()
    host.name = MIXED_CASE
    host.domains.append("*")
    route = host.routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 404
    lower = LuaPerRoute()
    lower.source_code.inline_string = LOWER_CASE_LUA
    route.typed_per_filter_config[HOST_SCOPE].CopyFrom(pack(lower))
    scope.route_configuration.CopyFrom(inside)
    return encode_checked(scope)


def _scope(name: str) -> Any:
    chain, host = chain_and_host(name)
    scope = ScopedRouteConfiguration()
    scope.name = name
    for fragment in (chain, host):
        scope.key.fragments.add().string_key = fragment
    return scope


def _under(wildcard: str) -> str:
    """The regular expression of Host headers under a wildcard, whatever their case and port.

    Envoy takes what follows the last colon for the port, unless a bracket comes after it; so does this.
    """
    suffix = wildcard[1:].replace(".", "[.]")
    return f"(?i)(^|[]])[^:]*{suffix}$|{suffix}:[^]:]*$"
