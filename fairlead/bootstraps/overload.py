"""What an Envoy does before it runs out of connections or memory: its overload manager. Pure: part of a bootstrap.

Connections are limited always: beyond the limit new ones are refused. Memory is limited where its size is known:

| of the heap | what happens |
|---|---|
| 85 % | idle connections are closed sooner and sooner, down to 2 s at 95 % |
| 90 % | free pages go back to the system |
| 92 % | HTTP/1 connections are closed after their answer |
| 95 % | the streams that hold the most memory are reset, more of them the fuller it is |
| 98 % | new connections and requests are refused (503), until there is room again |

All this is for Envoy's own good: without it the kernel ends the process, and with it every connection.
"""

from __future__ import annotations

from typing import Any, Final

JSON = dict[str, Any]

MAX_CONNECTIONS: Final = 50_000
HEAP_PERCENT: Final = 80
"""How much of a container's memory its Envoy's heap may be; stacks, code and the kernel's buffers need the rest."""

_TYPE = "type.googleapis.com/envoy."
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"
_HEAP = "envoy.resource_monitors.fixed_heap"
_TRACKED = 20  # streams count for their memory from 1 MiB on (a power of two)


def overload_manager(*, max_connections: int = MAX_CONNECTIONS, max_heap: int | None = None) -> JSON:
    """The bootstrap's `overload_manager`; `max_heap` in bytes, None where nobody knows."""
    connections = {
        "@type": _TYPE + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": max_connections,
    }
    monitors: list[JSON] = [{"name": _CONNECTIONS, "typed_config": connections}]
    if max_heap is None:
        return {"resource_monitors": monitors}
    heap = {
        "@type": _TYPE + "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        "max_heap_size_bytes": max_heap,
    }
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [*monitors, {"name": _HEAP, "typed_config": heap}],
        "actions": _actions(),
        "loadshed_points": [_at("envoy.load_shed_points.tcp_listener_accept", 0.98)],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": _TRACKED},
    }


def _actions() -> list[JSON]:
    timeouts = {
        "@type": _TYPE + "config.overload.v3.ScaleTimersOverloadActionConfig",
        "timer_scale_factors": [{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "2s"}],
    }
    sooner = _scaled("envoy.overload_actions.reduce_timeouts", 0.85, 0.95)
    return [
        {**sooner, "typed_config": timeouts},
        _at("envoy.overload_actions.shrink_heap", 0.90),
        _at("envoy.overload_actions.disable_http_keepalive", 0.92),
        _scaled("envoy.overload_actions.reset_high_memory_stream", 0.95, 0.98),
        _at("envoy.overload_actions.stop_accepting_requests", 0.98),
    ]


def _at(name: str, share: float) -> JSON:
    return {"name": name, "triggers": [{"name": _HEAP, "threshold": {"value": share}}]}


def _scaled(name: str, begin: float, full: float) -> JSON:
    scaled = {"scaling_threshold": begin, "saturation_threshold": full}
    return {"name": name, "triggers": [{"name": _HEAP, "scaled": scaled}]}
