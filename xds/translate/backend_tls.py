"""TLS towards backends: the socket of a cluster that a BackendTLSPolicy is for, and the authorities it judges by.

TLS 1.2 and 1.3. The certificate must come from one of the policy's authorities and bear one of its names; what is sent
as server name is the policy's hostname. Authorities come over SDS, so that renewed ones change no cluster. With nobody
to trust the secret holds an authority whose key nobody has: Envoy takes an empty list for "do not verify".
"""

from __future__ import annotations

from typing import Any

from mesh.backend_tls import BackendTLS
from xds.schema import message, pack
from xds.schema.types import ApiVersion, TlsParameters, UpstreamTlsContext
from xds.translate.names import backend_authorities_name
from xds.translate.tls import TRANSPORT_SOCKET

_SanMatcher = message("envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher")


def set_backend_tls(cluster: Any, tls: BackendTLS, *, http2: bool, certificate: str = "") -> None:
    """Let a cluster speak TLS. `certificate` is the SDS name of what the proxy shows of itself, empty for nothing."""
    context = UpstreamTlsContext()
    context.sni = tls.server_name
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = TlsParameters.TLSv1_2
    common.tls_params.tls_maximum_protocol_version = TlsParameters.TLSv1_3
    if http2:
        common.alpn_protocols.append("h2")
    if certificate:
        _over_ads(common.tls_certificate_sds_secret_configs.add(), certificate)
    combined = common.combined_validation_context
    _over_ads(combined.validation_context_sds_secret_config, backend_authorities_name(tls.policy))
    for kind, name in tls.names:
        matcher = combined.default_validation_context.match_typed_subject_alt_names.add()
        matcher.san_type = _SanMatcher.DNS if kind == "DNS" else _SanMatcher.URI
        if kind == "DNS" and name.startswith("*."):
            matcher.matcher.suffix = name[1:]
        else:
            matcher.matcher.exact = name
    cluster.transport_socket.name = TRANSPORT_SOCKET
    cluster.transport_socket.typed_config.CopyFrom(pack(context))


def _over_ads(config: Any, name: str) -> None:
    config.name = name
    config.sds_config.ads.SetInParent()
    config.sds_config.resource_api_version = ApiVersion.V3
