"""Mutual TLS between proxies of the mesh: the sockets on both sides, and which endpoints are spoken to over it.

Client: a cluster has a TLS socket for endpoints whose metadata says so (`transport_socket_matches`); all others get
plaintext, so turning mutual TLS on or off for a service moves endpoints and no cluster. The server must be one of the
service's SPIFFE IDs, compared as a whole. The client offers the marker ALPN `fairlead`; servers tell a mesh client from
an application's own TLS by it and never advertise it.

Server: TLS 1.2 or 1.3, a certificate of our trust domain demanded. Sessions are not resumed: a resumed one would skip
the check of a certificate that has been taken back since (CVE-2022-21654).

The certificate and whom to believe come from the agent beside the proxy (`fairlead_agent` in its bootstrap), from the
same place, so that they fit each other; a SPIRE agent does as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from xds.schema import message, pack
from xds.schema.types import (
    ApiConfigSource,
    ApiVersion,
    DownstreamTlsContext,
    TlsParameters,
    UpstreamTlsContext,
)
from xds.translate.timeouts import set_duration
from xds.translate.tls import TRANSPORT_SOCKET

MARKER: Final = "fairlead"
AGENT_CLUSTER: Final = "fairlead_agent"
CERTIFICATE: Final = "default"
BUNDLE: Final = "ROOTCA"
METADATA: Final = "envoy.transport_socket_match"
METADATA_FIELD: Final = "fairlead.tls"
MUTUAL: Final = "mutual"
_HANDSHAKE_MILLISECONDS: Final = 15_000
_BACKOFF_MILLISECONDS: Final = (250, 5_000)
_SanMatcher = message("envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher")


def add_mutual_tls(cluster: Any, names: Iterable[str], *, server_name: str, http2: bool) -> None:
    """Let a cluster speak mutual TLS to those endpoints that are marked for it; `names` are the SPIFFE IDs allowed."""
    context = UpstreamTlsContext()
    context.sni = server_name
    common = context.common_tls_context
    common.alpn_protocols.extend((MARKER, "h2") if http2 else (MARKER,))
    _fill(common, ((name, False) for name in names))
    match = cluster.transport_socket_matches.add()
    match.name = MUTUAL
    match.match.fields[METADATA_FIELD].string_value = MUTUAL
    match.transport_socket.name = TRANSPORT_SOCKET
    match.transport_socket.typed_config.CopyFrom(pack(context))


def mark(endpoint: Any) -> None:
    """Mark an `LbEndpoint` as one that is spoken to over mutual TLS."""
    endpoint.metadata.filter_metadata[METADATA].fields[METADATA_FIELD].string_value = MUTUAL


def demand_mutual_tls(filter_chain: Any, trust_domain: str, *, alpn: Iterable[str]) -> None:
    """Let a filter chain take clients of the trust domain only, by their certificates."""
    context = DownstreamTlsContext()
    context.require_client_certificate.value = True
    context.disable_stateless_session_resumption = True
    context.disable_stateful_session_resumption = True
    common = context.common_tls_context
    common.alpn_protocols.extend(alpn)
    _fill(common, [(f"spiffe://{trust_domain}/", True)])
    filter_chain.transport_socket.name = TRANSPORT_SOCKET
    filter_chain.transport_socket.typed_config.CopyFrom(pack(context))
    set_duration(filter_chain.transport_socket_connect_timeout, _HANDSHAKE_MILLISECONDS)


def _fill(common: Any, names: Iterable[tuple[str, bool]]) -> None:
    """Fill in the own certificate, and who the other may be: SPIFFE IDs, or beginnings of them."""
    common.tls_params.tls_minimum_protocol_version = TlsParameters.TLSv1_2
    common.tls_params.tls_maximum_protocol_version = TlsParameters.TLSv1_3
    _from_agent(common.tls_certificate_sds_secret_configs.add(), CERTIFICATE)
    combined = common.combined_validation_context
    _from_agent(combined.validation_context_sds_secret_config, BUNDLE)
    for name, prefix in names:
        matcher = combined.default_validation_context.match_typed_subject_alt_names.add()
        matcher.san_type = _SanMatcher.URI
        if prefix:
            matcher.matcher.prefix = name
        else:
            matcher.matcher.exact = name


def _from_agent(config: Any, name: str) -> None:
    config.name = name
    config.sds_config.resource_api_version = ApiVersion.V3
    set_duration(config.sds_config.initial_fetch_timeout, 0)
    source = config.sds_config.api_config_source
    source.api_type = ApiConfigSource.GRPC
    source.transport_api_version = ApiVersion.V3
    grpc = source.grpc_services.add().envoy_grpc
    grpc.cluster_name = AGENT_CLUSTER
    backoff = grpc.retry_policy.retry_back_off
    base, longest = _BACKOFF_MILLISECONDS
    set_duration(backoff.base_interval, base)
    set_duration(backoff.max_interval, longest)
