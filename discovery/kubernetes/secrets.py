"""Which Secrets and ConfigMaps of a cluster are read: those that Gateways of ours and policies refer to, by name.

Pure. Nothing else in a namespace is asked for, so that the program needs no right to see it and holds no key that it
does not use. Whether a reference is allowed is the model's business; what it refers to must be known for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mesh.gateways import OUR_CLASS
from mesh.kinds import KINDS
from mesh.kinds.backendtlspolicy import BackendTLSPolicy
from mesh.kinds.clientpolicy import ClientPolicy
from mesh.kinds.clientpolicy import config_maps as revocations
from mesh.kinds.gateway import Gateway, Listener
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.references import LocalObjectReference, ObjectReference, SecretObjectReference
from mesh.kinds.routepolicy import RoutePolicy, config_maps, secrets
from mesh.model import Declared, ObjectKey

TELLING = frozenset({"BackendTLSPolicy", "ClientPolicy", "Gateway", "GatewayClass", "ListenerSet", "RoutePolicy"})
"""Kinds whose objects decide what is referred to."""


def referenced(objects: Mapping[ObjectKey, Declared]) -> frozenset[ObjectKey]:
    """The Secrets and ConfigMaps to be read, given the objects of `TELLING` kinds among all that are declared."""
    ours = {
        key.name
        for key, row in objects.items()
        if isinstance(row.object, GatewayClass) and row.object.spec.controller_name == CONTROLLER_NAME
    }
    if ObjectKey("GatewayClass", "", OUR_CLASS) not in objects:
        ours.add(OUR_CLASS)
    found: set[ObjectKey] = set()
    for row in objects.values():
        if isinstance(row.object, Gateway) and row.object.spec.gateway_class_name in ours:
            found.update(_references(row.object))
        elif isinstance(row.object, ListenerSet):
            found.update(_listener_references(row.object.spec.listeners, row.object.metadata.namespace))
        elif isinstance(row.object, BackendTLSPolicy):
            for authority in row.object.spec.validation.ca_certificate_refs:
                found.update(_key(authority, row.object.metadata.namespace))
        elif isinstance(row.object, RoutePolicy):
            for kind, names in (("ConfigMap", config_maps(row.object)), ("Secret", secrets(row.object))):
                found.update(ObjectKey(kind, row.object.metadata.namespace, name) for name in names)
        elif isinstance(row.object, ClientPolicy):
            held = revocations(row.object)
            found.update(ObjectKey("ConfigMap", row.object.metadata.namespace, name) for name in held)
    return frozenset(reference for reference in found if reference.kind in KINDS)


def _references(gateway: Gateway) -> Iterator[ObjectKey]:
    namespace = gateway.metadata.namespace
    yield from _listener_references(gateway.spec.listeners, namespace)
    tls = gateway.spec.tls
    if tls is None:
        return
    if tls.backend is not None and tls.backend.client_certificate_ref is not None:
        yield from _key(tls.backend.client_certificate_ref, namespace)
    if tls.frontend is not None:
        for config in (tls.frontend.default, *(port.tls for port in tls.frontend.per_port)):
            for authority in config.validation.ca_certificate_refs if config.validation is not None else ():
                yield from _key(authority, namespace)


def _listener_references(listeners: Iterable[Listener], namespace: str) -> Iterator[ObjectKey]:
    for listener in listeners:
        for reference in listener.tls.certificate_refs if listener.tls is not None else ():
            yield from _key(reference, namespace)


def _key(
    reference: SecretObjectReference | ObjectReference | LocalObjectReference, namespace: str
) -> Iterator[ObjectKey]:
    if reference.group == "" and reference.kind in ("Secret", "ConfigMap"):
        elsewhere = None if isinstance(reference, LocalObjectReference) else reference.namespace
        yield ObjectKey(reference.kind, elsewhere or namespace, reference.name)
