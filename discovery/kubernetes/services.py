"""What a Kubernetes Service says of a service of the mesh: ports and protocols, who may see it, where its name leads.

Pure functions of one Service. What each rule is for:
- `appProtocol` says what a port speaks, in Kubernetes' words (`kubernetes.io/h2c`, `kubernetes.io/ws`), IANA's or the
  field's (`http`, `http2`, `grpc`, `https`, `tls`, …), in any case of letters. What runs over TLS (`https`, `tls`,
  `kubernetes.io/wss`) is TLS: plaintext sent there fails in ways that nobody understands. Another word is TCP: a
  sidecar, which goes by Host headers, leaves it alone; a route to it speaks HTTP/1.1.
- Without one, the port's name may say it where the convention is clear, `<protocol>` or `<protocol>-<anything>`, which
  people know from Istio: `http`, `http2`, `grpc`, and `tcp`, `mongo`, `mysql`, `redis`. `https` and `tls` in a name are
  not believed: many such ports take plaintext from a load balancer that ended TLS.
- With neither, a TCP port is HTTP, for that is what routes and sidecars can use it for; a port that speaks something
  else loses nothing, because no HTTP request names it.
- UDP is UDP; SCTP, which Envoy lacks, is left out. TCP and UDP may share a
  number (DNS).
- The annotation `fairlead.dev/export-to` lists namespaces that may see the service, `*` for all, `.` for its own.
  Without it all may, as everywhere in Kubernetes; what it says wrong widens nothing.
- `externalName` must be a name that can lead elsewhere: `localhost` would be the proxy's own host and its admin port,
  and an IP address is to Kubernetes a name that resolves nowhere.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from typing import Literal

import msgspec

from discovery.kubernetes import wire
from mesh.kinds.fields import END, LABEL
from mesh.model import DiscoveredService, Protocol, ServicePort
from mesh.problems import Problem, Report, shown
from mesh.services import EVERYWHERE, OWN_NAMESPACE

Family = Literal["IPv4", "IPv6"]

APP_PROTOCOLS: dict[str, Protocol] = {
    "http": "HTTP",
    "http/1.1": "HTTP",
    "ws": "HTTP",
    "kubernetes.io/ws": "HTTP",
    "grpc-web": "HTTP",
    "http2": "HTTP2",
    "h2c": "HTTP2",
    "kubernetes.io/h2c": "HTTP2",
    "grpc": "GRPC",
    "https": "TLS",
    "tls": "TLS",
    "wss": "TLS",
    "kubernetes.io/wss": "TLS",
}
NAMES: dict[str, Protocol] = {
    "http": "HTTP",
    "http2": "HTTP2",
    "grpc-web": "HTTP",
    "grpc": "GRPC",
    "tcp": "TCP",
    "mongo": "TCP",
    "mysql": "TCP",
    "redis": "TCP",
}

_NAMESPACE = re.compile(LABEL + END)


class Told(msgspec.Struct, frozen=True):
    """What one Service says. `routed` is False where Kubernetes uses no EndpointSlices for it (ExternalName).

    `family` is the address family that its clients are given first.
    """

    row: DiscoveredService
    routed: bool = True
    family: Family = "IPv4"
    problems: tuple[Problem, ...] = ()


def told(service: wire.Service) -> Told:
    """What a Service says."""
    spec = service.spec if service.spec is not None else wire.ServiceSpec()
    external = spec.type == "ExternalName"
    report = Report()
    annotations = service.metadata.annotations
    row = DiscoveredService(
        ports=_ports(spec.ports or ()),
        labels=pairs(service.metadata.labels),
        export_to=_export_to(annotations.export_to if annotations is not None else None, report),
        external_name=_external_name(spec.external_name or "", report) if external else "",
    )
    first = spec.ip_families[0] if spec.ip_families else ""
    family: Family = "IPv6" if first == "IPv6" else "IPv4"
    return Told(row, routed=not external, family=family, problems=tuple(report.problems))


def protocol(port: wire.ServicePort) -> Protocol:
    """What a port speaks."""
    if port.protocol == "UDP":
        return "UDP"
    if port.app_protocol:
        return APP_PROTOCOLS.get(port.app_protocol.lower(), "TCP")
    name = port.name or ""
    # The longest prefix counts: `grpc-web` is not `grpc`.
    matching = [prefix for prefix in NAMES if name == prefix or name.startswith(f"{prefix}-")]
    return NAMES[max(matching, key=len)] if matching else "HTTP"


def pairs(labels: wire.Strings | None) -> tuple[tuple[str, str], ...]:
    """Labels as sorted pairs; names of labels are few and shared."""
    return tuple(sorted((sys.intern(name), value) for name, value in labels.items())) if labels else ()


def _ports(ports: tuple[wire.ServicePort, ...] | list[wire.ServicePort]) -> tuple[ServicePort, ...]:
    found: dict[tuple[int, bool], ServicePort] = {}
    for port in sorted(ports, key=lambda port: (port.port, port.protocol == "UDP", port.name or "")):
        if port.protocol != "SCTP":
            made = ServicePort(sys.intern(port.name or ""), port.port, protocol(port))
            found.setdefault((made.port, made.udp), made)
    return tuple(found.values())


def _export_to(annotation: str | None, report: Report) -> tuple[str, ...]:
    if annotation is None:
        return (EVERYWHERE,)
    named = {word for part in annotation.split(",") if (word := part.strip())}
    good = {word for word in named if word in (EVERYWHERE, OWN_NAMESPACE) or _NAMESPACE.match(word)}
    for word in sorted(named - good):
        message = f"'{shown(word)}' in {wire.EXPORT_TO} is no namespace; the service is not shown there"
        fix = "list namespaces with commas between, '*' for all, '.' for its own"
        report.warning("InvalidExportTo", f'metadata.annotations["{wire.EXPORT_TO}"]', message, fix)
    return (EVERYWHERE,) if EVERYWHERE in good else tuple(sorted(good)) or (OWN_NAMESPACE,)


def _external_name(name: str, report: Report) -> str:
    plain = name.lower().removesuffix(".")
    if not plain:
        return ""
    if plain == "localhost" or plain.endswith(".localhost"):
        message = f"externalName '{shown(name)}' is the host of the proxy itself; the service leads nowhere"
    elif _is_ip(plain):
        message = (
            f"externalName '{shown(name)}' is an IP address, which Kubernetes takes for a name that resolves nowhere"
        )
    else:
        return name
    fix = "name a host; for IP addresses make a Service without a selector, and an EndpointSlice"
    report.error("InvalidExternalName", "spec.externalName", message, fix)
    return ""


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
