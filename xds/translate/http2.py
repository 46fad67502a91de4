"""HTTP/2 of a connection, for clients of a gateway and for backends: streams, windows, pings, invalid messages."""

from __future__ import annotations

from typing import Any

from mesh.kinds.clientpolicy import ClientHTTP2
from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import UpstreamHTTP2
from xds.translate.timeouts import set_duration

_KEEPALIVE_TIMEOUT_MILLISECONDS = 10_000  # how long a ping may take, where only its interval is said


def set_http2(options: Any, wanted: ClientHTTP2 | UpstreamHTTP2) -> None:
    """Fill an `Http2ProtocolOptions` with what is said."""
    for name in ("max_concurrent_streams", "initial_stream_window_size", "initial_connection_window_size"):
        value = getattr(wanted, name)
        if value is not None:
            getattr(options, name).value = value
    if wanted.keepalive_interval is not None:
        set_duration(options.connection_keepalive.interval, milliseconds(wanted.keepalive_interval))
        timeout = wanted.keepalive_timeout
        limit = milliseconds(timeout) if timeout is not None else _KEEPALIVE_TIMEOUT_MILLISECONDS
        set_duration(options.connection_keepalive.timeout, limit)
    if wanted.on_invalid_message is not None:
        stream_alone = wanted.on_invalid_message == "TerminateStream"
        options.override_stream_error_on_invalid_http_message.value = stream_alone
