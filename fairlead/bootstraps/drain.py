"""The bootstrap of an Envoy that makes another one drain: the hook before the end of a gateway's pod.

A pod's image may hold nothing but Envoy, and the administrator of the Envoy that is to drain listens where the pod
alone reaches it, for POST alone. A second Envoy can do it: its health checks post what they are told to where they are
told to. One posts `/healthcheck/fail` to the first Envoy, which from then on closes HTTP connections with their next
answers and is not ready. Another posts `/quitquitquit` to the second Envoy itself, through a listener that holds it
back for the drain time; so it ends, and with it the hook. It talks to nobody else, and all addresses are abstract Unix
sockets, which need no file system.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions.filters."
_ADMIN: JSON = {"pipe": {"path": "@fairlead-drain-admin"}}
_END: JSON = {"pipe": {"path": "@fairlead-drain-end"}}
_PATIENCE = 30  # seconds beyond the drain time


def drain_bootstrap(admin: str, seconds: int) -> JSON:
    """Make the Envoy whose administrator has that Unix socket drain, and end after so many seconds (at least 1)."""
    seconds = max(1, seconds)
    return {
        "admin": {"address": _ADMIN},
        "static_resources": {
            "listeners": [_listener(seconds)],
            "clusters": [
                _cluster("drain", {"pipe": {"path": admin}}, check="/healthcheck/fail", timeout=5),
                _cluster("end", _END, check="/quitquitquit", timeout=seconds + _PATIENCE),
                _cluster("self", _ADMIN),
            ],
        },
    }


def _cluster(name: str, address: JSON, *, check: str = "", timeout: int = 0) -> JSON:
    """A cluster of one address; with `check`, that path is posted to at once, and again soon if it was not heard.

    The listener is not there yet at the first check of `end`, which fails at once: clusters come before listeners.
    """
    cluster: JSON = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if check:
        cluster["health_checks"] = [
            {
                "timeout": f"{timeout}s",
                "interval": "1s",
                "no_traffic_interval": "0.1s",
                "no_traffic_healthy_interval": "1s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "http_health_check": {"host": "admin", "path": check, "method": "POST"},
            }
        ]
    return cluster


def _listener(seconds: int) -> JSON:
    delay = {"fixed_delay": f"{seconds}s", "percentage": {"numerator": 100}}
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "self"}}]
    manager = {
        "@type": f"{_TYPE}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "end",
        "http_filters": [
            {
                "name": "envoy.filters.http.fault",
                "typed_config": {"@type": f"{_TYPE}http.fault.v3.HTTPFault", "delay": delay},
            },
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "end", "domains": ["*"], "routes": routes}]},
    }
    filter_ = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"name": "end", "address": _END, "filter_chains": [{"filters": [filter_]}]}
