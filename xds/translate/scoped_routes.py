"""Scoped routes (SRDS): how a gateway's requests find their routes, and why changing one costs the same at any size.

With RDS one changed route means the listener's whole RouteConfiguration again, and Envoy rebuilds all its tables. Here
every exact hostname has a scope of its own with its routes inside, and Envoy replaces that scope alone: 3 ms and 260
bytes at 10,000 hosts (DESIGN §7). Every request must still get the answer that RDS would give, and no route may ever
change a listener, whose connections would be drained for it. (Over state-of-the-world all scopes would be sent again at
each change: there gateways get RDS, see `route_configuration_tables`.) So the way to a scope depends on no route:

1. Before routing Envoy writes the header `x-fairlead-scope` as `<chain>:<host>[:<port>]`, over whatever a client put
   there. The scope key is its first two parts. `<chain>` keeps listeners apart, because all scopes of a proxy are one
   collection. Every route configuration takes the header off again: no backend sees it.
2. If there is a scope of that name, its virtual host answers. It ends in a route that answers 404, since a request
   never falls through to a wider hostname.
3. If there is none, a Lua filter, which on the way of step 2 only looks at the route's name, chooses once more: by the
   host in lower case where it has capitals (keys are compared by case), then the chain's `BROAD` scope. That one
   holds all wildcards and the host that means any, and so matches as RDS would match what has no exact hostname.

On HTTPS each listener has a chain of its own, and the hosts of all others of its port are answered 421 there. Those
with an exact hostname do not stand in every chain, which would be the square of their number, but once in scopes that
the chains of a port share: a filter before that of step 3 looks there, after the host in lower case.

Inside a scope Envoy compares the whole host by its own rules; an IPv6 literal or a second colon therefore ends in the
broad scope, where RDS would have put it. `tests/property/test_route_matching.py` holds all of it against the oracle,
`tests/envoy/test_scopes.py` what hostile clients may try.

What it costs: CPU time of one Envoy 1.40 worker per request that Envoy answers itself, no access log, under
`wrk -t1 -c16 -d4s`, medians of 12 runs on a busy 2-core machine (half of all runs within ±3 µs): 25 µs with the same
routes over RDS; 33 µs by steps 1 and 2; 37 µs by step 3 for wildcards; 35 to 48 µs with capitals in the host. In exact
scopes the filter of step 3 sleeps with all others that no route wants (`http_filters.put_to_sleep`): some 1,270 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.hostnames import ANY
from xds.schema import pack
from xds.schema.types import (
    ApiVersion,
    EarlyHeaderMutation,
    HeaderValueOption,
    Lua,
    ScopedRouteConfiguration,
)
from xds.translate.framing import encode_checked, framed
from xds.translate.internal_redirect import staying_in
from xds.translate.route_configuration import SCOPE_HEADER, route_configuration

BROAD = "*"

EARLY_MUTATION = "envoy.http.early_header_mutation.header_mutation"
_ROUTE_CONFIGURATION = 5  # the field number of `ScopedRouteConfiguration.route_configuration`

# `request:metadata()` is how a script has Envoy look for the route again before it asks for its name. It does so once
# for each filter, so that on HTTPS there are two.
_LUA = """\
function envoy_on_request(request)
  if request:streamInfo():routeName() ~= "" then
    return
  end
  local headers = request:headers()
  local host = headers:get(":authority")
  if string.find(host, "%u") then
    headers:replace("{header}", "{chain}:" .. string.lower(host))
    request:clearRouteCache()
    request:metadata()
    if request:streamInfo():routeName() ~= "" then
      return
    end
  end
  headers:replace("{header}", {next})
  request:clearRouteCache()
end
"""

_LUA_AFTER_SHARED = """\
function envoy_on_request(request)
  if request:streamInfo():routeName() ~= "" then
    return
  end
  request:metadata()
  if request:streamInfo():routeName() ~= "" then
    return
  end
  request:headers():replace("{header}", {next})
  request:clearRouteCache()
end
"""


def set_scoped_routes(manager: Any, chain: str) -> None:
    """Have a `HttpConnectionManager` choose routes by scope; `broad_scope_filter` must be among its filters."""
    mutation = EarlyHeaderMutation()
    append = mutation.mutations.add().append
    append.header.key = SCOPE_HEADER
    append.header.value = f"{chain}:%REQ(:AUTHORITY)%"
    append.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    extension = manager.early_header_mutation_extensions.add()
    extension.name = EARLY_MUTATION
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


def shared_scope_filter(chain: str) -> Any:
    """The packed Lua filter that on HTTPS chooses once more, among what the chains of the port share."""
    return _script(_LUA, chain, f'"{shared_chain(chain)}:" .. string.lower(host)')


def broad_scope_filter(chain: str) -> Any:
    """The packed Lua filter that chooses again for requests whose host has no scope of its own."""
    return _script(_LUA_AFTER_SHARED if shared_chain(chain) else _LUA, chain, f'"{chain}:{BROAD}"')


def _script(text: str, chain: str, following: str) -> Any:
    lua = Lua()
    script = text.replace("{next}", following).replace("{header}", SCOPE_HEADER).replace("{chain}", chain)
    lua.default_source_code.inline_string = script
    return pack(lua)


def shared_chain(chain: str) -> str:
    """What the chains of an HTTPS port have in common: `https-443` of `https-443-web`; empty for one of HTTP."""
    scheme, port, *_ = chain.split("-", 2)
    return f"{scheme}-{port}" if scheme == "https" else ""


def is_broad(hostname: str) -> bool:
    """Whether a hostname means many hosts, or any."""
    return hostname == ANY or hostname.startswith("*.")


def scope_name(chain: str, hostname: str) -> str:
    """The name of the scope in which a hostname's routes live."""
    return f"{chain}/{BROAD if is_broad(hostname) else hostname}"


def scoped_route_configuration(
    name: str, hosts: Iterable[bytes], *, awake: bool = False, follows: bool = False
) -> bytes:
    """The encoded scope of that name, with the framed virtual hosts in a route configuration inside.

    In that of one host no filter is `awake` that its routes do not configure; the broad one is found too late for that.
    Requests whose route `follows` redirects stay in that scope. In the broad one they follow none: a host that has a
    scope of its own would be taken for a wildcard's.
    """
    chain, _, host = name.partition("/")
    scope = ScopedRouteConfiguration()
    scope.name = name
    for fragment in (chain, host):
        scope.key.fragments.add().string_key = fragment
    inside = route_configuration(name, hosts, asleep=host != BROAD and not awake)
    if follows and host != BROAD:
        inside += staying_in(f"{chain}:{host}")
    return encode_checked(scope) + framed(_ROUTE_CONFIGURATION, inside)
