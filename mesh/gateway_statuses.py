"""What is told of Gateways and ListenerSets: their own conditions, and of each listener its conditions and routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mesh.attachments import ATTACHED, ListenerKey
from mesh.conditions import Condition, holds
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.kinds.gateway import Gateway as GatewayObject
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.meta import Object
from mesh.listener_sets import attached_sets, gateway_of
from mesh.listeners import GatewayListener
from mesh.model import (
    ACKNOWLEDGED,
    PROVISIONED,
    REJECTIONS,
    REJECTIONS_BY_GATEWAY,
    WATCHED,
    Acknowledged,
    AcknowledgedKey,
    ObjectKey,
    ProvisionedKey,
    Rejection,
)
from mesh.objects import find
from mesh.provisioning import programmed
from mesh.refused_words import rejected, with_rejections
from mesh.status import ListenerStatus, Status
from mesh.tables import Look


def gateway_status(look: Look, key: ObjectKey) -> Status | None:
    """The status of a Gateway of ours."""
    at = GatewayKey(key.namespace, key.name)
    gateway = look(GATEWAYS, at)
    found = find(look, GatewayObject, key)
    if gateway is None or found is None:
        return None
    served = _served(look, at, gateway)
    asked = found.spec.allowed_listeners is not None
    return Status(
        conditions=with_rejections(look, key, served.of_object(key, found, gateway.conditions)),
        addresses=served.addresses,
        listeners=tuple(_listeners(look, at, gateway.of_set(None), served, found)),
        attached_listener_sets=_accepted_sets(look, found, gateway) if asked else None,
    )


def listener_set_status(look: Look, key: ObjectKey) -> Status | None:
    """The status of a ListenerSet whose Gateway is ours."""
    found = find(look, ListenerSet, key)
    parent = gateway_of(found) if found is not None else None
    at = GatewayKey(parent.namespace, parent.name) if parent is not None else None
    gateway = look(GATEWAYS, at) if at is not None else None
    if found is None or parent is None or at is None or gateway is None:
        return None
    own = gateway.of_set(key)
    if not own:
        said = f"{parent} does not take ListenerSets of namespace {key.namespace} (see its allowedListeners)."
        return Status(conditions=_both(False, "NotAllowed", said))
    served = _served(look, at, gateway)
    if not gateway.accepted and not any(listener.accepted for listener in gateway.of_set(None)):
        conditions = _both(False, "ParentNotAccepted", f"{parent} is not accepted.")
    else:
        conditions = served.of_object(key, found, _set_conditions(own))
    return Status(
        conditions=with_rejections(look, key, conditions),
        listeners=tuple(_listeners(look, at, own, served, found)),
    )


def _set_conditions(own: tuple[GatewayListener, ...]) -> tuple[Condition, ...]:
    wrong = ", ".join(listener.section for listener in own if not listener.programmed)
    served = any(listener.programmed for listener in own)
    if not wrong:
        return Condition("Accepted", True, "Accepted"), Condition("Programmed", True, "Programmed")
    said = f"Listeners that are not served: {wrong}. The conditions of each say why."
    if not served:
        return _both(False, "ListenersNotValid", said)
    return Condition("Accepted", True, "ListenersNotValid", said), Condition("Programmed", True, "Programmed")


def _both(status: bool, reason: str, said: str) -> tuple[Condition, ...]:
    return Condition("Accepted", status, reason, said), Condition("Programmed", status, reason, said)


def _accepted_sets(look: Look, found: GatewayObject, gateway: Gateway) -> int:
    keys = (ObjectKey("ListenerSet", one.metadata.namespace, one.metadata.name) for one in attached_sets(look, found))
    return sum(1 for key in keys if any(listener.programmed for listener in gateway.of_set(key)))


def _listeners(
    look: Look, at: GatewayKey, listeners: Sequence[GatewayListener], served: Served, owner: Object
) -> Iterable[ListenerStatus]:
    refused = _refused_listeners(look, at)
    for listener in listeners:
        yield ListenerStatus(
            name=listener.section,
            attached_routes=look(ATTACHED, ListenerKey(at, listener.name)) or 0,
            supported_kinds=listener.supported_kinds,
            conditions=rejected(
                served.of_listener(listener, owner) if listener.programmed else listener.conditions,
                refused.get(listener.place, ()),
            ),
        )


class Served(msgspec.Struct, frozen=True):
    """How far a Gateway is served: what keeps all of it from being so, its addresses, and what its proxies have taken.

    `taken` is None where nobody watches them, or none of them is known to us.
    """

    pending: Condition | None
    addresses: tuple[str, ...]
    taken: Acknowledged | None = None

    def of_object(self, key: ObjectKey, found: Object, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        """The conditions of the Gateway or a ListenerSet, which say that it is served as far as that is so."""
        if self.pending is not None or self.taken is None or not holds(conditions, "Programmed"):
            return _but(conditions, self.pending)
        generation = self.taken.generation(key)
        if generation is None:
            return _but(conditions, _UNTAKEN)
        return _of_generation(conditions, generation, found)

    def of_listener(self, listener: GatewayListener, owner: Object) -> tuple[Condition, ...]:
        """The same of a listener that can be served."""
        if self.pending is not None:
            return _but(listener.conditions, msgspec.structs.replace(self.pending, reason="Pending"))
        if self.taken is None:
            return listener.conditions
        generation = self.taken.generation(ObjectKey(owner.kind, owner.metadata.namespace, owner.metadata.name))
        if generation is None or listener.name not in self.taken.listeners:
            return _but(listener.conditions, _UNTAKEN)
        return _of_generation(listener.conditions, generation, owner)


_UNTAKEN = Condition("Programmed", False, "Pending", "Its proxies have not taken it yet.")
_NOBODY = Condition(
    "Programmed", False, "Pending", "No proxy has taken it yet; start one with `fairlead envoy gateway`, or look at it."
)


def _of_generation(conditions: tuple[Condition, ...], generation: int, found: Object) -> tuple[Condition, ...]:
    """The conditions, of which Programmed holds of an earlier generation where that is what proxies have taken."""
    if generation == found.metadata.generation:
        return conditions
    return tuple(
        msgspec.structs.replace(one, generation=generation) if one.type == "Programmed" else one for one in conditions
    )


def _served(look: Look, key: GatewayKey, gateway: Gateway) -> Served:
    """How far a Gateway is served.

    Where a platform runs its proxies and none of them is connected here, those that are ready are connected to another
    replica, and what is ready there counts.
    """
    taken = look(ACKNOWLEDGED, AcknowledgedKey(*key))
    if not gateway.platform:
        nobody = taken is None and look(ACKNOWLEDGED, WATCHED) is not None and holds(gateway.conditions, "Programmed")
        return Served(_NOBODY if nobody else None, gateway.addresses, taken)
    row = look(PROVISIONED, ProvisionedKey(key.namespace, key.name, gateway.platform))
    addresses = row.addresses if row is not None else ()
    if not holds(gateway.conditions, "Programmed"):
        return Served(None, addresses)
    condition = programmed(row, gateway.requested)
    return Served(None if condition.status else condition, addresses, taken)


def _but(conditions: tuple[Condition, ...], instead: Condition | None) -> tuple[Condition, ...]:
    """The conditions, with one of them told otherwise."""
    if instead is None:
        return conditions
    return tuple(instead if condition.type == instead.type else condition for condition in conditions)


def _refused_listeners(look: Look, key: GatewayKey) -> Mapping[tuple[int, bool], list[Rejection]]:
    """What proxies of a Gateway refused of its ports; Envoy's listeners are named `<address>:<port>`, or so `/udp`."""
    refused: dict[tuple[int, bool], list[Rejection]] = {}
    for at in look.keys(REJECTIONS_BY_GATEWAY, (key.namespace, key.name)):
        row = look(REJECTIONS, at)
        if row is not None and at.type_url.endswith(".Listener"):
            port, _, udp = at.name.rpartition(":")[2].partition("/")
            if port.isdigit():
                refused.setdefault((int(port), bool(udp)), []).append(row)
    return refused
