"""What users are told of their objects: Gateway API's conditions, counts, and what an Envoy refused.

Statuses are rows like any other: derived, and written to a platform by its adapter, which owns the times of
transition and the conditions of other controllers. A message names what to mend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from mesh.attachments import ATTACHED, ATTACHMENTS, ListenerKey, Parent
from mesh.backends import Invalid, resolve
from mesh.conditions import Condition
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds import to_json as wire
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.kinds.httproute import HTTPRoute
from mesh.kinds.meta import JSON
from mesh.kinds.references import BackendObjectReference, ParentReference
from mesh.listeners import RouteKind
from mesh.model import REJECTIONS, REJECTIONS_BY_AUDIENCE, REJECTIONS_BY_OBJECT, Audience, ObjectKey, Rejection
from mesh.objects import DECLARED_BY_OBJECT, OBJECTS, SHADOWED, find
from mesh.problems import sentence
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
    shadowed: tuple[str, ...] = ()

    def to_json(self) -> JSON:
        """The wire form, without times of transition: whoever stores a status knows when it changed."""
        status: JSON = {}
        if self.conditions:
            status["conditions"] = self._conditions(self.conditions)
        if self.addresses:
            status["addresses"] = [{"type": "IPAddress", "value": address} for address in self.addresses]
        if self.listeners:
            status["listeners"] = [self._listener(listener) for listener in self.listeners]
        if self.parents:
            status["parents"] = [self._parent(parent) for parent in self.parents]
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


@derived("statuses", each(OBJECTS))
def STATUSES(key: ObjectKey, look: Look) -> Status | None:  # noqa: N802
    """What is said of each object; no row where there is nothing to say (a foreign Gateway, a Namespace)."""
    row = look(OBJECTS, key)
    if row is None:
        return None
    tell = _TELL.get(key.kind)
    status = tell(look, key) if tell is not None else None
    shadowed = tuple(
        f"{at.source}: shadowed by {loser.by}{f' ({loser.location})' if loser.location else ''}"
        for at in look.keys(DECLARED_BY_OBJECT, key)
        if (loser := look(SHADOWED, at)) is not None
    )
    if status is None and not shadowed:
        return None
    generation = row.object.metadata.generation
    return msgspec.structs.replace(status or Status(), observed_generation=generation, shadowed=shadowed)


def _gateway(look: Look, key: ObjectKey) -> Status | None:
    gateway = look(GATEWAYS, GatewayKey(key.namespace, key.name))
    if gateway is None:
        return None
    refused = _refused_listeners(look, key)
    return Status(
        conditions=_with_rejections(look, key, gateway.conditions),
        addresses=gateway.addresses,
        listeners=tuple(
            ListenerStatus(
                name=listener.name,
                attached_routes=look(ATTACHED, ListenerKey(GatewayKey(key.namespace, key.name), listener.name)) or 0,
                supported_kinds=listener.supported_kinds,
                conditions=_rejected(listener.conditions, refused.get(str(listener.port), ())),
            )
            for listener in gateway.listeners
        ),
    )


def _refused_listeners(look: Look, key: ObjectKey) -> Mapping[str, list[Rejection]]:
    """What proxies of a Gateway refused of its ports; Envoy's listeners are named `<address>:<port>`."""
    refused: dict[str, list[Rejection]] = {}
    for sotw in (False, True):
        for at in look.keys(REJECTIONS_BY_AUDIENCE, Audience("gateway", key.namespace, key.name, sotw=sotw)):
            row = look(REJECTIONS, at)
            if row is not None and at.type_url.endswith(".Listener"):
                refused.setdefault(at.name.rpartition(":")[2], []).append(row)
    return refused


def _gateway_class(look: Look, key: ObjectKey) -> Status | None:
    found = find(look, GatewayClass, key)
    if found is None or found.spec.controller_name != CONTROLLER_NAME:
        return None
    ref = found.spec.parameters_ref
    if ref is None:
        return Status(conditions=(Condition("Accepted", True, "Accepted"),))
    said = f"parametersRef names {ref.kind} {ref.name}, but there are no kinds of parameters; remove it."
    return Status(conditions=(Condition("Accepted", False, "InvalidParameters", said),))


def _http_route(look: Look, key: ObjectKey) -> Status | None:
    route = find(look, HTTPRoute, key)
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


def _accepted(parent: Parent, unsupported: str) -> Condition:
    return Condition("Accepted", parent.accepted, parent.reason, parent.message or unsupported)


def _unsupported(route: HTTPRoute) -> str:
    """A sentence on fields of a route that we accept and do not act on, empty where there are none."""
    rules = ", ".join(
        f"rules[{at}]" for at, rule in enumerate(route.spec.rules) if rule.session_persistence is not None
    )
    return f"sessionPersistence is not supported and has no effect: {rules}." if rules else ""


def _resolved(look: Look, key: ObjectKey, route: HTTPRoute) -> Condition:
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


def _references(route: HTTPRoute) -> Iterator[tuple[str, BackendObjectReference | HTTPRouteFilter]]:
    """Everything in a route that refers to something, in the order it is written, with its path."""
    for at, rule in enumerate(route.spec.rules):
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


def _service(look: Look, key: ObjectKey) -> Status:
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
    "HTTPRoute": _http_route,
    "Service": _service,
    "ServiceSubset": _service_subset,
}
