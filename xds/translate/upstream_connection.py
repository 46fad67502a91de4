"""Connections to a backend: how long they may take, what keeps them alive, what is said first, names and buffers."""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import TrafficSettings, UpstreamDNS
from xds.schema import message, pack
from xds.schema.types import DnsCluster, DnsLookupFamily
from xds.translate.socket_buffers import limit_socket_buffers
from xds.translate.timeouts import set_duration

CONNECT_TIMEOUT_MILLISECONDS = 5_000
_PROXY_PROTOCOL_SOCKET = "envoy.transport_sockets.upstream_proxy_protocol"
_ProxyProtocolTransport = message("envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport")
_RawBuffer = message("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
_VERSIONS = {"V1": 0, "V2": 1}
_FAMILIES = {
    "Auto": DnsLookupFamily.AUTO,
    "IPv4Only": DnsLookupFamily.V4_ONLY,
    "IPv6Only": DnsLookupFamily.V6_ONLY,
    "IPv4Preferred": DnsLookupFamily.V4_PREFERRED,
    "All": DnsLookupFamily.ALL,
}
_NO_SETTINGS = TrafficSettings()


def set_connection(cluster: Any, given: TrafficSettings | None) -> None:
    """Fill what a cluster says of its connections."""
    settings = given or _NO_SETTINGS
    connect = settings.timeouts.connect if settings.timeouts is not None else None
    set_duration(cluster.connect_timeout, milliseconds(connect) if connect else CONNECT_TIMEOUT_MILLISECONDS)
    keepalive = settings.tcp_keepalive
    if keepalive is not None:
        options = cluster.upstream_connection_options.tcp_keepalive
        options.SetInParent()
        if keepalive.probes is not None:
            options.keepalive_probes.value = keepalive.probes
        if keepalive.time is not None:
            options.keepalive_time.value = milliseconds(keepalive.time) // 1000
        if keepalive.interval is not None:
            options.keepalive_interval.value = milliseconds(keepalive.interval) // 1000
    connection = settings.connection
    if connection is not None and connection.buffer_limit is not None:
        cluster.per_connection_buffer_limit_bytes.value = connection.buffer_limit
    if connection is not None and connection.socket_buffer_limit is not None:
        limit_socket_buffers(cluster.upstream_bind_config.socket_options, connection.socket_buffer_limit)
    if connection is not None and connection.close_on_unhealthy:
        cluster.close_connections_on_host_health_failure = True
    preconnect = settings.preconnect
    if preconnect is not None and preconnect.per_endpoint_percent is not None:
        cluster.preconnect_policy.per_upstream_preconnect_ratio.value = preconnect.per_endpoint_percent / 100
    if preconnect is not None and preconnect.predictive_percent is not None:
        cluster.preconnect_policy.predictive_preconnect_ratio.value = preconnect.predictive_percent / 100


def wrap_in_proxy_protocol(cluster: Any, settings: TrafficSettings | None) -> None:
    """Let every connection begin with the PROXY protocol, whatever transport socket the cluster has by now."""
    version = settings.proxy_protocol if settings is not None else None
    if version is None:
        return
    transport = _ProxyProtocolTransport()
    transport.config.version = _VERSIONS[version]
    if cluster.HasField("transport_socket"):
        transport.transport_socket.CopyFrom(cluster.transport_socket)
    else:
        transport.transport_socket.name = "envoy.transport_sockets.raw_buffer"
        transport.transport_socket.typed_config.CopyFrom(pack(_RawBuffer()))
    cluster.transport_socket.name = _PROXY_PROTOCOL_SOCKET
    cluster.transport_socket.typed_config.CopyFrom(pack(transport))


def dns_options(wanted: UpstreamDNS | None) -> Any:
    """How the names of a DNS cluster are resolved: all addresses of a name, for as long as its TTL says."""
    options = DnsCluster()
    family = wanted.lookup_family if wanted is not None else None
    options.dns_lookup_family = _FAMILIES[family or "All"]
    options.respect_dns_ttl = wanted is None or wanted.respect_ttl is not False
    if wanted is not None and wanted.refresh_rate is not None:
        set_duration(options.dns_refresh_rate, milliseconds(wanted.refresh_rate))
    return pack(options)
