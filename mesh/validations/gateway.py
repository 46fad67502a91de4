"""Gateway: the rules of its CRD (v1.6.3), and what of it Fairlead does not do yet."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from mesh.kinds.fields import SUBDOMAIN
from mesh.kinds.gateway import Gateway, GatewaySpec, GatewaySpecAddress, GatewayTLSConfig, Listener
from mesh.kinds.references import FAIRLEAD, GATEWAY_API, SecretObjectReference
from mesh.kinds.selectors import LabelSelector
from mesh.listeners import ROUTE_KINDS
from mesh.problems import Report, child, shown
from mesh.routes import ROUTE_TYPES
from mesh.validations.hostnames import check_hostname
from mesh.validations.metadata import check_keys

_WILDCARD_HOST = re.compile(rf"(\*\.)?{SUBDOMAIN}")
_ADDRESS_TYPE = re.compile(rf"Hostname|IPAddress|NamedAddress|{SUBDOMAIN}/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")


def check_gateway(gateway: Gateway, report: Report) -> None:
    """Judge a Gateway."""
    check_listeners(gateway.spec.listeners, report)
    _check_addresses(gateway.spec.addresses, report)
    _check_rest(gateway.spec, report)


def check_listeners(listeners: Iterable[Listener], report: Report) -> None:
    """Judge the listeners of a Gateway or a ListenerSet."""
    names: set[str] = set()
    places: set[tuple[int, str, str]] = set()
    for number, listener in enumerate(listeners):
        path = f"spec.listeners[{number}]"
        _check_listener(listener, path, report)
        if listener.name in names:
            report.error(
                "DuplicateName", f"{path}.name", f"'{listener.name}' names two listeners", "give each its own name"
            )
        names.add(listener.name)
        place = (listener.port, listener.protocol, listener.hostname or "")
        if place in places:
            message = "another listener has the same port, protocol and hostname"
            report.error("DuplicateListener", path, message, "change one of the three, or remove one listener")
        places.add(place)


def _check_listener(listener: Listener, path: str, report: Report) -> None:
    if listener.hostname is not None:
        check_hostname(listener.hostname, f"{path}.hostname", report)
        if listener.protocol in ("TCP", "UDP"):
            message = f"{listener.protocol} knows no hostnames"
            report.error("NotAllowed", f"{path}.hostname", message, "remove `hostname`")
    if listener.protocol not in ROUTE_KINDS:
        message = f"'{shown(listener.protocol)}' is not a protocol of Gateway API; the listener will not be served"
        report.warning("UnsupportedProtocol", f"{path}.protocol", message, f"write one of {', '.join(ROUTE_KINDS)}")
    _check_listener_tls(listener, f"{path}.tls", report)
    allowed = listener.allowed_routes
    namespaces = f"{path}.allowedRoutes.namespaces"
    _check_selector(allowed.namespaces.from_, allowed.namespaces.selector, namespaces, report)
    for number, kind in enumerate(allowed.kinds):
        if kind.group != GATEWAY_API or kind.kind not in ROUTE_TYPES:
            message = f"Fairlead has no routes of kind '{kind.kind}' in the group '{kind.group}'"
            at = f"{path}.allowedRoutes.kinds[{number}]"
            report.warning("UnsupportedKind", at, message, f"write one of {', '.join(ROUTE_TYPES)}")


def _check_listener_tls(listener: Listener, path: str, report: Report) -> None:
    tls = listener.tls
    if tls is None:
        if listener.protocol == "HTTPS":
            message = "an HTTPS listener needs a certificate; without one it is not served"
            report.warning("MissingCertificate", path, message, "add `tls` with `certificateRefs`")
        elif listener.protocol == "TLS":
            report.error("MissingField", path, "a TLS listener needs `tls` with a `mode`", "add `tls`")
        return
    if listener.protocol in ("HTTP", "TCP", "UDP"):
        fix = "remove `tls`, or write protocol HTTPS" if listener.protocol == "HTTP" else "remove `tls`"
        report.error("NotAllowed", path, f"protocol {listener.protocol} has no TLS", fix)
        return
    if listener.protocol == "HTTPS" and tls.mode != "Terminate":
        report.error("NotAllowed", f"{path}.mode", "HTTPS can only be terminated", "write `mode: Terminate`")
    _check_certificates(tls, path, report)


def _check_certificates(tls: GatewayTLSConfig, path: str, report: Report) -> None:
    if tls.mode == "Terminate" and not tls.certificate_refs and not tls.options:
        message = "terminating TLS needs a certificate"
        report.error("MissingField", f"{path}.certificateRefs", message, "name a Secret of type kubernetes.io/tls")
    for number, ref in enumerate(tls.certificate_refs):
        _check_secret_ref(ref, f"{path}.certificateRefs[{number}]", report)
    if tls.options:
        check_keys(tls.options, f"{path}.options", report)
        report.warning("Unsupported", f"{path}.options", "Fairlead knows no TLS options", "remove them")


def _check_secret_ref(ref: SecretObjectReference, path: str, report: Report) -> None:
    if (ref.group, ref.kind) != ("", "Secret"):
        message = f"certificates come from core Secrets, not from '{ref.group}/{ref.kind}'"
        report.warning("UnsupportedKind", path, message, "name a Secret of type kubernetes.io/tls")


def _check_selector(from_: str, selector: LabelSelector | None, path: str, report: Report) -> None:
    if from_ == "Selector" and selector is None:
        message = "`from: Selector` without a selector selects no namespace"
        report.warning("MissingField", f"{path}.selector", message, "add a `selector`, or write `from: Same` or `All`")
    if selector is None:
        return
    if from_ != "Selector":
        message = f"the selector has no effect with `from: {from_}`"
        report.warning("NoEffect", f"{path}.selector", message, "write `from: Selector`, or remove it")
    check_keys(selector.match_labels, f"{path}.selector.matchLabels", report)
    for number, requirement in enumerate(selector.match_expressions):
        at = f"{path}.selector.matchExpressions[{number}]"
        check_keys((requirement.key,), f"{at}.key", report)
        needs = requirement.operator in ("In", "NotIn")
        if needs and not requirement.values:
            report.error("MissingField", f"{at}.values", f"{requirement.operator} needs values", "add `values`")
        elif not needs and requirement.values:
            report.error("NotAllowed", f"{at}.values", f"{requirement.operator} takes no values", "remove `values`")


def _check_addresses(addresses: Iterable[GatewaySpecAddress], report: Report) -> None:
    seen: set[tuple[str, str]] = set()
    for number, address in enumerate(addresses):
        path = f"spec.addresses[{number}]"
        if not _ADDRESS_TYPE.fullmatch(address.type):
            message = f"'{shown(address.type)}' is not a type of address"
            report.error("UnknownValue", f"{path}.type", message, "write `IPAddress`")
        elif address.type != "IPAddress":
            message = f"Fairlead binds IP addresses; it cannot use the type '{shown(address.type)}'"
            report.warning("UnsupportedAddress", f"{path}.type", message, "write `type: IPAddress` and an IP address")
        if not address.value:
            continue
        if address.type == "IPAddress" and not _is_ip(address.value):
            message = f"'{shown(address.value)}' is not an IP address"
            report.error("InvalidFormat", f"{path}.value", message, "write it as in `192.0.2.7` or `2001:db8::7`")
        if address.type == "Hostname" and not _WILDCARD_HOST.fullmatch(address.value):
            message = f"'{shown(address.value)}' is not a hostname"
            report.error("InvalidFormat", f"{path}.value", message, "write a lower-case DNS name")
        if (address.type, address.value) in seen:
            report.error("Duplicate", path, f"'{shown(address.value)}' is there twice", "keep one of them")
        seen.add((address.type, address.value))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _check_rest(spec: GatewaySpec, report: Report) -> None:
    infrastructure = spec.infrastructure
    if infrastructure is not None:
        check_keys(infrastructure.labels, "spec.infrastructure.labels", report)
        check_keys(infrastructure.annotations, "spec.infrastructure.annotations", report)
        if infrastructure.parameters_ref is not None and infrastructure.parameters_ref.group != FAIRLEAD:
            message = "Fairlead takes parameters of its own group only"
            report.warning("Unsupported", "spec.infrastructure.parametersRef", message, f"use group `{FAIRLEAD}`")
    allowed = spec.allowed_listeners
    if allowed is not None:
        _check_selector(
            allowed.namespaces.from_, allowed.namespaces.selector, "spec.allowedListeners.namespaces", report
        )
    tls = spec.tls
    if tls is not None and tls.frontend is not None:
        ports: set[int] = set()
        for number, per_port in enumerate(tls.frontend.per_port):
            if per_port.port in ports:
                at = child("spec.tls.frontend.perPort", number)
                report.error("Duplicate", f"{at}.port", f"port {per_port.port} is there twice", "keep one of them")
            ports.add(per_port.port)
    if tls is not None and tls.backend is not None and tls.backend.client_certificate_ref is not None:
        _check_secret_ref(tls.backend.client_certificate_ref, "spec.tls.backend.clientCertificateRef", report)
