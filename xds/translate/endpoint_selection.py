"""Requests that choose among a backend's endpoints by a label: `endpointSelection` of a TrafficPolicy.

Endpoints carry what they may be chosen by, and nothing else of their labels, in their metadata. A few lines of Lua
right before the router, where the backend is chosen, make a list of what the request asks for, the most wanted first.
Envoy's subset balancer tries them in turn (`FALLBACK_LIST`), each with the balancer that the policy says.
(`header_to_metadata` would do for one value; it cannot make a list.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from mesh.kinds.trafficpolicy import EndpointSelection
from mesh.model import Endpoint
from xds.schema import message, pack
from xds.schema.types import Lua
from xds.translate.lua_text import quoted

_Subset = message("envoy.extensions.load_balancing_policies.subset.v3.Subset")

_NAMESPACE: Final = "envoy.lb"  # Envoy: where its balancers look
_KEY: Final = "selected"
_TAG: Final = "true"  # the value of a label that stands for a plain tag

_SCRIPT: Final = """\
function envoy_on_request(request)
  local asked = request:headers():get({header})
  local wanted = {}
  for one in string.gmatch(asked or "", "[^,%s]+") do
    if #wanted < 8 then
      wanted[#wanted + 1] = {{key} = one}
    end
  end
  if #wanted > 0 then{any}
    request:streamInfo():dynamicMetadata():set("{namespace}", "fallback_list", wanted)
  end
end
"""
_ANY: Final = "\n    wanted[#wanted + 1] = {}"


def selected_by(selection: EndpointSelection, endpoint: Endpoint) -> tuple[str, ...]:
    """The values by which requests can choose an endpoint, sorted: those of one label, or its tags."""
    if selection.label is not None:
        return tuple(sorted(value for name, value in endpoint.labels if name == selection.label))
    return tuple(sorted(name for name, value in endpoint.labels if value == _TAG))


def set_selected_by(endpoint: Any, values: Iterable[str]) -> None:
    """Have an `LbEndpoint` chosen by these values."""
    found = endpoint.metadata.filter_metadata[_NAMESPACE].fields[_KEY].list_value
    for value in values:
        found.values.add().string_value = value


def selecting(chosen: Any, *, by_locality: bool) -> Any:
    """The balancer of chosen endpoints (`LoadBalancingPolicy`) inside of one that chooses them, packed.

    `by_locality`: places have weights.
    """
    config = _Subset()
    config.fallback_policy = _Subset.ANY_ENDPOINT  # of a request that asks for nothing
    selector = config.subset_selectors.add()
    selector.keys.append(_KEY)
    selector.fallback_policy = _Subset.LbSubsetSelector.NO_FALLBACK
    config.list_as_any = True
    config.metadata_fallback_policy = _Subset.FALLBACK_LIST
    config.locality_weight_aware = by_locality
    config.subset_lb_policy.CopyFrom(chosen)
    return pack(config)


def select_endpoints(selection: EndpointSelection) -> tuple[str, Any]:
    """The filter, by name and packed configuration, that tells the balancer what a request asks for."""
    lua = Lua()
    any_endpoint = _ANY if selection.fallback == "AnyEndpoint" else ""
    script = _SCRIPT.replace("{header}", quoted(selection.header.lower())).replace("{key}", _KEY)
    lua.default_source_code.inline_string = script.replace("{namespace}", _NAMESPACE).replace("{any}", any_endpoint)
    lua.clear_route_cache.value = False  # the route is chosen
    return "select", pack(lua)
