"""Active health checks: every proxy asks every endpoint.

Defaults, where a policy gives none: every 5 s, answered within 1 s, out after 3 failures and in again after 2
successes, spread by 10 % so that many proxies do not ask at the same moment; a new endpoint gets traffic after its
first success. A service that gets no traffic is asked as often as any other: Envoy's own 60 s would leave the first
request after a pause to an endpoint that died long ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import GRPCHealthCheck, HealthCheck, HTTPHealthCheck, TCPHealthCheck, TrafficSettings
from mesh.model import HTTP2_PROTOCOLS, Protocol
from xds.schema import message
from xds.translate.header_modifier import literal
from xds.translate.timeouts import set_duration

INTERVAL_MILLISECONDS = 5_000
TIMEOUT_MILLISECONDS = 1_000
UNHEALTHY_THRESHOLD = 3
HEALTHY_THRESHOLD = 2
JITTER_PERCENT = 10

_RequestMethod = (
    message("envoy.config.core.v3.HealthCheck.HttpHealthCheck").DESCRIPTOR.fields_by_name["method"].enum_type
)
_Codec = (
    message("envoy.config.core.v3.HealthCheck.HttpHealthCheck").DESCRIPTOR.fields_by_name["codec_client_type"].enum_type
)


def add_health_checks(cluster: Any, checks: Sequence[HealthCheck], *, protocol: Protocol, host: str) -> None:
    """Add a cluster's health checks; `host` is what an HTTP check's `Host` says unless it names one itself."""
    http2 = protocol in HTTP2_PROTOCOLS
    # Envoy refuses to ask gRPC's way where the backend does not speak HTTP/2; the policy's status tells of it.
    possible = [wanted for wanted in checks if http2 or wanted.grpc is None]
    several = len(possible) > 1
    for number, wanted in enumerate(possible):
        check = cluster.health_checks.add()
        if several:  # Envoy 1.40 demands names then
            check.name = f"check-{number}"
        interval = milliseconds(wanted.interval) if wanted.interval is not None else INTERVAL_MILLISECONDS
        set_duration(check.interval, interval)
        _set(check.timeout, wanted.timeout, min(TIMEOUT_MILLISECONDS, interval))
        _set(check.no_traffic_interval, wanted.no_traffic_interval, interval)
        check.unhealthy_threshold.value = wanted.unhealthy_threshold or UNHEALTHY_THRESHOLD
        check.healthy_threshold.value = wanted.healthy_threshold or HEALTHY_THRESHOLD
        jitter = wanted.interval_jitter_percent
        check.interval_jitter_percent = JITTER_PERCENT if jitter is None else jitter
        if wanted.initial_jitter is not None:
            set_duration(check.initial_jitter, milliseconds(wanted.initial_jitter))
        if wanted.unhealthy_interval is not None:
            set_duration(check.unhealthy_interval, milliseconds(wanted.unhealthy_interval))
        if wanted.reuse_connection is not None:
            check.reuse_connection.value = wanted.reuse_connection
        if wanted.http is not None:
            _set_http(check.http_health_check, wanted.http, host, http2=http2)
        elif wanted.grpc is not None:
            _set_grpc(check.grpc_health_check, wanted.grpc, host)
        elif wanted.tcp is not None:
            _set_tcp(check.tcp_health_check, wanted.tcp)


def check_port(settings: TrafficSettings | None) -> int:
    """Where health checks ask, 0 for the endpoint's own port: Envoy goes by what endpoints say, not by `alt_port`."""
    checks = settings.health_checks if settings is not None else None
    return next((one.alt_port for one in checks or () if one.alt_port is not None), 0)


def _set(duration: Any, text: str | None, otherwise: int) -> None:
    set_duration(duration, milliseconds(text) if text is not None else otherwise)


def _set_http(check: Any, wanted: HTTPHealthCheck, host: str, *, http2: bool) -> None:
    check.host = wanted.host or host
    check.path = wanted.path
    check.method = _RequestMethod.values_by_name[wanted.method].number
    for statuses in wanted.expected_statuses:
        added = check.expected_statuses.add()
        added.start = statuses.start
        added.end = statuses.end + 1  # Envoy's range ends before its end
    for name, value in sorted(wanted.headers.items()):
        header = check.request_headers_to_add.add().header
        header.key = name
        header.value = literal(value)
    _set_receive(check, wanted.receive)
    if http2:
        check.codec_client_type = _Codec.values_by_name["HTTP2"].number


def _set_grpc(check: Any, wanted: GRPCHealthCheck, host: str) -> None:
    check.SetInParent()
    check.service_name = wanted.service
    check.authority = wanted.authority or host


def _set_tcp(check: Any, wanted: TCPHealthCheck) -> None:
    check.SetInParent()
    if wanted.send is not None:
        check.send.text = wanted.send.encode().hex()
    _set_receive(check, wanted.receive)


def _set_receive(check: Any, texts: Sequence[str]) -> None:
    for text in texts:
        check.receive.add().text = text.encode().hex()
