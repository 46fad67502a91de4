"""A model to try derivations on: objects written as YAML, what platforms report, and the rows that follow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from mesh.all_tables import TABLES
from mesh.kinds import KINDS
from mesh.kinds.meta import Object
from mesh.model import (
    AUDIENCES,
    DECLARED,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    PROVISIONED,
    Audience,
    Connected,
    Declared,
    DeclaredKey,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    ObjectKey,
    Provisioned,
    ProvisionedKey,
    ServicePort,
)
from mesh.status import Status
from mesh.statuses import STATUSES
from mesh.tables import Change, Commit, Engine
from tests.support.fields import note


class Model:
    """An engine over all tables of the model."""

    def __init__(self) -> None:
        self.engine = Engine(TABLES)

    def apply(self, text: str, *, source: str = "files") -> Commit:
        """Declare all objects of a YAML text."""
        return self.engine.commit([declared(item, source=source) for item in objects(text)])

    def delete(self, kind: str, name: str, namespace: str = "default", *, source: str = "files") -> Commit:
        """Take a declaration back."""
        return self.engine.commit([Change(DECLARED, DeclaredKey(kind, namespace, name, source), None)])

    def discover(
        self,
        name: str,
        *addresses: str,
        namespace: str = "default",
        source: str = "kubernetes:one",
        ports: Iterable[tuple[str, int, int]] = (("http", 80, 8080),),
        part: str = "a",
        **service: Any,
    ) -> Commit:
        """What a platform reports: `ports` are name, service port and the number at which endpoints serve it."""
        ports = tuple(ports)
        told = tuple(ServicePort(port, number, "HTTP") for port, number, _ in ports)
        at = tuple((port, number) for port, _, number in ports)
        key = DiscoveredEndpointsKey(source, namespace, name, part)
        endpoints = DiscoveredEndpoints(tuple(Endpoint(address, at) for address in sorted(addresses)))
        return self.engine.commit(
            [
                Change(
                    DISCOVERED_SERVICES,
                    DiscoveredServiceKey(source, namespace, name),
                    DiscoveredService(told, **service),
                ),
                Change(DISCOVERED_ENDPOINTS, key, endpoints),
            ]
        )

    def connect(self, audience: Audience) -> Commit:
        """A proxy of an audience connects."""
        return self.engine.commit([Change(AUDIENCES, audience, Connected())])

    def provision(self, name: str, row: Provisioned | None, *, namespace: str = "default") -> Commit:
        """What the platform `kubernetes:one` tells of what runs a Gateway."""
        return self.engine.commit([Change(PROVISIONED, ProvisionedKey(namespace, name, "kubernetes:one"), row)])

    def status(self, kind: str, name: str, namespace: str = "default") -> Status:
        """The status of an object, which must have one."""
        status = self.engine.get(STATUSES, ObjectKey(kind, namespace, name))
        assert status is not None
        return status


def objects(text: str) -> list[Object]:
    """The objects of a YAML text, in the namespace `default` where they name none."""
    found = []
    for document in yaml.safe_load_all(text):
        note(document)
        kind = KINDS[document["kind"]]
        if kind.namespaced:
            document["metadata"].setdefault("namespace", "default")
        found.append(msgspec.convert({"apiVersion": kind.api_version, **document}, kind.struct))
    return found


def declared(item: Object, *, source: str = "files") -> Change:
    """The change by which a source declares an object."""
    key = DeclaredKey(item.kind, item.metadata.namespace, item.metadata.name, source)
    return Change(DECLARED, key, Declared(item, location=f"{source}:{item.metadata.name}"))
