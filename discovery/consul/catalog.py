"""What the instances of one Consul service say of a service of the mesh. Pure. What each rule is for:

- An instance with a critical check is left out at once, one in maintenance mode too (that is a critical check).
  With a warning it keeps the weight that Consul has for warnings; a weight of 0 leaves it out.
- A registration with a kind (`connect-proxy`, `mesh-gateway`, …) is a proxy
  and no service: Envoy would talk to a proxy.
- Instances may listen on any port, so the port that routes name is said once: 80, or what the meta key `fairlead-port`
  says (the lowest, where instances differ). `fairlead-protocol` says what it speaks; without it that is HTTP.
- A tag `key=value` is the label `key`, a plain tag is a label with the value `true`; meta wins over tags.
- The address is the instance's, else the node's. A host name is left out, for Envoy takes addresses only.
- The region is the node's meta key `region`, else its datacenter; the zone is its meta key `zone`.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable

from discovery.consul.wire import Entry, Weights
from mesh.model import DiscoveredEndpoints, DiscoveredService, Endpoint, Locality, Protocol, ServicePort
from mesh.services import EVERYWHERE

PORT_KEY = "fairlead-port"
PROTOCOL_KEY = "fairlead-protocol"
DEFAULT_PORT = 80
PROTOCOLS: dict[str, Protocol] = {"http": "HTTP", "http2": "HTTP2", "grpc": "GRPC", "tls": "TLS", "tcp": "TCP"}
_HIGHEST = 65535
_HEAVIEST = 65535  # of one endpoint; Envoy wants the sum of a locality within 32 bits
_NO_WEIGHTS = Weights()


def rows(entries: Iterable[Entry]) -> tuple[DiscoveredService, DiscoveredEndpoints] | None:
    """The service and its endpoints; None where no instance is of a service proper."""
    proper = [entry for entry in entries if not entry.service.kind]
    if not proper:
        return None
    stated = [port for entry in proper if (port := _stated_port(entry)) is not None]
    spoken = {(entry.service.meta or {}).get(PROTOCOL_KEY, "").lower() for entry in proper}
    protocols = [PROTOCOLS[word] for word in sorted(spoken) if word in PROTOCOLS]
    named = ServicePort("", min(stated, default=DEFAULT_PORT), protocols[0] if protocols else "HTTP")
    endpoints = (endpoint(entry) for entry in proper)
    return (
        DiscoveredService(ports=(named,), export_to=(EVERYWHERE,)),
        DiscoveredEndpoints(tuple(sorted(made for made in endpoints if made is not None))),
    )


def endpoint(entry: Entry) -> Endpoint | None:
    """One instance; None where it may get no requests."""
    service, node = entry.service, entry.node
    weight = _weight(entry)
    address = service.address or node.address
    if weight < 1 or not 0 < service.port <= _HIGHEST or not _is_ip(address):
        return None
    places = node.meta or {}
    return Endpoint(
        address=address,
        ports=(("", service.port),),
        labels=_labels(service.tags or (), service.meta or {}),
        weight=min(weight, _HEAVIEST),
        locality=Locality(sys.intern(places.get("region") or node.datacenter), sys.intern(places.get("zone") or "")),
        health="Healthy",
    )


def _weight(entry: Entry) -> int:
    states = {check.status for check in entry.checks or ()}
    weights = entry.service.weights or _NO_WEIGHTS
    if states <= {"passing"}:
        return weights.passing
    return weights.warning if states <= {"passing", "warning"} else 0


def _labels(tags: Iterable[str], meta: dict[str, str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if key:
            found[sys.intern(key)] = value if equals else "true"
    return tuple(sorted((found | meta).items()))


def _stated_port(entry: Entry) -> int | None:
    text = (entry.service.meta or {}).get(PORT_KEY, "")
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_HIGHEST)) else 0
    return port if 0 < port <= _HIGHEST else None


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
