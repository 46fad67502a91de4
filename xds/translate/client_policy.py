"""What ClientPolicies say of a listener, on Envoy's `Listener`, its filter chains and connection managers.

With `trustedCidrs` or `header` Envoy leaves its own way of finding the client's address and with it what that does at
the edge: so the headers that it takes off strangers' requests there are taken off here (`OUTSIDE`), and
`X-Forwarded-Proto` with them, since Envoy cannot tell whether a trusted proxy wrote it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from mesh.kinds.clientpolicy import (
    ClientAddress,
    ClientHeaders,
    ClientHealthCheck,
    ClientHTTP1,
    ClientPath,
    ClientSettings,
    ClientTimeouts,
    XForwardedClientCert,
)
from mesh.kinds.duration import milliseconds
from mesh.kinds.routepolicy import PolicyHeaders
from xds.schema import message, pack
from xds.schema.types import EarlyHeaderMutation, HttpConnectionManager, HttpProtocolOptions
from xds.translate.header_modifier import mutations
from xds.translate.http2 import set_http2
from xds.translate.http_filters import HEALTH_CHECK, LATE_RESPONSE_HEADERS, Filter, http_filter
from xds.translate.scoped_routes import EARLY_MUTATION
from xds.translate.socket_buffers import limit_socket_buffers
from xds.translate.timeouts import set_duration

OUTSIDE = (
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-forwarded-proto",
    "x-request-id",
)
PROXY_PROTOCOL = "envoy.filters.listener.proxy_protocol"
CONNECTION_LIMIT = "envoy.filters.network.connection_limit"
_BY_RANGES = "envoy.http.original_ip_detection.xff"
_BY_HEADER = "envoy.http.original_ip_detection.custom_header"

_ConnectionLimit = message("envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit")
_CustomHeader = message("envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig")
_PreserveCase = message("envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig")
_HeaderMutation = message("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation")
_HealthCheck = message("envoy.extensions.filters.http.health_check.v3.HealthCheck")
_ProxyProtocol = message("envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")
_Xff = message("envoy.extensions.http.original_ip_detection.xff.v3.XffConfig")
_UNDERSCORES = {
    "Allow": HttpProtocolOptions.ALLOW,
    "Reject": HttpProtocolOptions.REJECT_REQUEST,
    "Drop": HttpProtocolOptions.DROP_HEADER,
}
_FORWARD_CERT = {
    "Sanitize": HttpConnectionManager.SANITIZE,
    "ForwardOnly": HttpConnectionManager.FORWARD_ONLY,
    "AppendForward": HttpConnectionManager.APPEND_FORWARD,
    "SanitizeSet": HttpConnectionManager.SANITIZE_SET,
    "AlwaysForwardOnly": HttpConnectionManager.ALWAYS_FORWARD_ONLY,
}
_ESCAPED_SLASHES = {
    "Keep": HttpConnectionManager.KEEP_UNCHANGED,
    "Reject": HttpConnectionManager.REJECT_REQUEST,
    "Redirect": HttpConnectionManager.UNESCAPE_AND_REDIRECT,
    "Unescape": HttpConnectionManager.UNESCAPE_AND_FORWARD,
}


def stripped(settings: ClientSettings) -> tuple[str, ...]:
    """The headers that must be taken off because of how the client's address is found."""
    address = settings.client_address
    return OUTSIDE if address is not None and address.trusted_hops is None else ()


def client_filters(settings: ClientSettings) -> Iterable[Filter]:
    """The HTTP filters that policies ask for, none where they do not."""
    if settings.health_check is not None:
        yield http_filter(HEALTH_CHECK, pack(_health_check(settings.health_check)))
    late = settings.headers.late_response_headers if settings.headers is not None else None
    if late is not None and late != PolicyHeaders():
        config = _HeaderMutation()
        config.mutations.response_mutations.extend(mutations(late))
        yield http_filter(LATE_RESPONSE_HEADERS, pack(config))


def _health_check(wanted: ClientHealthCheck) -> Any:
    config = _HealthCheck()
    config.pass_through_mode.value = False
    path = config.headers.add()
    path.name = ":path"
    path.string_match.exact = wanted.path
    return config


def set_early_headers(manager: Any, settings: ClientSettings) -> None:
    """Change requests' headers before anything is matched."""
    early = settings.headers.early_request_headers if settings.headers is not None else None
    if early is not None and early != PolicyHeaders():
        config = EarlyHeaderMutation()
        config.mutations.extend(mutations(early))
        extension = manager.early_header_mutation_extensions.add()
        extension.name = EARLY_MUTATION
        extension.typed_config.CopyFrom(pack(config))


def set_port(listener: Any, settings: ClientSettings) -> None:
    """Fill what all connections to a TCP listener share; its listener filters of the PROXY protocol come first."""
    if settings.proxy_protocol is not None:
        config = _ProxyProtocol()
        config.allow_requests_without_proxy_protocol = settings.proxy_protocol.optional
        filter_ = listener.listener_filters.add()
        filter_.name = PROXY_PROTOCOL
        filter_.typed_config.CopyFrom(pack(config))
    connections, keepalive = settings.connections, settings.tcp_keepalive
    if connections is not None and connections.buffer_limit is not None:
        listener.per_connection_buffer_limit_bytes.value = connections.buffer_limit
    if connections is not None and connections.socket_buffer_limit is not None:
        limit_socket_buffers(listener.socket_options, connections.socket_buffer_limit)
    if keepalive is not None:
        options = listener.tcp_keepalive
        options.SetInParent()
        if keepalive.probes is not None:
            options.keepalive_probes.value = keepalive.probes
        if keepalive.time is not None:
            options.keepalive_time.value = milliseconds(keepalive.time) // 1000
        if keepalive.interval is not None:
            options.keepalive_interval.value = milliseconds(keepalive.interval) // 1000


def set_chain(chain: Any, settings: ClientSettings, stat_prefix: str) -> None:
    """Fill what holds for the connections of a filter chain, before its other filters are added."""
    timeouts, connections = settings.timeouts, settings.connections
    if timeouts is not None and timeouts.tls_handshake is not None and chain.HasField("transport_socket"):
        set_duration(chain.transport_socket_connect_timeout, milliseconds(timeouts.tls_handshake))
    if connections is not None and connections.limit is not None:
        config = _ConnectionLimit()
        config.stat_prefix = stat_prefix
        config.max_connections.value = connections.limit
        if connections.close_delay is not None:
            set_duration(config.delay, milliseconds(connections.close_delay))
        filter_ = chain.filters.add()
        filter_.name = CONNECTION_LIMIT
        filter_.typed_config.CopyFrom(pack(config))


def set_manager(manager: Any, settings: ClientSettings) -> None:
    """Fill what a `HttpConnectionManager` does with requests."""
    if settings.client_address is not None:
        _set_address(manager, settings.client_address)
    if settings.headers is not None:
        _set_headers(manager, settings.headers)
    if settings.scheme == "MatchBackend":
        manager.scheme_header_transformation.match_upstream = True
    if settings.path is not None:
        _set_path(manager, settings.path)
    if settings.http1 is not None:
        _set_http1(manager.http_protocol_options, settings.http1)
    if settings.http2 is not None:
        set_http2(manager.http2_protocol_options, settings.http2)
        if settings.http2.extended_connect:
            manager.http2_protocol_options.allow_connect = True
    if settings.timeouts is not None:
        _set_timeouts(manager, settings.timeouts)
    connections = settings.connections
    if connections is not None and connections.max_requests is not None:
        manager.common_http_protocol_options.max_requests_per_connection.value = connections.max_requests


def _set_address(manager: Any, address: ClientAddress) -> None:
    if address.trusted_hops is not None:
        manager.xff_num_trusted_hops = address.trusted_hops
        return
    manager.use_remote_address.value = False
    extension = manager.original_ip_detection_extensions.add()
    if address.header is not None:
        by_header = _CustomHeader()
        by_header.header_name = address.header.lower()
        if address.reject_with_status is not None:
            by_header.reject_with_status.code = address.reject_with_status
        extension.name = _BY_HEADER
        extension.typed_config.CopyFrom(pack(by_header))
        return
    by_ranges = _Xff()
    by_ranges.skip_xff_append.value = False
    for cidr in address.trusted_cidrs or ():
        network = ipaddress.ip_network(cidr)
        added = by_ranges.xff_trusted_cidrs.cidrs.add()
        added.address_prefix = str(network.network_address)
        added.prefix_len.value = network.prefixlen
    extension.name = _BY_RANGES
    extension.typed_config.CopyFrom(pack(by_ranges))


def _set_headers(manager: Any, headers: ClientHeaders) -> None:
    if headers.max_request_kib is not None:
        manager.max_request_headers_kb.value = headers.max_request_kib
    if headers.max_count is not None:
        manager.common_http_protocol_options.max_headers_count.value = headers.max_count
    if headers.underscores is not None:
        manager.common_http_protocol_options.headers_with_underscores_action = _UNDERSCORES[headers.underscores]
    if headers.x_forwarded_client_cert is not None:
        _set_forwarded_cert(manager, headers.x_forwarded_client_cert)


def _set_forwarded_cert(manager: Any, wanted: XForwardedClientCert) -> None:
    manager.forward_client_cert_details = _FORWARD_CERT[wanted.mode]
    told = manager.set_current_client_cert_details
    told.subject.value = "Subject" in wanted.cert_details_to_add
    for name in ("cert", "chain"):
        setattr(told, name, name.title() in wanted.cert_details_to_add)
    for name in ("dns", "uri"):
        setattr(told, name, name.upper() in wanted.cert_details_to_add)


def _set_path(manager: Any, path: ClientPath) -> None:
    if path.normalize is not None:
        manager.normalize_path.value = path.normalize
    if path.merge_slashes is not None:
        manager.merge_slashes = path.merge_slashes
    if path.escaped_slashes is not None:
        manager.path_with_escaped_slashes_action = _ESCAPED_SLASHES[path.escaped_slashes]


def _set_http1(options: Any, wanted: ClientHTTP1) -> None:
    if wanted.absolute_url is not None:
        options.allow_absolute_url.value = wanted.absolute_url
    if wanted.http10 is not None:
        options.accept_http_10 = True
        options.default_host_for_http_10 = wanted.http10.default_host or ""
    if wanted.preserve_header_case:
        formatter = options.header_key_format.stateful_formatter
        formatter.name = "preserve_case"
        formatter.typed_config.CopyFrom(pack(_PreserveCase()))
    if wanted.enable_trailers:
        options.enable_trailers = True


def _set_timeouts(manager: Any, timeouts: ClientTimeouts) -> None:
    common = manager.common_http_protocol_options
    for duration, text in (
        (manager.request_headers_timeout, timeouts.request_headers),
        (manager.stream_idle_timeout, timeouts.stream_idle),
        (common.idle_timeout, timeouts.idle),
    ):
        if text is not None:  # 0 says something here: these have limits of their own
            set_duration(duration, milliseconds(text))
    for duration, text in (
        (manager.request_timeout, timeouts.request),
        (common.max_stream_duration, timeouts.stream),
        (common.max_connection_duration, timeouts.connection),
    ):
        if text is not None and milliseconds(text):
            set_duration(duration, milliseconds(text))
