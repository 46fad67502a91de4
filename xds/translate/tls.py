"""TLS towards clients: what an HTTPS listener's filter chain terminates.

TLS 1.2 and 1.3; Envoy's cipher suites, which hold no known-weak one since 1.33. HTTP/2 is offered first and HTTP/1.1
second. Certificates are named, never embedded: they come over SDS on the same ADS stream, so that renewing one changes
no listener and drains no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mesh.certificates import SecretKey
from xds.schema import pack
from xds.schema.types import ApiVersion, DownstreamTlsContext, TlsParameters
from xds.translate.secret import secret_name

TRANSPORT_SOCKET = "envoy.transport_sockets.tls"
ALPN = ("h2", "http/1.1")


class ClientTrust(NamedTuple):
    """By which secret clients' certificates are judged, and whether they must have one."""

    secret: str
    required: bool


def set_downstream_tls(
    transport_socket: Any,
    certificates: Iterable[SecretKey],
    *,
    alpn: Sequence[str] = ALPN,
    clients: ClientTrust | None = None,
) -> None:
    """Fill a filter chain's `transport_socket`; with several certificates Envoy chooses by SNI and key type."""
    context = DownstreamTlsContext()
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = TlsParameters.TLSv1_2
    common.tls_params.tls_maximum_protocol_version = TlsParameters.TLSv1_3
    common.alpn_protocols.extend(alpn)
    for certificate in certificates:
        config = common.tls_certificate_sds_secret_configs.add()
        config.name = secret_name(certificate)
        config.sds_config.ads.SetInParent()
        config.sds_config.resource_api_version = ApiVersion.V3
    if clients is not None:
        trust = common.validation_context_sds_secret_config
        trust.name = clients.secret
        trust.sds_config.ads.SetInParent()
        trust.sds_config.resource_api_version = ApiVersion.V3
        context.require_client_certificate.value = clients.required
    transport_socket.name = TRANSPORT_SOCKET
    transport_socket.typed_config.CopyFrom(pack(context))
