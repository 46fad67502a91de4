"""What users are told of their objects: Gateway API's conditions, counts, and what an Envoy refused.

Statuses are rows like any other: derived, and written to a platform by its adapter, which owns the times of
transition and the conditions of other controllers. A message names what to mend.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from mesh import features
from mesh.attachments import ATTACHED, ATTACHMENTS, ROUTES, ListenerKey, Parent
from mesh.attachments import parent as attached_parent
from mesh.backends import Invalid, resolve
from mesh.conditions import Condition, holds
from mesh.definitions import serves_experimental, supported_version
from mesh.gateways import GATEWAYS, Gateway, GatewayKey, is_ours
from mesh.kinds import to_json as wire
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.kinds.meta import JSON, Object
from mesh.kinds.references import BackendObjectReference, ParentReference
from mesh.listeners import RouteKind
from mesh.model import (
    PROVISIONED,
    REJECTIONS,
    REJECTIONS_BY_GATEWAY,
    REJECTIONS_BY_OBJECT,
    Declared,
    DeclaredKey,
    ObjectKey,
    ProvisionedKey,
    Rejection,
)
from mesh.objects import DECLARED_BY_OBJECT, OBJECTS, SHADOWED, Shadowed, find, source_of
from mesh.peer_authentication import peer_authentication_conditions
from mesh.policy_statuses import (
    client_policy_conditions,
    route_policy_conditions,
    telemetry_policy_conditions,
    traffic_policy_conditions,
)
from mesh.problems import sentence
from mesh.provisioning import class_parameters_problem, programmed
from mesh.refusals import REFUSED, Refused, refusal
from mesh.request_routes import RequestRoute, find_request_route
from mesh.routes import Route, find_stream_route
from mesh.services import SERVICES, SUBSETS, SubsetKey
from mesh.tables import Look, derived, each


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


class Status(msgspec.Struct, frozen=True):
    """What is said of an object of that generation; `shadowed` are declarations of it that do not count."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[str, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()
    parents: tuple[ParentStatus, ...] = ()
    supported_features: tuple[str, ...] = ()
    shadowed: tuple[str, ...] = ()

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
        if self.supported_features:
            status["supportedFeatures"] = [{"name": name} for name in self.supported_features]
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
                "observedGeneration": self.observed_generation,
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


def _address_type(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "Hostname"
    return "IPAddress"


def _object(key: DeclaredKey, _row: Refused) -> tuple[ObjectKey]:
    return (ObjectKey(key.kind, key.namespace, key.name),)


@derived("statuses", each(OBJECTS), each(REFUSED, _object))
def STATUSES(key: ObjectKey, look: Look) -> Status | None:  # noqa: N802
    """What is said of each object; no row where there is nothing to say (a foreign Gateway, a Namespace)."""
    row = look(OBJECTS, key)
    tell = _TELL.get(key.kind)
    status = tell(look, key) if tell is not None and row is not None else None
    if tell is not None and (why := refusal(look, key)) is not None:
        return _refused(look, key, status, row, why)
    if row is None:
        return None
    shadowed = tuple(
        f"{at.source}: shadowed by {loser.by}{f' ({loser.location})' if loser.location else ''}"
        for at in look.keys(DECLARED_BY_OBJECT, key)
        if (loser := look(SHADOWED, at)) is not None
    )
    if status is None and not shadowed:
        return None
    generation = row.object.metadata.generation
    return msgspec.structs.replace(status or Status(), observed_generation=generation, shadowed=shadowed)


def _refused(look: Look, key: ObjectKey, status: Status | None, row: Declared | None, why: Refused) -> Status | None:
    """What is said of an object whose present form was refused: that, beside what holds of its last good form."""
    standing = f"Generation {row.object.metadata.generation} stands." if row is not None else "It has no effect."
    said = f"{why.words} {standing}"
    before = status or Status()
    if key.kind in ROUTES:
        accepted = Condition("Accepted", False, "UnsupportedValue", said)
        resolved = {parent.ref: _of_type(parent.conditions, "ResolvedRefs") for parent in before.parents}
        return Status(
            observed_generation=why.generation,
            parents=tuple(
                ParentStatus(ref, (accepted, *resolved.get(ref, ())))
                for ref in why.parents
                if attached_parent(look, key, ref, ()) is not None
            ),
        )
    if key.kind == "Gateway" and not is_ours(look, why.class_name):
        return None
    if key.kind == "GatewayClass" and why.controller != CONTROLLER_NAME:
        return None
    accepted = Condition("Accepted", False, "Invalid", said)
    rest = tuple(condition for condition in before.conditions if condition.type != "Accepted")
    if key.kind == "Gateway" and not rest:
        rest = (Condition("Programmed", False, "Invalid", said),)
    return msgspec.structs.replace(before, observed_generation=why.generation, conditions=(accepted, *rest))


def shadowed_status(told: Status, loser: Object, by: Shadowed) -> Status | None:
    """What a declaration of an object is told that does not count, where it can be told; `told` is the object's own."""
    at = f" ({by.location})" if by.location else ""
    said = f"{by.by} declares it too and comes first{at}; this declaration has no effect. Rename or remove one."
    accepted = Condition("Accepted", False, "Shadowed", said)
    generation = loser.metadata.generation
    if isinstance(loser, Route):
        ours = {parent.ref for parent in told.parents}
        refs = (ref for ref in loser.spec.parent_refs if ref in ours)
        return Status(observed_generation=generation, parents=tuple(ParentStatus(ref, (accepted,)) for ref in refs))
    if not told.conditions:
        return None
    programmed_too = (Condition("Programmed", False, "Invalid", said),) if loser.kind == "Gateway" else ()
    return Status(observed_generation=generation, conditions=(accepted, *programmed_too))


def _of_type(conditions: Iterable[Condition], kind: str) -> tuple[Condition, ...]:
    return tuple(condition for condition in conditions if condition.type == kind)


def _gateway(look: Look, key: ObjectKey) -> Status | None:
    gateway = look(GATEWAYS, GatewayKey(key.namespace, key.name))
    if gateway is None:
        return None
    refused = _refused_listeners(look, key)
    pending, addresses = _run_by_platform(look, key, gateway)
    waiting = msgspec.structs.replace(pending, reason="Pending") if pending is not None else None
    return Status(
        conditions=_with_rejections(look, key, _but(gateway.conditions, pending)),
        addresses=addresses,
        listeners=tuple(
            ListenerStatus(
                name=listener.name,
                attached_routes=look(ATTACHED, ListenerKey(GatewayKey(key.namespace, key.name), listener.name)) or 0,
                supported_kinds=listener.supported_kinds,
                conditions=_rejected(
                    _but(listener.conditions, waiting) if listener.programmed else listener.conditions,
                    refused.get(listener.place, ()),
                ),
            )
            for listener in gateway.listeners
        ),
    )


def _run_by_platform(look: Look, key: ObjectKey, gateway: Gateway) -> tuple[Condition | None, tuple[str, ...]]:
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


def _refused_listeners(look: Look, key: ObjectKey) -> Mapping[tuple[int, bool], list[Rejection]]:
    """What proxies of a Gateway refused of its ports; Envoy's listeners are named `<address>:<port>`, or so `/udp`."""
    refused: dict[tuple[int, bool], list[Rejection]] = {}
    for at in look.keys(REJECTIONS_BY_GATEWAY, (key.namespace, key.name)):
        row = look(REJECTIONS, at)
        if row is not None and at.type_url.endswith(".Listener"):
            port, _, udp = at.name.rpartition(":")[2].partition("/")
            if port.isdigit():
                refused.setdefault((int(port), bool(udp)), []).append(row)
    return refused


def _gateway_class(look: Look, key: ObjectKey) -> Status | None:
    found = find(look, GatewayClass, key)
    if found is None or found.spec.controller_name != CONTROLLER_NAME:
        return None
    source = source_of(look, key)
    version = supported_version(look, source)
    return Status(
        conditions=(_class_accepted(look, found), *((version,) if version is not None else ())),
        supported_features=features.names(experimental=serves_experimental(look, source)),
    )


def _class_accepted(look: Look, found: GatewayClass) -> Condition:
    said = class_parameters_problem(look, found)
    if not said:
        return Condition("Accepted", True, "Accepted")
    return Condition("Accepted", False, "InvalidParameters", said)


def _request_route(look: Look, key: ObjectKey) -> Status | None:
    route = find_request_route(look, key)
    attachment = look(ATTACHMENTS, key)
    if route is None or attachment is None:
        return None
    resolved = _resolved(look, key, route)
    unsupported = _unsupported(route)
    return Status(
        parents=tuple(
            ParentStatus(parent.ref, _with_rejections(look, key, (_accepted(parent, unsupported), resolved)))
            for parent in attachment.parents
        )
    )


def _stream_route(look: Look, key: ObjectKey) -> Status | None:
    route = find_stream_route(look, key)
    attachment = look(ATTACHMENTS, key)
    if route is None or attachment is None:
        return None
    refs = ((f"spec.rules[0].backendRefs[{at}]", ref) for at, ref in enumerate(route.spec.rules[0].backend_refs))
    resolved = _backends_resolved(look, key, refs)
    return Status(
        parents=tuple(
            ParentStatus(parent.ref, _with_rejections(look, key, (_accepted(parent, ""), resolved)))
            for parent in attachment.parents
        )
    )


def _backends_resolved(
    look: Look, key: ObjectKey, references: Iterable[tuple[str, BackendObjectReference]]
) -> Condition:
    """Whether all backends can be had; else the first that cannot, with its place."""
    for path, ref in references:
        backend = resolve(look, route=key, ref=ref)
        if isinstance(backend, Invalid):
            return Condition("ResolvedRefs", False, backend.reason, f"{path}: {backend.message}")
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def _accepted(parent: Parent, unsupported: str) -> Condition:
    return Condition("Accepted", parent.accepted, parent.reason, parent.message or unsupported)


def _unsupported(route: RequestRoute) -> str:
    """A sentence on fields of a route that we accept and do not act on, empty where there are none."""
    rules = ", ".join(f"rules[{at}]" for at, rule in enumerate(route.rules) if rule.session_persistence is not None)
    return f"sessionPersistence is not supported and has no effect: {rules}." if rules else ""


def _resolved(look: Look, key: ObjectKey, route: RequestRoute) -> Condition:
    """Whether all references of a route lead somewhere; else the first that does not, with its place."""
    for path, ref in _references(route):
        if isinstance(ref, BackendObjectReference):
            backend = resolve(look, route=key, ref=ref)
            if isinstance(backend, Invalid):
                return Condition("ResolvedRefs", False, backend.reason, f"{path}: {backend.message}")
        elif ref.extension_ref is not None:
            said = f"{path}: {ref.extension_ref.kind} {ref.extension_ref.name} is of a kind that is not supported."
            return Condition("ResolvedRefs", False, "InvalidKind", said)
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def _references(route: RequestRoute) -> Iterator[tuple[str, BackendObjectReference | HTTPRouteFilter]]:
    """Everything in a route that refers to something, in the order it is written, with its path."""
    for at, rule in enumerate(route.rules):
        yield from _filter_references(f"spec.rules[{at}].filters", rule.filters)
        for number, backend in enumerate(rule.backend_refs):
            path = f"spec.rules[{at}].backendRefs[{number}]"
            yield path, backend
            yield from _filter_references(f"{path}.filters", backend.filters)


def _filter_references(
    path: str, filters: tuple[HTTPRouteFilter, ...]
) -> Iterator[tuple[str, BackendObjectReference | HTTPRouteFilter]]:
    for at, item in enumerate(filters):
        if item.request_mirror is not None:
            yield f"{path}[{at}].requestMirror.backendRef", item.request_mirror.backend_ref
        elif item.extension_ref is not None:
            yield f"{path}[{at}].extensionRef", item


def _plain(look: Look, key: ObjectKey) -> Status:
    """The status of a kind that is right wherever it is valid."""
    return Status(conditions=_with_rejections(look, key, (Condition("Accepted", True, "Accepted"),)))


def _service_subset(look: Look, key: ObjectKey) -> Status | None:
    subset = look(SUBSETS, SubsetKey(key.namespace, key.name))
    if subset is None:
        return None
    if look(SERVICES, subset.service) is not None:
        resolved = Condition("ResolvedRefs", True, "ResolvedRefs")
    else:
        said = f"Service {subset.service.namespace}/{subset.service.name} does not exist."
        resolved = Condition("ResolvedRefs", False, "BackendNotFound", said)
    return Status(conditions=_with_rejections(look, key, (Condition("Accepted", True, "Accepted"), resolved)))


def _by(conditions: Callable[[Look, ObjectKey], tuple[Condition, ...]]) -> Callable[[Look, ObjectKey], Status]:
    """The status of a kind of which nothing but conditions is told."""
    return lambda look, key: Status(conditions=_with_rejections(look, key, conditions(look, key)))


def _with_rejections(look: Look, key: ObjectKey, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions of an object, and what Envoys refused of what came of it."""
    return _rejected(conditions, look.rows(REJECTIONS_BY_OBJECT, key))


def _rejected(conditions: tuple[Condition, ...], rejections: Sequence[Rejection]) -> tuple[Condition, ...]:
    """The conditions, and where an Envoy refused something, that it did, in its words."""
    if not rejections:
        return conditions
    first = rejections[0]
    if not first.everywhere:
        standing = "It goes without; other proxies are given it."
    else:
        standing = "The last good version stands." if first.last_good is not None else "It is withheld."
    others = f" So did {len(rejections) - 1} more." if len(rejections) > 1 else ""
    said = f"{first.node} refused it: {sentence(first.detail)} {standing}{others}"
    rejected = Condition("Programmed", False, "Rejected", said)
    return (*(condition for condition in conditions if condition.type != "Programmed"), rejected)


_TELL: Mapping[str, Callable[[Look, ObjectKey], Status | None]] = {
    "Gateway": _gateway,
    "GatewayClass": _gateway_class,
    "GatewayParameters": _plain,
    "GRPCRoute": _request_route,
    "HTTPRoute": _request_route,
    "Service": _plain,
    "TCPRoute": _stream_route,
    "TLSRoute": _stream_route,
    "UDPRoute": _stream_route,
    "ServiceSubset": _service_subset,
    "PeerAuthentication": _by(peer_authentication_conditions),
    "ClientPolicy": _by(client_policy_conditions),
    "RoutePolicy": _by(route_policy_conditions),
    "TelemetryPolicy": _by(telemetry_policy_conditions),
    "TrafficPolicy": _by(traffic_policy_conditions),
}

KINDS_WITH_STATUS = frozenset(_TELL)
"""The kinds of which something is said beside who shadows them."""
