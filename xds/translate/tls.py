"""TLS towards clients: what an HTTPS listener's filter chain terminates.

Unless policies say otherwise: TLS 1.2 and 1.3; Envoy's cipher suites, which hold no known-weak one since 1.33 (so that
where a policy asks for older versions, those that these know come after the better ones); HTTP/2 is offered first and
HTTP/1.1 second. Certificates are named, never embedded: they come over SDS on the same ADS stream,
so that renewing one changes no listener and drains no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mesh.certificates import SecretKey
from mesh.kinds.clientpolicy import (
    BROKEN_VERSIONS,
    DEFAULT_MAX_VERSION,
    DEFAULT_MIN_VERSION,
    OLD_CIPHERS,
    ClientTLS,
    ClientValidationRules,
    SubjectAltNameMatch,
)
from xds.schema import message, pack
from xds.schema.types import ApiVersion, DownstreamTlsContext, TlsParameters
from xds.translate.secret import secret_name

TRANSPORT_SOCKET = "envoy.transport_sockets.tls"
ALPN = ("h2", "http/1.1")
_VERSIONS = {
    "1.0": TlsParameters.TLSv1_0,
    "1.1": TlsParameters.TLSv1_1,
    "1.2": TlsParameters.TLSv1_2,
    "1.3": TlsParameters.TLSv1_3,
}
_SanMatcher = message("envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher")
_NAMES = {
    "DNS": _SanMatcher.DNS,
    "URI": _SanMatcher.URI,
    "Email": _SanMatcher.EMAIL,
    "IP": _SanMatcher.IP_ADDRESS,
}
_OLD_AND_NEW = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    *OLD_CIPHERS,
)


class ClientTrust(NamedTuple):
    """By which secret clients' certificates are judged, and whether they must have one."""

    secret: str
    required: bool


def set_downstream_tls(transport_socket: Any, context: Any) -> None:
    """Fill a filter chain's `transport_socket` with a `DownstreamTlsContext`."""
    transport_socket.name = TRANSPORT_SOCKET
    transport_socket.typed_config.CopyFrom(pack(context))


def downstream_tls(
    certificates: Iterable[SecretKey],
    *,
    alpn: Sequence[str] = ALPN,
    clients: ClientTrust | None = None,
    wanted: ClientTLS | None = None,
) -> Any:
    """The `DownstreamTlsContext` of a filter chain; with several certificates Envoy chooses by SNI and key type.

    `wanted` is what policies say of it; their ALPN counts where there is a choice.
    """
    wanted = wanted or ClientTLS()
    context = DownstreamTlsContext()
    common = context.common_tls_context
    params = common.tls_params
    lowest, highest = wanted.min_version or DEFAULT_MIN_VERSION, wanted.max_version or DEFAULT_MAX_VERSION
    params.tls_minimum_protocol_version = _VERSIONS[lowest]
    # Two policies together may say what one must not: then the safer word counts.
    params.tls_maximum_protocol_version = _VERSIONS[max(lowest, highest)]
    params.cipher_suites.extend(wanted.ciphers or (_OLD_AND_NEW if lowest in BROKEN_VERSIONS else ()))
    params.ecdh_curves.extend(wanted.curves or ())
    common.alpn_protocols.extend((wanted.alpn if alpn == ALPN else None) or alpn)
    for certificate in certificates:
        config = common.tls_certificate_sds_secret_configs.add()
        config.name = secret_name(certificate)
        config.sds_config.ads.SetInParent()
        config.sds_config.resource_api_version = ApiVersion.V3
    resumption = wanted.session_resumption
    if resumption is not None:
        # One of several ways to treat tickets: where they stay, none is chosen.
        if resumption.stateless is False:
            context.disable_stateless_session_resumption = True
        context.disable_stateful_session_resumption = resumption.stateful is False
    if clients is not None:
        rules = wanted.client_validation
        trust = common.validation_context_sds_secret_config
        if rules is not None and (rules.spki_hashes or rules.certificate_hashes or rules.subject_alt_names):
            trust = common.combined_validation_context.validation_context_sds_secret_config
            _set_rules(common.combined_validation_context.default_validation_context, rules)
        trust.name = clients.secret
        trust.sds_config.ads.SetInParent()
        trust.sds_config.resource_api_version = ApiVersion.V3
        context.require_client_certificate.value = clients.required
    return context


def _set_rules(validation: Any, rules: ClientValidationRules) -> None:
    validation.verify_certificate_spki.extend(rules.spki_hashes or ())
    validation.verify_certificate_hash.extend(one.lower() for one in rules.certificate_hashes or ())
    for name in rules.subject_alt_names or ():
        _set_name(validation.match_typed_subject_alt_names.add(), name)


def _set_name(matcher: Any, name: SubjectAltNameMatch) -> None:
    matcher.san_type = _NAMES[name.type]
    for how in ("exact", "prefix", "suffix"):
        value = getattr(name, how)
        if value is not None:
            setattr(matcher.matcher, how, value)
