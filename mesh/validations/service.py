"""Service and ServiceSubset of `fairlead.dev`: ports by name and number, endpoints by IP address."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from mesh.kinds.service import Service, ServiceEndpoint, ServicePort
from mesh.kinds.servicesubset import ServiceSubset
from mesh.problems import Report, child, shown
from mesh.validations.metadata import check_keys, is_dns_label

# Envoy keeps the sum of the weights of a locality in 32 bits.
MAX_TOTAL_WEIGHT = 2**32 - 1

_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
# Good on sight: IPv4 without 0.0.0.0/8 and without multicast and what is above; the rest is looked at closely.
_PLAIN_IPV4 = re.compile(rf"(22[0-3]|2[01][0-9]|1[0-9][0-9]|[1-9][0-9]?)(\.{_BYTE}){{3}}")


def check_service(service: Service, report: Report) -> None:
    """Judge a Service."""
    spec = service.spec
    ports = _check_ports(spec.ports, report)
    seen: set[tuple[str, tuple[tuple[str, int], ...]]] = set()
    weight = 0
    for number, endpoint in enumerate(spec.endpoints):
        if not can_be_connected_to(endpoint.address):
            check_address(endpoint.address, f"spec.endpoints[{number}].address", report)
        if not ports.keys() >= endpoint.ports.keys():
            _refuse_ports(endpoint, number, ports, report)
        if endpoint.labels:
            check_keys(endpoint.labels, f"spec.endpoints[{number}].labels", report)
        if endpoint.service_account and not is_dns_label(endpoint.service_account.replace(".", "-")):
            message = f"'{shown(endpoint.service_account)}' is not the name of a service account"
            fix = "write lower-case letters, digits, '-' and '.'"
            report.error("InvalidFormat", f"spec.endpoints[{number}].serviceAccount", message, fix)
        place = (endpoint.address, tuple(sorted(endpoint.ports.items())))
        if place in seen:
            message = f"another endpoint has the address {shown(endpoint.address)} and the same ports"
            report.error("Duplicate", f"spec.endpoints[{number}]", message, "remove it; a larger share is `weight`")
        seen.add(place)
        weight += endpoint.weight
    if weight > MAX_TOTAL_WEIGHT:
        message = f"the weights sum to {weight}, at most {MAX_TOTAL_WEIGHT} fits Envoy"
        report.error("OutOfRange", "spec.endpoints", message, "divide all weights by the same number")


def _check_ports(ports: tuple[ServicePort, ...], report: Report) -> Mapping[str, int]:
    numbers: dict[str, int] = {}
    taken: set[tuple[int, bool]] = set()
    for number, port in enumerate(ports):
        path = f"spec.ports[{number}]"
        if not port.name and len(ports) > 1:
            report.error("MissingField", f"{path}.name", "one of several ports needs a name", "give each port a name")
        elif port.name in numbers:
            report.error("DuplicateName", f"{path}.name", f"'{port.name}' names two ports", "give each its own name")
        place = (port.port, port.protocol == "UDP")
        if place in taken:
            report.error("Duplicate", f"{path}.port", f"port {port.port} is there twice", "keep one of them")
        taken.add(place)
        numbers[port.name] = port.port
    return numbers


def can_be_connected_to(address: str) -> bool:
    """Whether a text is the IP address of one instance, without a scope, which Envoy would take for a name."""
    if _PLAIN_IPV4.fullmatch(address):
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    plain = (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed
    return not (plain.is_unspecified or plain.is_multicast or plain == _BROADCAST or "%" in address)


def check_address(address: str, path: str, report: Report) -> None:
    """Judge the address of one instance."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        message = f"'{shown(address)}' is not an IP address; endpoints are IP addresses"
        report.error("InvalidFormat", path, message, "write it as in `192.0.2.7` or `2001:db8::7`")
        return
    if not can_be_connected_to(address):
        message = f"{shown(address)} is not an address that can be connected to"
        report.error("InvalidFormat", path, message, "write the address of one instance")


def _refuse_ports(endpoint: ServiceEndpoint, number: int, ports: Mapping[str, int], report: Report) -> None:
    known = ", ".join(sorted(name for name in ports if name)) or "none (give the Service's port a name)"
    for name in endpoint.ports.keys() - ports.keys():
        path = child(f"spec.endpoints[{number}].ports", name)
        message = f"the Service has no port named '{shown(name)}'"
        report.error("UnknownPort", path, message, f"write one of spec.ports: {known}")


def check_servicesubset(subset: ServiceSubset, report: Report) -> None:
    """Judge a ServiceSubset."""
    check_keys(subset.spec.labels, "spec.labels", report)
    seen = [subset.spec.labels]
    for number, each in enumerate(subset.spec.fallback):
        path = f"spec.fallback[{number}].labels"
        check_keys(each.labels, path, report)
        if any(labels.items() <= each.labels.items() for labels in seen):
            message = "whoever carries these labels is chosen before already"
            report.error("NoEffect", path, message, "remove the entry, or put it before the one with fewer labels")
        seen.append(each.labels)
    if not is_dns_label(subset.spec.service):
        message = f"'{shown(subset.spec.service)}' cannot be the name of a Service"
        report.error("InvalidFormat", "spec.service", message, "write the name of a Service of this namespace")
