"""What each audience is in terms of the model: the Gateway it serves, or the service it fronts.

An audience exists from the start for every Gateway of ours, so that its configuration is ready when the first proxy
comes; for sidecars, gRPC clients and gateways over state-of-the-world as soon as one connects.
"""

from __future__ import annotations

import msgspec

from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.model import AUDIENCES, Audience, Connected, ServiceKey, ServicePort
from mesh.services import SERVICES
from mesh.tables import Look, derived, each


class Sight(msgspec.Struct, frozen=True):
    """What proxies of an audience stand for.

    `gateway` is the Gateway they serve, `fronts` the service whose instance a sidecar stands beside, each None where
    there is no such thing (yet). `fronted_port` is the port of that service for which `Audience.port` stands. What
    proxies may call is in `mesh.services.VISIBLE`, once for all that see the same.
    """

    gateway: GatewayKey | None = None
    fronts: ServiceKey | None = None
    fronted_port: ServicePort | None = None


def _gateway(key: GatewayKey, _row: Gateway) -> tuple[Audience]:
    return (Audience("gateway", key.namespace, key.name),)


def _audiences(key: Audience, _row: Connected) -> tuple[Audience, ...]:
    """An audience, and the same without what tells its proxies apart: what is made for all is made for those."""
    return tuple(dict.fromkeys((key, key.kin, key.kin._replace(zone="", upstreams=()))))


@derived("sights", each(GATEWAYS, _gateway), each(AUDIENCES, _audiences))
def SIGHTS(key: Audience, look: Look) -> Sight | None:  # noqa: N802
    """Each known audience; one whose Gateway or service does not exist has a row that names none."""
    if key.kind == "gateway":
        gateway = GatewayKey(key.namespace, key.name)
        return Sight(gateway=gateway if look(GATEWAYS, gateway) is not None else None)
    fronts = ServiceKey(key.namespace, key.name)
    service = look(SERVICES, fronts) if key.kind == "sidecar" else None
    if service is None:
        return Sight()
    return Sight(fronts=fronts, fronted_port=_fronted(service.ports, key.port))


def _fronted(ports: tuple[ServicePort, ...], number: int) -> ServicePort | None:
    """The service's port that the local port stands for: the same number, else the only one there is."""
    same = next((port for port in ports if port.port == number), None)
    return same if same is not None or len(ports) != 1 else ports[0]
