"""Access logs: one JSON line per request on Envoy's standard output, for gateways.

At the edge a request without a trace is a request nobody can explain; between workloads the other side has logged it
already, so sidecars do not. The name of the route says which config object matched, and Envoy's response flags, which
say why a request failed (`NR` no route, `UH` no healthy endpoint, `UF` connection failed).

One thing the other side cannot log is why a sidecar refused its certificate: with TLS 1.3 it sees a connection that
ends. So sidecars log handshakes that failed, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xds.schema import message, pack
from xds.schema.types import StdoutAccessLog

FIELDS = {
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "endpoint": "%UPSTREAM_HOST%",
}
HANDSHAKE_FIELDS = {
    "time": "%START_TIME%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "listener": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "handshake_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
_CelFilter = message("envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter")


def add_access_log(manager: Any) -> None:
    """Have a `HttpConnectionManager` log."""
    log = manager.access_log.add()
    log.name = "envoy.access_loggers.stdout"
    log.typed_config.CopyFrom(_PACKED)


def add_handshake_log(listener: Any) -> None:
    """Have a listener log each TLS handshake that failed, and why."""
    log = listener.access_log.add()
    log.name = "envoy.access_loggers.stdout"
    set_condition(log.filter, _FAILED)
    log.typed_config.CopyFrom(_PACKED_HANDSHAKE)


def set_condition(filter_: Any, expression: str) -> None:
    """Have an `AccessLogFilter` let through what an expression of CEL is true of."""
    filter_.extension_filter.name = "envoy.access_loggers.extension_filters.cel"
    filter_.extension_filter.typed_config.CopyFrom(pack(_CelFilter(expression=expression)))


def _stdout(fields: Mapping[str, str]) -> Any:
    config = StdoutAccessLog()
    for name, command in sorted(fields.items()):
        config.log_format.json_format.fields[name].string_value = command
    return pack(config)


_PACKED = _stdout(FIELDS)
_PACKED_HANDSHAKE = _stdout(HANDSHAKE_FIELDS)
_FAILED = "connection.transport_failure_reason != ''"
