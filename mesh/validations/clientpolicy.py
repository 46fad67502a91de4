"""ClientPolicy: what Envoy would refuse or what cannot work, said with the path and the way out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from types import MappingProxyType

from mesh.kinds.clientpolicy import (
    BROKEN_VERSIONS,
    DEFAULT_MAX_VERSION,
    DEFAULT_MIN_VERSION,
    OLD_CIPHERS,
    ClientAddress,
    ClientConnections,
    ClientHeaders,
    ClientHTTP2,
    ClientHTTP3,
    ClientPolicy,
    ClientSettings,
    ClientTimeouts,
    ClientTLS,
    ClientValidationRules,
    XForwardedClientCert,
)
from mesh.kinds.duration import milliseconds
from mesh.kinds.routepolicy import PolicyHeaders
from mesh.problems import Report, camel, shown
from mesh.validations.durations import check_not_endless, check_positive, check_whole_seconds
from mesh.validations.headers import check_policy_headers
from mesh.validations.policy import Targets, check_both, check_targets
from mesh.validations.tcp_keepalive import check_tcp_keepalive

TARGETS: Targets = MappingProxyType(
    {
        ("gateway.networking.k8s.io", "Gateway"): True,
        ("gateway.networking.k8s.io", "ListenerSet"): True,
        ("", "Namespace"): False,
    }
)
_CAN_BE_OFF = ("request_headers", "request", "stream", "stream_idle", "idle", "connection")
_KNOWN_STATUSES = {*range(400, 418), 421, 422, 423, 424, 426, 428, 429, 431, *range(500, 509), 510, 511}
_NO_STATUSES = frozenset(range(400, 600)) - _KNOWN_STATUSES
_WRITTEN_LATER = re.compile(r"x-(envoy|fairlead)-.*|x-forwarded-client-cert|x-forwarded-proto|x-request-id")
_WRITTEN_LAST = re.compile("server")
# What a client could send itself, or what means something else.
_NO_ADDRESS = frozenset({"host", "content-length", "transfer-encoding", "connection", "cookie", "authorization"})


def check_clientpolicy(policy: ClientPolicy, report: Report) -> None:
    """Judge a ClientPolicy."""
    spec = policy.spec
    check_targets(spec.target_refs, TARGETS, policy.metadata, report)
    check_both(spec, ClientSettings, _check_settings, report, example="timeouts")


def _check_settings(settings: ClientSettings, path: str, report: Report) -> None:
    if settings.client_address is not None:
        _check_address(settings.client_address, f"{path}.clientAddress", report)
    if settings.tls is not None:
        _check_tls(settings.tls, f"{path}.tls", report)
    if settings.headers is not None:
        _check_headers(settings.headers, f"{path}.headers", report)
    if settings.http2 is not None:
        _check_http2(settings.http2, f"{path}.http2", report)
    if settings.http3 is not None:
        _check_http3(settings.http3, settings.tls, f"{path}.http3", report)
    if settings.timeouts is not None:
        _check_timeouts(settings.timeouts, f"{path}.timeouts", report)
    if settings.connections is not None:
        _check_connections(settings.connections, f"{path}.connections", report)
    if settings.health_check is not None:
        _check_health_path(settings.health_check.path, f"{path}.healthCheck.path", report)
    check_tcp_keepalive(settings.tcp_keepalive, f"{path}.tcpKeepalive", report)


def _check_address(address: ClientAddress, path: str, report: Report) -> None:
    given = [address.trusted_hops, address.trusted_cidrs, address.header]
    if len([value for value in given if value is not None]) != 1:
        message = "it must have exactly one of trustedHops, trustedCidrs and header"
        report.error("InvalidCombination", path, message, "write one of them, as `trustedHops: 1`")
    for number, cidr in enumerate(address.trusted_cidrs or ()):
        at = f"{path}.trustedCidrs[{number}]"
        try:
            network = ipaddress.ip_network(cidr)
        except ValueError:
            _bad_range(cidr, at, report)
            continue
        if network.prefixlen == 0:
            message = "it trusts everybody, and any client could say it is any other"
            report.error("NotAllowed", at, message, "name the ranges of the proxies in front of you")
    if address.header is not None and address.header.lower() in _NO_ADDRESS:
        message = f"{address.header} holds no address"
        report.error("NotAllowed", f"{path}.header", message, "name the header that your CDN writes")
    if address.reject_with_status is not None and address.header is None:
        message = "only a header can be missing"
        report.error("NotAllowed", f"{path}.rejectWithStatus", message, "remove it, or write `header`")
    if address.reject_with_status in _NO_STATUSES:
        message = f"Envoy does not know the status {address.reject_with_status}"
        report.error("UnknownValue", f"{path}.rejectWithStatus", message, "write 400 or 403")


def _bad_range(cidr: str, path: str, report: Report) -> None:
    try:
        fix = f"write `{ipaddress.ip_interface(cidr).network}`"
    except ValueError:
        fix = "write it as in `10.0.0.0/8`"
    report.error("InvalidFormat", path, f"'{shown(cidr)}' is no range of addresses", fix)


def _check_tls(tls: ClientTLS, path: str, report: Report) -> None:
    lowest, highest = tls.min_version or DEFAULT_MIN_VERSION, tls.max_version or DEFAULT_MAX_VERSION
    if lowest > highest:
        message = f"the highest version is below the lowest, which is {lowest}"
        report.error("InvalidCombination", f"{path}.maxVersion", message, "make it at least `minVersion`")
    if lowest in BROKEN_VERSIONS:
        message = f"TLS {lowest} is broken (RFC 8996): who is on the way may read or change what is sent"
        report.warning("OldTLS", f"{path}.minVersion", message, 'write "1.2" as soon as no client needs less')
        if tls.ciphers and not any(cipher in OLD_CIPHERS for cipher in tls.ciphers):
            message = f"TLS {lowest} knows none of them"
            report.error("InvalidCombination", f"{path}.ciphers", message, f"add one of {', '.join(OLD_CIPHERS)}")
    if tls.ciphers and tls.min_version == "1.3":
        message = "they are those of TLS 1.2, which is off; those of 1.3 cannot be chosen"
        report.error("NotAllowed", f"{path}.ciphers", message, 'remove them, or write `minVersion: "1.2"`')
    for name in ("ciphers", "curves", "alpn", "fingerprints"):
        _check_once(getattr(tls, name) or (), f"{path}.{name}", report)
    if tls.client_validation is not None:
        _check_validation(tls.client_validation, f"{path}.clientValidation", report)


def _check_validation(rules: ClientValidationRules, path: str, report: Report) -> None:
    _check_once(rules.spki_hashes or (), f"{path}.spkiHashes", report)
    _check_once(rules.certificate_hashes or (), f"{path}.certificateHashes", report)
    for number, name in enumerate(rules.subject_alt_names or ()):
        at = f"{path}.subjectAltNames[{number}]"
        if [name.exact, name.prefix, name.suffix].count(None) != 2:
            message = "it must have exactly one of exact, prefix and suffix"
            report.error("InvalidCombination", at, message, "write one of them, as `exact: client.example.com`")
        elif name.type == "IP" and not _is_address(name.exact or ""):
            message = "an address is compared as a whole"
            report.error("InvalidFormat", at, message, "write `exact: 192.0.2.1`, an address as it is written shortest")


def _is_address(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def _check_once(values: Sequence[str], path: str, report: Report) -> None:
    for number, value in enumerate(values):
        if value in values[:number]:
            report.error("Duplicate", f"{path}[{number}]", f"{value} is there twice", "remove one")


def _check_headers(headers: ClientHeaders, path: str, report: Report) -> None:
    if headers.x_forwarded_client_cert is not None:
        _check_forwarded_cert(headers.x_forwarded_client_cert, f"{path}.xForwardedClientCert", report)
    early, late = headers.early_request_headers, headers.late_response_headers
    if early is not None:
        check_policy_headers(early, f"{path}.earlyRequestHeaders", report, early=True)
        _refuse_overwritten(early, _WRITTEN_LATER, f"{path}.earlyRequestHeaders", report)
    if late is not None:
        check_policy_headers(late, f"{path}.lateResponseHeaders", report)
        _refuse_overwritten(late, _WRITTEN_LAST, f"{path}.lateResponseHeaders", report)


def _refuse_overwritten(part: PolicyHeaders, names: re.Pattern[str], path: str, report: Report) -> None:
    for field, given in (("set", part.set), ("add", part.add)):
        for number, header in enumerate(given):
            if names.fullmatch(header.name.lower()):
                message = f"Envoy itself writes {header.name} after that, or takes it off"
                report.error("NotAllowed", f"{path}.{field}[{number}].name", message, "remove it")


def _check_forwarded_cert(wanted: XForwardedClientCert, path: str, report: Report) -> None:
    _check_once(wanted.cert_details_to_add, f"{path}.certDetailsToAdd", report)
    if wanted.cert_details_to_add and wanted.mode not in ("AppendForward", "SanitizeSet"):
        message = f"with {wanted.mode} nothing is told of a client's own certificate"
        fix = "write `mode: SanitizeSet`, or remove them"
        report.error("InvalidCombination", f"{path}.certDetailsToAdd", message, fix)
    if wanted.mode == "AlwaysForwardOnly":
        message = "any client can say that it has any certificate"
        fix = "write `SanitizeSet`, unless nobody but a proxy in front can reach this one"
        report.warning("Unsafe", f"{path}.mode", message, fix)


def _check_connections(connections: ClientConnections, path: str, report: Report) -> None:
    check_positive(connections.close_delay, f"{path}.closeDelay", report)
    if connections.close_delay is not None and connections.limit is None:
        message = "without a limit no connection is one too many"
        report.warning("MissingField", f"{path}.limit", message, "add `limit`")


def _check_health_path(wanted: str, path: str, report: Report) -> None:
    if "//" in wanted or not {".", ".."}.isdisjoint(wanted.split("/")):
        message = "paths are made plain first, and no request has such a one then"
        report.error("InvalidFormat", path, message, "write it without `//`, `/./` and `/../`")


def _check_http2(http2: ClientHTTP2, path: str, report: Report) -> None:
    check_positive(http2.keepalive_interval, f"{path}.keepaliveInterval", report)
    check_positive(http2.keepalive_timeout, f"{path}.keepaliveTimeout", report)
    if http2.keepalive_timeout is not None and http2.keepalive_interval is None:
        message = "without an interval nothing is asked that could time out"
        report.warning("MissingField", f"{path}.keepaliveInterval", message, "add `keepaliveInterval`")


def _check_http3(http3: ClientHTTP3, tls: ClientTLS | None, path: str, report: Report) -> None:
    if http3.enabled and tls is not None and (tls.max_version or DEFAULT_MAX_VERSION) < "1.3":
        message = "HTTP/3 needs TLS 1.3, which `tls.maxVersion` rules out"
        report.error("InvalidCombination", f"{path}.enabled", message, "remove one of the two")
    resumption = tls.session_resumption if tls is not None else None
    if http3.early_data and resumption is not None and resumption.stateless is False:
        message = "early data needs tickets, which `tls.sessionResumption.stateless` rules out"
        report.error("InvalidCombination", f"{path}.earlyData", message, "remove one of the two")
    check_whole_seconds(http3.advertised_for, f"{path}.advertisedFor", report)


def _check_timeouts(timeouts: ClientTimeouts, path: str, report: Report) -> None:
    check_positive(timeouts.tls_handshake, f"{path}.tlsHandshake", report)
    for name in _CAN_BE_OFF:
        check_not_endless(getattr(timeouts, name), f"{path}.{camel(name)}", report)
    whole, headers = timeouts.request, timeouts.request_headers
    if whole is not None and headers is not None and 0 < milliseconds(whole) < milliseconds(headers):
        message = "the headers of a request may take longer than the whole of it"
        report.error("InvalidCombination", f"{path}.requestHeaders", message, "make it at most `request`")
