"""What a status holds, and its wire form: conditions, and what is told of listeners, parents and ancestors."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from mesh.conditions import Condition
from mesh.kinds import to_json as wire
from mesh.kinds.gatewayclass import CONTROLLER_NAME
from mesh.kinds.meta import JSON
from mesh.kinds.references import ParentReference
from mesh.listeners import RouteKind
from mesh.model import RolloutState
from mesh.rollout_json import rollout_to_json


class ListenerStatus(msgspec.Struct, frozen=True):
    """`status.listeners[]` of a Gateway."""

    name: str
    attached_routes: int
    supported_kinds: tuple[RouteKind, ...]
    conditions: tuple[Condition, ...]


class ParentStatus(msgspec.Struct, frozen=True):
    """`status.parents[]` of a route."""

    ref: ParentReference
    conditions: tuple[Condition, ...]


class AncestorStatus(msgspec.Struct, frozen=True):
    """`status.ancestors[]` of a policy of Gateway API."""

    ref: ParentReference
    conditions: tuple[Condition, ...]


class Status(msgspec.Struct, frozen=True):
    """What is said of an object of that generation; `shadowed` are declarations of it that do not count."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[str, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()
    parents: tuple[ParentStatus, ...] = ()
    ancestors: tuple[AncestorStatus, ...] = ()
    attached_listener_sets: int | None = None
    supported_features: tuple[str, ...] = ()
    shadowed: tuple[str, ...] = ()
    rollout: RolloutState | None = None

    def to_json(self) -> JSON:
        """The wire form, without times of transition: whoever stores a status knows when it changed."""
        status: JSON = {}
        if self.conditions:
            status["conditions"] = self._conditions(self.conditions)
        if self.addresses:
            status["addresses"] = [{"type": _address_type(address), "value": address} for address in self.addresses]
        if self.listeners:
            status["listeners"] = [self._listener(listener) for listener in self.listeners]
        if self.parents:
            status["parents"] = [self._parent(parent) for parent in self.parents]
        if self.attached_listener_sets is not None:
            status["attachedListenerSets"] = self.attached_listener_sets
        if self.ancestors:
            status["ancestors"] = [self._ancestor(ancestor) for ancestor in self.ancestors]
        if self.supported_features:
            status["supportedFeatures"] = [{"name": name} for name in self.supported_features]
        if self.rollout is not None:
            status["rollout"] = rollout_to_json(self.rollout)
        if self.shadowed:
            status["shadowed"] = list(self.shadowed)
        return status

    def _conditions(self, conditions: Iterable[Condition]) -> list[JSON]:
        return [
            {
                "type": condition.type,
                "status": "True" if condition.status else "False",
                "reason": condition.reason,
                "message": condition.message,
                "observedGeneration": self.observed_generation
                if condition.generation is None
                else condition.generation,
            }
            for condition in conditions
        ]

    def _listener(self, listener: ListenerStatus) -> JSON:
        return {
            "name": listener.name,
            "attachedRoutes": listener.attached_routes,
            "supportedKinds": [{"group": kind.group, "kind": kind.kind} for kind in listener.supported_kinds],
            "conditions": self._conditions(listener.conditions),
        }

    def _parent(self, parent: ParentStatus) -> JSON:
        return {
            "parentRef": wire(parent.ref),
            "controllerName": CONTROLLER_NAME,
            "conditions": self._conditions(parent.conditions),
        }

    def _ancestor(self, ancestor: AncestorStatus) -> JSON:
        return {
            "ancestorRef": {"group": ancestor.ref.group, "kind": ancestor.ref.kind, **wire(ancestor.ref)},
            "controllerName": CONTROLLER_NAME,
            "conditions": self._conditions(ancestor.conditions),
        }


def _address_type(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "Hostname"
    return "IPAddress"
