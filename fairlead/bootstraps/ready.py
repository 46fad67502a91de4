"""The listener that tells probes of a proxy whether it takes traffic.

The admin listener stays on loopback, where no kubelet can reach it; so a port of its own answers `GET /ready` and
nothing else. Pure: part of a bootstrap.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

READY_PATH = "/ready"
_TYPE = "type.googleapis.com/envoy.extensions.filters."


def listener(host: str, port: int) -> JSON:
    """The listener; `host` may be `::`, for both families. It takes connections once the proxy has its configuration.

    It answers by itself: 200, or 503 after `POST /healthcheck/fail` on the admin listener.
    """
    path = {"name": ":path", "string_match": {"exact": READY_PATH}}
    method = {"name": ":method", "string_match": {"exact": "GET"}}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 404}}
    manager = {
        "@type": f"{_TYPE}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "readiness",
        "codec_type": "HTTP1",
        "http_filters": [
            _filter("health_check", "health_check.v3.HealthCheck", pass_through_mode=False, headers=[path, method]),
            _filter("router", "router.v3.Router"),
        ],
        "route_config": {"name": "readiness", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    address: JSON = {"address": host, "port_value": port}
    if host == "::":
        address["ipv4_compat"] = True
    return {
        "name": "readiness",
        "address": {"socket_address": address},
        # Probes are answered also when there is room for nobody else: a busy proxy is no dead one.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _filter(name: str, message: str, **config: Any) -> JSON:
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_TYPE}http.{message}", **config}}
