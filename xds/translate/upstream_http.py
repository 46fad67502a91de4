"""HTTP towards a backend: the version, its settings, limits of connections and streams, and retries of the cluster.

Envoy reads retries from the cluster too (since 1.37), so that a policy on a backend touches one cluster and no route.
A route's own `retry` wins: then the cluster's is not consulted (`xds/translate/retry.py`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mesh.kinds.duration import milliseconds
from mesh.kinds.routepolicy import CredentialInjection
from mesh.kinds.trafficpolicy import TrafficSettings, UpstreamHTTP1
from mesh.model import HTTP2_PROTOCOLS, ObjectKey, Protocol
from xds.schema import message, pack
from xds.schema.types import ClusterHttpProtocolOptions
from xds.translate.credential_injection import add_credential
from xds.translate.http2 import set_http2
from xds.translate.retry import set_policy_retry
from xds.translate.timeouts import set_duration

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_PreserveCase = message("envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig")


def _plain_http2() -> Any:
    options = ClusterHttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    return pack(options)


_HTTP2 = _plain_http2()
_NO_SETTINGS = TrafficSettings()


class Injected(NamedTuple):
    """The credential that a cluster's requests get, and the RoutePolicy that says so."""

    wanted: CredentialInjection
    said_by: ObjectKey


def set_http_options(
    cluster: Any, protocol: Protocol, given: TrafficSettings | None, injected: Injected | None = None
) -> None:
    """Fill a cluster's HTTP options, where they differ from Envoy's own."""
    settings = given if given is not None and _has_http(given) else None
    if settings is None and injected is None:
        if protocol in HTTP2_PROTOCOLS:
            cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(_HTTP2)
        return
    settings = settings or _NO_SETTINGS
    options = ClusterHttpProtocolOptions()
    if injected is not None:
        add_credential(options, *injected)
    _set_limits(options.common_http_protocol_options, settings)
    http = settings.http
    both = http is not None and bool(http.use_client_protocol)
    versions = options.use_downstream_protocol_config if both else options.explicit_http_config
    if both or protocol in HTTP2_PROTOCOLS:
        versions.http2_protocol_options.SetInParent()
        if http is not None and http.http2 is not None:
            set_http2(versions.http2_protocol_options, http.http2)
    if both or protocol not in HTTP2_PROTOCOLS:
        _set_http1(versions.http_protocol_options, http.http1 if http is not None else None)
    if settings.retry is not None:
        set_policy_retry(options.retry_policy, settings.retry)
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(options))


def _has_http(settings: TrafficSettings) -> bool:
    return settings.http is not None or settings.retry is not None or settings.timeouts is not None


def _set_limits(common: Any, settings: TrafficSettings) -> None:
    timeouts, http = settings.timeouts, settings.http
    if timeouts is not None:
        for duration, text in (
            ("idle_timeout", timeouts.idle),
            ("max_connection_duration", timeouts.connection_age),
            ("max_stream_duration", timeouts.stream),
        ):
            # No limit is no field; only an idle connection has a limit of Envoy's own (1 h), which 0 lifts.
            if text is not None and (milliseconds(text) or duration == "idle_timeout"):
                set_duration(getattr(common, duration), milliseconds(text))
    if http is not None and http.max_requests_per_connection is not None:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if http is not None and http.max_response_headers_kib is not None:
        common.max_response_headers_kb.value = http.max_response_headers_kib


def _set_http1(options: Any, wanted: UpstreamHTTP1 | None) -> None:
    options.SetInParent()
    if wanted is None:
        return
    if wanted.preserve_header_case:
        formatter = options.header_key_format.stateful_formatter
        formatter.name = "preserve_case"
        formatter.typed_config.CopyFrom(pack(_PreserveCase()))
    options.enable_trailers = bool(wanted.enable_trailers)
