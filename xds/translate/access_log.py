"""Access logs: one JSON line per request on Envoy's standard output, for gateways.

At the edge a request without a trace is a request nobody can explain; between workloads the other side has logged it
already, so sidecars do not. The name of the route says which config object matched, and Envoy's response flags, which
say why a request failed (`NR` no route, `UH` no healthy endpoint, `UF` connection failed).
"""

from __future__ import annotations

from typing import Any

from xds.schema import pack
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


def add_access_log(manager: Any) -> None:
    """Have a `HttpConnectionManager` log."""
    log = manager.access_log.add()
    log.name = "envoy.access_loggers.stdout"
    log.typed_config.CopyFrom(_PACKED)


def _stdout() -> Any:
    config = StdoutAccessLog()
    for name, command in sorted(FIELDS.items()):
        config.log_format.json_format.fields[name].string_value = command
    return pack(config)


_PACKED = _stdout()
