"""The Gateways that Fairlead serves: those of a GatewayClass with our controller's name.

Where there is no GatewayClass object at all (files, REST), the class name `fairlead` is ours. A row holds nothing that
routes change: it is what routes attach to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from mesh.certificates import SecretKey
from mesh.client_validation import insecure_mode
from mesh.conditions import Condition, holds
from mesh.kinds.gateway import Gateway as GatewayObject
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.listener_sets import attached_sets
from mesh.listeners import GatewayListener, Owner, certificate_problem, listeners, unserved
from mesh.model import PROVISIONED, Declared, ObjectKey, nothing_run_by
from mesh.objects import OBJECTS, find, source_of
from mesh.provisioning import PLATFORM_PREFIX, PROXY_PORTS, parameters_problem, resource_name
from mesh.tables import Look, Reader, derived, each

OUR_CLASS = "fairlead"


class GatewayKey(NamedTuple):
    """The name of a Gateway."""

    namespace: str
    name: str


class Gateway(msgspec.Struct, frozen=True):
    """A Gateway that is ours.

    `addresses` are IP addresses to bind, empty for all. `service_account` is the account its proxies run as.
    `conditions` speak of the Gateway as a whole. `platform` is the source whose platform runs its proxies, empty where
    whoever likes starts an Envoy for it; `requested` are the addresses asked of the platform. `client_certificate` is
    what its proxies show to backends that are spoken to over TLS. `spans` says where in `listeners` those of each
    ListenerSet begin and end (None: its own): there may be a thousand, whose routes and statuses all ask.
    """

    listeners: tuple[GatewayListener, ...]
    addresses: tuple[str, ...]
    service_account: str
    conditions: tuple[Condition, ...]
    platform: str = ""
    requested: tuple[str, ...] = ()
    client_certificate: SecretKey | None = None
    spans: Mapping[ObjectKey | None, tuple[int, int]] = {}

    @property
    def accepted(self) -> bool:
        """Whether the Gateway as a whole is accepted."""
        return holds(self.conditions, "Accepted")

    def of_set(self, key: ObjectKey | None) -> tuple[GatewayListener, ...]:
        """The listeners of a ListenerSet; with None those that the Gateway itself has."""
        begin, end = self.spans.get(key, (0, 0))
        return self.listeners[begin:end]

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
    platform = _platform(look, key)
    judged = listeners(look, gateway, attached_sets(look, gateway), taken=PROXY_PORTS if platform else frozenset())
    addresses, problem = _addresses(gateway, ("IPAddress", "Hostname") if platform else ("IPAddress",))
    problem = problem or _parameters(look, gateway)
    if problem is not None:
        judged = tuple(unserved(listener, problem.message) for listener in judged)
    accepted = problem or _accepted(tuple(listener for listener in judged if listener.owner is None))
    certificate, resolved = _client_certificate(look, gateway)
    notes = (condition for condition in (resolved, insecure_mode(gateway)) if condition is not None)
    return Gateway(
        listeners=judged,
        addresses=() if platform else addresses,
        service_account=resource_name(key.name, gateway.spec.gateway_class_name) if platform else key.name,
        conditions=(accepted, _programmed(judged, accepted), *notes),
        platform=platform,
        requested=addresses if platform else (),
        client_certificate=certificate,
        spans=_spans(judged),
    )


def _spans(judged: tuple[GatewayListener, ...]) -> dict[ObjectKey | None, tuple[int, int]]:
    """Where the listeners of each owner stand; they follow one another."""
    spans: dict[ObjectKey | None, tuple[int, int]] = {}
    for number, listener in enumerate(judged):
        spans[listener.owner] = (spans.get(listener.owner, (number, 0))[0], number + 1)
    return spans


def _client_certificate(look: Reader, gateway: GatewayObject) -> tuple[SecretKey | None, Condition | None]:
    """What is shown to backends (`spec.tls.backend`), and whether it can be had; None where nothing is asked for."""
    backend = gateway.spec.tls.backend if gateway.spec.tls is not None else None
    ref = backend.client_certificate_ref if backend is not None else None
    if ref is None:
        return None, None
    key = SecretKey(ref.namespace or gateway.metadata.namespace, ref.name)
    owner = Owner("Gateway", gateway.metadata.namespace, gateway.metadata.name)
    problem = certificate_problem(look, owner, ref, key)
    if problem is None:
        return key, Condition("ResolvedRefs", True, "ResolvedRefs")
    reason = "RefNotPermitted" if problem.reason == "RefNotPermitted" else "InvalidClientCertificateRef"
    return None, Condition("ResolvedRefs", False, reason, f"spec.tls.backend: {problem.message}")


def _platform(look: Reader, key: GatewayKey) -> str:
    """The source whose platform runs the proxies of a Gateway, empty where none does."""
    source = source_of(look, ObjectKey("Gateway", key.namespace, key.name))
    if not source.startswith(PLATFORM_PREFIX) or look(PROVISIONED, nothing_run_by(source)) is not None:
        return ""
    return source


def _addresses(gateway: GatewayObject, types: tuple[str, ...]) -> tuple[tuple[str, ...], Condition | None]:
    found: set[str] = set()
    for address in gateway.spec.addresses:
        if address.type not in types:
            said = f"Addresses of type {address.type} are not supported; use {' or '.join(types)}."
            return (), Condition("Accepted", False, "UnsupportedAddress", said)
        if not address.value:
            continue  # one is to be assigned: all addresses of the machine will do
        if address.type == "Hostname":
            found.add(address.value.lower())
            continue
        try:
            found.add(str(ipaddress.ip_address(address.value)))
        except ValueError:
            said = f"{address.value!r} is not an IP address."
            return (), Condition("Accepted", False, "UnsupportedAddress", said)
    return tuple(sorted(found)), None


def _parameters(look: Reader, gateway: GatewayObject) -> Condition | None:
    infrastructure = gateway.spec.infrastructure
    if infrastructure is None or infrastructure.parameters_ref is None:
        return None
    said = parameters_problem(look, infrastructure.parameters_ref, gateway.metadata.namespace)
    return Condition("Accepted", False, "InvalidParameters", f"infrastructure.{said}") if said else None


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
