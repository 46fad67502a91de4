"""Which Secrets and ConfigMaps of a cluster are read: those that Gateways of ours refer to, each by its name.

Pure. Nothing else in a namespace is asked for, so that the program needs no right to see it and holds no key that it
does not use. Whether a reference is allowed is the model's business; what it refers to must be known for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.gateways import OUR_CLASS
from mesh.kinds import KINDS
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.kinds.references import ObjectReference, SecretObjectReference
from mesh.model import Declared, ObjectKey

TELLING = frozenset({"Gateway", "GatewayClass"})
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
    return frozenset(
        reference
        for row in objects.values()
        if isinstance(row.object, Gateway) and row.object.spec.gateway_class_name in ours
        for reference in _references(row.object)
        if reference.kind in KINDS
    )


def _references(gateway: Gateway) -> Iterator[ObjectKey]:
    namespace = gateway.metadata.namespace
    for listener in gateway.spec.listeners:
        for reference in listener.tls.certificate_refs if listener.tls is not None else ():
            yield from _key(reference, namespace)
    tls = gateway.spec.tls
    if tls is None:
        return
    if tls.backend is not None and tls.backend.client_certificate_ref is not None:
        yield from _key(tls.backend.client_certificate_ref, namespace)
    if tls.frontend is not None:
        for config in (tls.frontend.default, *(port.tls for port in tls.frontend.per_port)):
            for authority in config.validation.ca_certificate_refs if config.validation is not None else ():
                yield from _key(authority, namespace)


def _key(reference: SecretObjectReference | ObjectReference, namespace: str) -> Iterator[ObjectKey]:
    if reference.group == "" and reference.kind in ("Secret", "ConfigMap"):
        yield ObjectKey(reference.kind, reference.namespace or namespace, reference.name)
