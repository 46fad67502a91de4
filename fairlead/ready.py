"""The listener that tells probes of a proxy whether it takes traffic, and lets its pod make it drain.

The admin listener stays on loopback, where no kubelet can reach it, and an image with nothing but Envoy in it has no
program that a `preStop` could run. So a port of its own answers two paths and nothing else. Pure: part of a bootstrap.
"""

from __future__ import annotations

import re
from typing import Any

JSON = dict[str, Any]

ADMIN_CLUSTER = "fairlead-admin"
READY_PATH = "/ready"
_TYPE = "type.googleapis.com/envoy.extensions.filters."
_KEY = re.compile(r"[a-z0-9-]{1,128}")
# The admin listener takes changes by POST only, kubelets send GET only, and no route can change a method.
_DRAIN = """\
function envoy_on_request(handle)
  if handle:headers():get(":path") == "%s" then
    handle:httpCall("%s", {[":method"] = "POST", [":path"] = "/healthcheck/fail", [":authority"] = "admin"}, "", 1000)
  end
end
"""


def drain_path(key: str) -> str:
    """Where a proxy is told to drain.

    Raises:
        ValueError: not small letters, digits and dashes, at most 128.
    """
    if not _KEY.fullmatch(key):
        raise ValueError("a drain key is 1 to 128 small letters, digits and dashes")
    return f"/drain/{key}"


def listener(host: str, port: int, *, drain_key: str, drain_seconds: int) -> JSON:
    """The listener. It takes connections once the proxy has its configuration, as all listeners do."""
    drain = _drain_filters(drain_path(drain_key), drain_seconds) if drain_key else []
    routes: list[JSON] = [{"match": {"prefix": "/"}, "direct_response": {"status": 404}}]
    if drain_key:
        routes.insert(0, {"match": {"path": drain_path(drain_key)}, "direct_response": {"status": 200}})
    manager = {
        "@type": _TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "readiness",
        "codec_type": "HTTP1",
        "http_filters": [*drain, _health_check(), _filter("router", "router.v3.Router")],
        "route_config": {"name": "readiness", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    address: JSON = {"address": host, "port_value": port}
    if host == "::":
        address["ipv4_compat"] = True
    return {
        "name": "readiness",
        "address": {"socket_address": address},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _health_check() -> JSON:
    """Answers by itself: 200, or 503 after `/healthcheck/fail`."""
    path = {"name": ":path", "string_match": {"exact": READY_PATH}}
    method = {"name": ":method", "string_match": {"exact": "GET"}}
    return _filter("health_check", "health_check.v3.HealthCheck", pass_through_mode=False, headers=[path, method])


def _drain_filters(path: str, seconds: int) -> list[JSON]:
    """First the proxy begins to drain, then the answer waits: a kubelet ends the pod when it comes."""
    source = {"inline_string": _DRAIN % (path, ADMIN_CLUSTER)}
    delay = {"fixed_delay": f"{seconds}s", "percentage": {"numerator": 100}}
    header = {"name": ":path", "string_match": {"exact": path}}
    filters = [_filter("lua", "lua.v3.Lua", default_source_code=source)]
    if seconds > 0:  # Envoy refuses a delay of nothing
        filters.append(_filter("fault", "fault.v3.HTTPFault", delay=delay, headers=[header]))
    return filters


def _filter(name: str, message: str, **config: Any) -> JSON:
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_TYPE}http.{message}", **config}}
