"""Which extensions of Envoy the configuration needs that we make, by the types of their configuration.

An Envoy lists what it was built with when it introduces itself. What it lacks is told of before it refuses something.
It is sent what needs that all the same: of what it refuses it keeps the last good version, and what is withheld from it
would be gone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from xds.schema.types import Node

_PREFIX = "envoy.extensions."

NEEDED = frozenset(
    _PREFIX + name
    for name in (
        "access_loggers.file.v3.FileAccessLog",
        "access_loggers.filters.cel.v3.ExpressionFilter",
        "access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        "access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
        "access_loggers.stats.v3.Config",
        "access_loggers.stream.v3.StdoutAccessLog",
        "clusters.aggregate.v3.ClusterConfig",
        "clusters.dns.v3.DnsCluster",
        "clusters.dynamic_forward_proxy.v3.ClusterConfig",
        "common.matching.v3.ExtensionWithMatcher",
        "common.matching.v3.ExtensionWithMatcherPerRoute",
        "compression.brotli.compressor.v3.Brotli",
        "compression.gzip.compressor.v3.Gzip",
        "compression.zstd.compressor.v3.Zstd",
        "filters.http.admission_control.v3.AdmissionControl",
        "filters.http.bandwidth_limit.v3.BandwidthLimit",
        "filters.http.buffer.v3.Buffer",
        "filters.http.composite.v3.Composite",
        "filters.http.compressor.v3.Compressor",
        "filters.http.cors.v3.Cors",
        "filters.http.cors.v3.CorsPolicy",
        "filters.http.credential_injector.v3.CredentialInjector",
        "filters.http.csrf.v3.CsrfPolicy",
        "filters.http.custom_response.v3.CustomResponse",
        "filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "filters.http.ext_authz.v3.ExtAuthz",
        "filters.http.ext_proc.v3.ExternalProcessor",
        "filters.http.fault.v3.HTTPFault",
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "filters.http.grpc_web.v3.GrpcWeb",
        "filters.http.header_mutation.v3.HeaderMutation",
        "filters.http.header_mutation.v3.HeaderMutationPerRoute",
        "filters.http.health_check.v3.HealthCheck",
        "filters.http.jwt_authn.v3.JwtAuthentication",
        "filters.http.jwt_authn.v3.PerRouteConfig",
        "filters.http.lua.v3.Lua",
        "filters.http.router.v3.Router",
        "filters.http.stateful_session.v3.StatefulSession",
        "filters.http.stateful_session.v3.StatefulSessionPerRoute",
        "filters.http.upstream_codec.v3.UpstreamCodec",
        "filters.http.wasm.v3.Wasm",
        "filters.listener.proxy_protocol.v3.ProxyProtocol",
        "filters.listener.tls_inspector.v3.TlsInspector",
        "filters.network.connection_limit.v3.ConnectionLimit",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "filters.network.tcp_proxy.v3.TcpProxy",
        "filters.udp.udp_proxy.v3.UdpProxyConfig",
        "http.custom_response.local_response_policy.v3.LocalResponsePolicy",
        "http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        "http.injected_credentials.generic.v3.Generic",
        "http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
        "http.original_ip_detection.xff.v3.XffConfig",
        "http.stateful_session.cookie.v3.CookieBasedSessionState",
        "http.stateful_session.header.v3.HeaderBasedSessionState",
        "internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig",
        "load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        "load_balancing_policies.least_request.v3.LeastRequest",
        "load_balancing_policies.maglev.v3.Maglev",
        "load_balancing_policies.override_host.v3.OverrideHost",
        "load_balancing_policies.random.v3.Random",
        "load_balancing_policies.ring_hash.v3.RingHash",
        "load_balancing_policies.round_robin.v3.RoundRobin",
        "load_balancing_policies.subset.v3.Subset",
        "matching.common_inputs.stats.v3.StatTagValueInput",
        "retry.host.previous_hosts.v3.PreviousHostsPredicate",
        "retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        "transport_sockets.quic.v3.QuicDownstreamTransport",
        "transport_sockets.raw_buffer.v3.RawBuffer",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        "upstreams.http.v3.HttpProtocolOptions",
    )
)
"""Full names of messages; `tests/golden/test_needed_extensions.py` holds it against what the golden cases use."""


_LONGEST = 256 * 1024  # bytes of a list; that of a whole Envoy has some 60,000


def lacking(node: Any) -> frozenset[str]:
    """The types of `NEEDED` for which a `Node` lists no extension; nothing where it lists no types at all.

    Looking through some 500 extensions takes 2 ms, so that it is done once for each list, if it is no longer than any
    Envoy's: a proxy can say what it likes.
    """
    if not node.extensions:
        return frozenset()
    listed = Node()
    listed.CopyFrom(node)  # a sixth of what it takes to copy the extensions alone
    for field, _ in listed.ListFields():
        if field.name != "extensions":
            listed.ClearField(field.name)
    encoded = listed.SerializeToString()
    return _lacking(encoded) if len(encoded) <= _LONGEST else _missing(listed)


@lru_cache(maxsize=64)
def _lacking(listed: bytes) -> frozenset[str]:
    return _missing(Node.FromString(listed))


def _missing(node: Any) -> frozenset[str]:
    known = {url.rpartition("/")[2] for each in node.extensions if not each.disabled for url in each.type_urls}
    return NEEDED - known if known else frozenset()
