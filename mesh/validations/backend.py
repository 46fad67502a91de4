"""Backend: one way of saying where, and no address that would turn a proxy against itself or its host.

Refused are literal addresses and names of the proxy's own loopback, of the link, and of clouds' metadata services,
however they are spelled (IPv4 inside IPv6; numbers that the C library reads as addresses). That holds for what is
written, not for what DNS answers: a name may resolve to any of them.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re

from mesh.kinds.backend import Backend, BackendEndpoint, DynamicResolver
from mesh.problems import Report, shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
)
_METADATA_NAMES = ("metadata.google.internal", "metadata.goog", "instance-data.ec2.internal", "instance-data")
_LOOPBACK_NAMES = (
    "localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "ip6-loopback",
    "localhost4",
    "localhost6",
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SOCKETS = frozenset(
    {
        "/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        "/run/k3s/containerd/containerd.sock",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
    }
)


def check_backend_object(backend: Backend, report: Report) -> None:
    """Judge a Backend."""
    spec = backend.spec
    if spec.dynamic_resolver is not None:
        if spec.endpoints:
            message = "`endpoints` and `dynamicResolver` cannot stand together"
            report.error("NotAllowed", "spec.dynamicResolver", message, "remove one of them")
        if spec.protocol not in ("HTTP", "HTTP2", "GRPC"):
            message = f"a dynamic resolver reads the `Host` of requests, which {spec.protocol} does not have"
            report.error("NotAllowed", "spec.protocol", message, "write HTTP, HTTP2 or GRPC")
        _check_resolver(spec.dynamic_resolver, report)
    elif not spec.endpoints:
        message = "nothing says where the backend is"
        report.error(
            "MissingField", "spec.endpoints", message, "add an endpoint, such as `fqdn` with `hostname`, `port`"
        )
    seen: set[BackendEndpoint] = set()
    for number, endpoint in enumerate(spec.endpoints):
        path = f"spec.endpoints[{number}]"
        _check_endpoint(endpoint, path, report)
        if endpoint in seen:
            report.error("Duplicate", path, "the same endpoint is there twice", "remove one")
        seen.add(endpoint)
        if spec.protocol == "UDP" and endpoint.ip is None:
            report.error("NotAllowed", path, "endpoints of UDP are IP addresses", "write `ip` with `address`, `port`")
    if any(one.fqdn for one in spec.endpoints) and any(one.unix for one in spec.endpoints):
        message = "`fqdn` and `unix` cannot stand in one Backend: Envoy looks up all its names or none"
        report.error("NotAllowed", "spec.endpoints", message, "make two Backends, and name both in the route")


def _check_endpoint(endpoint: BackendEndpoint, path: str, report: Report) -> None:
    given = [one for one in (endpoint.fqdn, endpoint.ip, endpoint.unix) if one is not None]
    if len(given) != 1:
        message = "an endpoint is exactly one of `fqdn`, `ip` and `unix`"
        report.error("MissingField" if not given else "NotAllowed", path, message, "write one of them")
    if endpoint.fqdn is not None:
        _check_name(endpoint.fqdn.hostname, f"{path}.fqdn.hostname", report)
    if endpoint.ip is not None:
        _check_ip(endpoint.ip.address, f"{path}.ip.address", report)
    if endpoint.unix is not None:
        _check_path(endpoint.unix.path, f"{path}.unix.path", report)


def _check_resolver(resolver: DynamicResolver, report: Report) -> None:
    for number, hostname in enumerate(resolver.hostnames):
        path = f"spec.dynamicResolver.hostnames[{number}]"
        domain = hostname.removeprefix("*.")
        if hostname == domain or "." in domain:
            _check_name(domain, path, report)
        else:
            message = f"anybody may register a name under '.{shown(domain)}', and let it resolve to any address"
            report.error("NotAllowed", path, message, "write a domain that is in your hands, as in `*.example.com`")


def _check_name(hostname: str, path: str, report: Report) -> None:
    last = hostname.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        message = f"'{shown(hostname)}' would be read as an IP address"
        report.error("InvalidFormat", path, message, "write a DNS name, or an address as `ip`")
    elif any(len(label) > 63 for label in hostname.split(".")):
        message = f"'{shown(hostname)}' has a label of more than 63 characters, which DNS cannot look up"
        report.error("InvalidFormat", path, message, "write a DNS name")
    elif last == "localhost" or hostname in _LOOPBACK_NAMES:
        message = f"'{shown(hostname)}' is the proxy's own loopback, where its admin port is"
        report.error("NotAllowed", path, message, "write a name of another host, or use `unix` for a process beside it")
    elif hostname in _METADATA_NAMES:
        message = f"'{shown(hostname)}' is a cloud's metadata service, which gives out credentials"
        report.error("NotAllowed", path, message, "write another destination")


def _check_ip(address: str, path: str, report: Report) -> None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        message = f"'{shown(address)}' is not an IP address"
        report.error("InvalidFormat", path, message, "write it as in `192.0.2.7` or `2001:db8::7`, or a name as `fqdn`")
        return
    if "%" in address:
        message = f"'{shown(address)}' has a zone, which is another one on each proxy"
        report.error("InvalidFormat", path, message, "leave out '%' and what follows")
        return
    for one in (parsed, *_inside(parsed)):
        why = _unfit(one)
        if why:
            message = f"{shown(address)} is {why}"
            report.error("NotAllowed", path, message, "write the address of another host")
            return


def _unfit(address: Address) -> str:
    if address in _METADATA:
        return "a cloud's metadata service, which gives out credentials"
    if address.is_loopback:
        return "the proxy's own loopback, where its admin port is"
    if address.is_link_local:
        return "an address of the link, where clouds have their metadata services"
    if address.is_unspecified or address.is_multicast or (address.version == 4 and address.packed[0] in (0, 255)):
        return "not an address that can be connected to"
    return ""


def _inside(address: Address) -> tuple[Address, ...]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    found: list[Address] = [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return tuple(found)


def _check_path(path: str, at: str, report: Report) -> None:
    if not path.startswith("/") or not path.isprintable() or posixpath.normpath(path) != path or path.startswith("//"):
        message = f"'{shown(path)}' is not the plain absolute path of a socket"
        report.error(
            "InvalidFormat", at, message, "write it from '/' on, without '..', '.', '//' and control characters"
        )
    elif len(path.encode(errors="replace")) > 107:
        report.error("TooLong", at, "a socket's path has at most 107 bytes", "use a shorter path")
    elif path.startswith(("/proc/", "/sys/", "/dev/")) or path.removeprefix("/var") in _SOCKETS:
        message = f"'{shown(path)}' is a socket through which the host is controlled"
        report.error("NotAllowed", at, message, "write the socket of a process that serves requests")
