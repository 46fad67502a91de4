"""The Gateways that Fairlead serves: those of a GatewayClass with our controller's name.

Where there is no GatewayClass object at all (files, REST), the class name `fairlead` is ours. A row holds nothing that
routes change: it is what routes attach to.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import msgspec

from mesh.conditions import Condition
from mesh.kinds.gateway import Gateway as GatewayObject
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.listeners import GatewayListener, listeners, unserved
from mesh.model import Declared, ObjectKey
from mesh.objects import OBJECTS, find
from mesh.tables import Look, Reader, derived, each

OUR_CLASS = "fairlead"


class GatewayKey(NamedTuple):
    """The name of a Gateway."""

    namespace: str
    name: str


class Gateway(msgspec.Struct, frozen=True):
    """A Gateway that is ours.

    `addresses` are IP addresses to bind, empty for all. `service_account` is the account its proxies run as.
    `conditions` speak of the Gateway as a whole.
    """

    listeners: tuple[GatewayListener, ...]
    addresses: tuple[str, ...]
    service_account: str
    conditions: tuple[Condition, ...]

    def listener(self, name: str) -> GatewayListener | None:
        """The listener of that name, or None."""
        return next((listener for listener in self.listeners if listener.name == name), None)


def _gateway(key: ObjectKey, _row: Declared) -> tuple[GatewayKey, ...]:
    return (GatewayKey(key.namespace, key.name),) if key.kind == "Gateway" else ()


def is_ours(look: Reader, class_name: str) -> bool:
    """Whether Gateways of a class are ours to serve."""
    row = find(look, GatewayClass, ObjectKey("GatewayClass", "", class_name))
    return row.spec.controller_name == CONTROLLER_NAME if row is not None else class_name == OUR_CLASS


@derived("gateways", each(OBJECTS, _gateway))
def GATEWAYS(key: GatewayKey, look: Look) -> Gateway | None:  # noqa: N802
    """Each Gateway of ours with its listeners judged."""
    gateway = find(look, GatewayObject, ObjectKey("Gateway", key.namespace, key.name))
    if gateway is None or not is_ours(look, gateway.spec.gateway_class_name):
        return None
    judged = listeners(look, gateway)
    addresses, problem = _addresses(gateway)
    problem = problem or _parameters(gateway)
    if problem is not None:
        judged = tuple(unserved(listener, problem.message) for listener in judged)
    accepted = problem or _accepted(judged)
    return Gateway(
        listeners=judged,
        addresses=addresses,
        service_account=key.name,
        conditions=(accepted, _programmed(judged, accepted)),
    )


def _addresses(gateway: GatewayObject) -> tuple[tuple[str, ...], Condition | None]:
    found: set[str] = set()
    for address in gateway.spec.addresses:
        if address.type != "IPAddress":
            said = f"Addresses of type {address.type} are not supported; use IPAddress."
            return (), Condition("Accepted", False, "UnsupportedAddress", said)
        if not address.value:
            continue  # one is to be assigned: all addresses of the machine will do
        try:
            found.add(str(ipaddress.ip_address(address.value)))
        except ValueError:
            said = f"{address.value!r} is not an IP address."
            return (), Condition("Accepted", False, "UnsupportedAddress", said)
    return tuple(sorted(found)), None


def _parameters(gateway: GatewayObject) -> Condition | None:
    infrastructure = gateway.spec.infrastructure
    if infrastructure is None or infrastructure.parameters_ref is None:
        return None
    ref = infrastructure.parameters_ref
    said = f"infrastructure.parametersRef names {ref.kind} {ref.name}, but there are no kinds of parameters; remove it."
    return Condition("Accepted", False, "InvalidParameters", said)


def _accepted(judged: tuple[GatewayListener, ...]) -> Condition:
    wrong = ", ".join(listener.name for listener in judged if not listener.programmed)
    if not wrong:
        return Condition("Accepted", True, "Accepted")
    some = any(listener.accepted for listener in judged)
    served = ", ".join(listener.name for listener in judged if listener.programmed) or "none"
    said = f"Listeners that are not served: {wrong}; served: {served}. The conditions of each say why."
    return Condition("Accepted", some, "ListenersNotValid", said)


def _programmed(judged: tuple[GatewayListener, ...], accepted: Condition) -> Condition:
    if any(listener.programmed for listener in judged):
        return Condition("Programmed", True, "Programmed")
    return Condition("Programmed", False, "Invalid", accepted.message or "No listener can be served.")
