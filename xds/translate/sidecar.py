"""Sidecars: a listener for what the workload sends out, and one in front of what it serves.

Out: the workload uses `127.0.0.1:<egress port>` as its HTTP proxy, or sends its requests there with the service in the
Host header. A service answers to `name` (in its own namespace), `name.namespace`, `name.namespace.svc` and
`name.namespace.svc.cluster.local`, each with a port or without. Without one, HTTP means port 80 if the service has it,
else the first of its HTTP ports. Ports that speak TCP, TLS or UDP cannot be told apart by a Host header and are left
out here. A host that is no visible service is answered 404. A service with a dot in its name (Consul allows it) has
its full name only: `a.b` could be service `a` of namespace `b`, and Envoy refuses two hosts of one name.

In: `[::]:<ingress port>` passes everything on to `127.0.0.1:<port>` of the workload (`xds/translate/ingress.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mesh.model import ServiceKey, ServicePort
from xds.schema.types import Listener, TrafficDirection
from xds.translate.http_connection_manager import egress_manager
from xds.translate.listener import add_manager, set_address
from xds.translate.names import listener_name, stat_name

EGRESS = "egress"
LOOPBACK = "127.0.0.1"
DEFAULT_HTTP_PORT = 80
HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC"})


def http_ports(ports: Iterable[ServicePort]) -> tuple[ServicePort, ...]:
    """The ports that can be reached by a Host header."""
    return tuple(port for port in ports if port.protocol in HTTP_PROTOCOLS)


def domains(service: ServiceKey, port: int, *, of: Iterable[int], namespace: str) -> tuple[str, ...]:
    """The Host headers that mean a service's port, for clients of a namespace; `of` are all its HTTP ports."""
    return tuple(_domains(service, port, of=sorted(of), namespace=namespace))


def egress_listener(port: int) -> Any:
    """The listener that takes what a workload sends out."""
    return _listener(LOOPBACK, port, EGRESS, egress_manager(EGRESS), direction=TrafficDirection.OUTBOUND)


def _domains(service: ServiceKey, port: int, *, of: list[int], namespace: str) -> Iterator[str]:
    qualified = f"{service.name}.{service.namespace}"
    names = [f"{qualified}.svc.cluster.local"]
    if "." not in service.name:
        names = [qualified, f"{qualified}.svc", *names]
        if service.namespace == namespace:
            names.insert(0, service.name)
    implied = DEFAULT_HTTP_PORT if DEFAULT_HTTP_PORT in of else of[0]
    for name in names:
        if port == implied:
            yield name
        yield f"{name}:{port}"


def _listener(address: str, port: int, name: str, manager: Any, *, direction: int) -> Any:
    listener = Listener()
    listener.name = listener_name(address, port)
    listener.stat_prefix = stat_name(listener.name)
    listener.traffic_direction = direction
    set_address(listener, address, port)
    chain = listener.filter_chains.add()
    chain.name = name
    add_manager(chain, manager)
    return listener
