"""What is told of Gateways and ListenerSets: their own conditions, and of each listener its conditions and routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mesh.attachments import ATTACHED, ListenerKey
from mesh.conditions import Condition, holds
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.kinds.gateway import Gateway as GatewayObject
from mesh.kinds.listenerset import ListenerSet
from mesh.listener_sets import attached_sets, gateway_of
from mesh.listeners import GatewayListener
from mesh.model import PROVISIONED, REJECTIONS, REJECTIONS_BY_GATEWAY, ObjectKey, ProvisionedKey, Rejection
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
    pending, addresses = _run_by_platform(look, at, gateway)
    asked = found.spec.allowed_listeners is not None
    return Status(
        conditions=with_rejections(look, key, _but(gateway.conditions, pending)),
        addresses=addresses,
        listeners=tuple(_listeners(look, at, gateway.of_set(None), pending)),
        attached_listener_sets=_accepted_sets(look, found, gateway) if asked else None,
    )


def listener_set_status(look: Look, key: ObjectKey) -> Status | None:
    """The status of a ListenerSet whose Gateway is ours."""
    found = find(look, ListenerSet, key)
    parent = gateway_of(found) if found is not None else None
    at = GatewayKey(parent.namespace, parent.name) if parent is not None else None
    gateway = look(GATEWAYS, at) if at is not None else None
    if parent is None or at is None or gateway is None:
        return None
    own = gateway.of_set(key)
    if not own:
        said = f"{parent} does not take ListenerSets of namespace {key.namespace} (see its allowedListeners)."
        return Status(conditions=_both(False, "NotAllowed", said))
    pending, _ = _run_by_platform(look, at, gateway)
    if not gateway.accepted and not any(listener.accepted for listener in gateway.of_set(None)):
        conditions = _both(False, "ParentNotAccepted", f"{parent} is not accepted.")
    else:
        conditions = _but(_set_conditions(own), pending)
    return Status(
        conditions=with_rejections(look, key, conditions),
        listeners=tuple(_listeners(look, at, own, pending)),
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
    look: Look, at: GatewayKey, listeners: Sequence[GatewayListener], pending: Condition | None
) -> Iterable[ListenerStatus]:
    refused = _refused_listeners(look, at)
    waiting = msgspec.structs.replace(pending, reason="Pending") if pending is not None else None
    for listener in listeners:
        yield ListenerStatus(
            name=listener.section,
            attached_routes=look(ATTACHED, ListenerKey(at, listener.name)) or 0,
            supported_kinds=listener.supported_kinds,
            conditions=rejected(
                _but(listener.conditions, waiting) if listener.programmed else listener.conditions,
                refused.get(listener.place, ()),
            ),
        )


def _run_by_platform(look: Look, key: GatewayKey, gateway: Gateway) -> tuple[Condition | None, tuple[str, ...]]:
    """What keeps a Gateway that a platform runs from being programmed, and its addresses; nothing of any other."""
    if not gateway.platform:
        return None, gateway.addresses
    row = look(PROVISIONED, ProvisionedKey(key.namespace, key.name, gateway.platform))
    addresses = row.addresses if row is not None else ()
    if not holds(gateway.conditions, "Programmed"):
        return None, addresses
    condition = programmed(row, gateway.requested)
    return (None if condition.status else condition), addresses


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
