"""Another path towards one backend: URLRewrite in a backendRef, which Envoy's `ClusterWeight` has no field for.

A few lines of Lua in that cluster's place, right before the router, where the backend is already chosen.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.http_filters import HTTPPathModifier
from mesh.kinds.httproute import HTTPPathMatch
from xds.schema import pack
from xds.schema.types import Lua
from xds.translate.composite import place
from xds.translate.http_filters import BACKEND_REWRITE
from xds.translate.lua_text import quoted
from xds.translate.route_match import matched_prefix

FILTER = place(BACKEND_REWRITE)

_SCRIPT = """\
function envoy_on_request(request)
  local headers = request:headers()
  local path = headers:get(":path")
  headers:replace(":path", {new})
end
"""


def rewrite_path(path: HTTPPathModifier, match: HTTPPathMatch) -> tuple[str, Any]:
    """The filter, by name and packed configuration, that gives requests another path; the query string stays."""
    lua = Lua()
    lua.default_source_code.inline_string = _SCRIPT.replace("{new}", _new(path, match))
    lua.clear_route_cache.value = False  # the route is chosen, and another path could have another
    return "rewrite", pack(lua)


def _new(path: HTTPPathModifier, match: HTTPPathMatch) -> str:
    """The new path as an expression of Lua; what it becomes is that of `rewrite.replace_prefix`."""
    if path.type == "ReplaceFullPath":
        return f'{quoted(path.replace_full_path or "/")} .. (string.match(path, "%?.*$") or "")'
    rest = f"string.sub(path, {len(matched_prefix(match).encode()) + 1})"
    replacement = (path.replace_prefix_match or "").rstrip("/")
    if replacement:
        return f"{quoted(replacement)} .. {rest}"
    return f'"/" .. (string.gsub({rest}, "^/*", ""))'
