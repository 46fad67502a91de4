"""What users are told of their objects: Gateway API's conditions, counts, and what an Envoy refused.

Statuses are rows like any other: derived, and written to a platform by its adapter, which owns the times of
transition and the conditions of other controllers. A message names what to mend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from mesh import features
from mesh.attachments import ATTACHMENTS, ROUTES, Parent
from mesh.attachments import parent as attached_parent
from mesh.backend_tls import target, tls_policy_conditions
from mesh.backends import Invalid, resolve
from mesh.conditions import Condition
from mesh.definitions import serves_experimental, supported_version
from mesh.external_auth import authorizer
from mesh.gateway_statuses import gateway_status, listener_set_status
from mesh.gateways import is_ours
from mesh.kinds.backendtlspolicy import BackendTLSPolicy
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.kinds.meta import Object
from mesh.kinds.references import BackendObjectReference, ParentReference
from mesh.model import (
    Declared,
    DeclaredKey,
    ObjectKey,
)
from mesh.objects import DECLARED_BY_OBJECT, OBJECTS, SHADOWED, Shadowed, find, source_of
from mesh.peer_authentication import peer_authentication_conditions
from mesh.policy_statuses import (
    client_policy_conditions,
    envoy_patch_conditions,
    request_authentication_conditions,
    route_policy_conditions,
    telemetry_policy_conditions,
    traffic_policy_conditions,
)
from mesh.provisioning import class_parameters_problem
from mesh.references import gateways_of
from mesh.refusals import REFUSED, Refused, refusal
from mesh.refused_words import with_rejections
from mesh.request_routes import RequestRoute, declared_request_route
from mesh.rollout_statuses import rollout_status
from mesh.routes import Route, find_stream_route
from mesh.services import SERVICES, SUBSETS, SubsetKey
from mesh.status import AncestorStatus, ParentStatus, Status
from mesh.tables import Look, derived, each
from mesh.tries import untimely_rules


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
    if key.kind == "ListenerSet" and status is None:
        return None  # nobody knows whose Gateway it would be of
    if key.kind == "GatewayClass" and why.controller != CONTROLLER_NAME:
        return None
    accepted = Condition("Accepted", False, "Invalid", said)
    if before.ancestors:
        told = tuple(
            AncestorStatus(one.ref, (accepted, *_of_type(one.conditions, "ResolvedRefs"))) for one in before.ancestors
        )
        return Status(observed_generation=why.generation, ancestors=told)
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
    if told.ancestors:
        ancestors = tuple(AncestorStatus(one.ref, (accepted,)) for one in told.ancestors)
        return Status(observed_generation=generation, ancestors=ancestors)
    if not told.conditions:
        return None
    programmed_too = (Condition("Programmed", False, "Invalid", said),) if loser.kind == "Gateway" else ()
    return Status(observed_generation=generation, conditions=(accepted, *programmed_too))


def _of_type(conditions: Iterable[Condition], kind: str) -> tuple[Condition, ...]:
    return tuple(condition for condition in conditions if condition.type == kind)


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
    route = declared_request_route(look, key)
    attachment = look(ATTACHMENTS, key)
    if route is None or attachment is None:
        return None
    resolved = _resolved(look, key, route)
    idle = untimely_rules(look, key, route)
    return Status(
        parents=tuple(
            ParentStatus(parent.ref, with_rejections(look, key, (_accepted(parent, idle), resolved)))
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
            ParentStatus(parent.ref, with_rejections(look, key, (_accepted(parent), resolved)))
            for parent in attachment.parents
        )
    )


def _backend_tls_policy(look: Look, key: ObjectKey) -> Status | None:
    """Told by each Gateway that reaches a target; by the targets themselves where none does."""
    policy = find(look, BackendTLSPolicy, key)
    if policy is None:
        return None
    conditions = with_rejections(look, key, tls_policy_conditions(look, key))
    targets = [(ref, target(key.namespace, ref)) for ref in policy.spec.target_refs]
    gateways = sorted(
        {
            gateway
            for _, at in targets
            if at is not None
            for gateway in gateways_of(look, at.service, outside=at.outside)
        }
    )
    refs = [ParentReference(name=gateway.name, namespace=gateway.namespace) for gateway in gateways]
    if not refs:
        refs = [ParentReference(group=ref.group, kind=ref.kind, name=ref.name) for ref, _ in targets]
    return Status(ancestors=tuple(AncestorStatus(ref, conditions) for ref in dict.fromkeys(refs)))


def _backends_resolved(
    look: Look, key: ObjectKey, references: Iterable[tuple[str, BackendObjectReference]]
) -> Condition:
    """Whether all backends can be had; else the first that cannot, with its place."""
    for path, ref in references:
        backend = resolve(look, route=key, ref=ref)
        if isinstance(backend, Invalid):
            return Condition("ResolvedRefs", False, backend.reason, f"{path}: {backend.message}")
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def _accepted(parent: Parent, idle: str = "") -> Condition:
    """Whether a parent takes a route; `idle` is what to know of a route that is taken."""
    return Condition("Accepted", parent.accepted, parent.reason, parent.message or (idle if parent.accepted else ""))


def _resolved(look: Look, key: ObjectKey, route: RequestRoute) -> Condition:
    """Whether all references of a route lead somewhere; else the first that does not, with its place."""
    for path, ref in _references(route):
        if isinstance(ref, BackendObjectReference):
            backend = resolve(look, route=key, ref=ref)
            if isinstance(backend, Invalid):
                return Condition("ResolvedRefs", False, backend.reason, f"{path}: {backend.message}")
        elif ref.external_auth is not None:
            asked = authorizer(look, key, ref.external_auth)
            if isinstance(asked, Invalid):
                return Condition("ResolvedRefs", False, asked.reason, f"{path}: {asked.message}")
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
        elif item.external_auth is not None:
            yield f"{path}[{at}].externalAuth.backendRef", item
        elif item.extension_ref is not None:
            yield f"{path}[{at}].extensionRef", item


def _plain(look: Look, key: ObjectKey) -> Status:
    """The status of a kind that is right wherever it is valid."""
    return Status(conditions=with_rejections(look, key, (Condition("Accepted", True, "Accepted"),)))


def _service_subset(look: Look, key: ObjectKey) -> Status | None:
    subset = look(SUBSETS, SubsetKey(key.namespace, key.name))
    if subset is None:
        return None
    if look(SERVICES, subset.service) is not None:
        resolved = Condition("ResolvedRefs", True, "ResolvedRefs")
    else:
        said = f"Service {subset.service.namespace}/{subset.service.name} does not exist."
        resolved = Condition("ResolvedRefs", False, "BackendNotFound", said)
    return Status(conditions=with_rejections(look, key, (Condition("Accepted", True, "Accepted"), resolved)))


def _by(conditions: Callable[[Look, ObjectKey], tuple[Condition, ...]]) -> Callable[[Look, ObjectKey], Status]:
    """The status of a kind of which nothing but conditions is told."""
    return lambda look, key: Status(conditions=with_rejections(look, key, conditions(look, key)))


_TELL: Mapping[str, Callable[[Look, ObjectKey], Status | None]] = {
    "Backend": _plain,
    "BackendTLSPolicy": _backend_tls_policy,
    "Gateway": gateway_status,
    "GatewayClass": _gateway_class,
    "GatewayParameters": _plain,
    "GRPCRoute": _request_route,
    "HTTPRoute": _request_route,
    "ListenerSet": listener_set_status,
    "Rollout": rollout_status,
    "Service": _plain,
    "TCPRoute": _stream_route,
    "TLSRoute": _stream_route,
    "UDPRoute": _stream_route,
    "ServiceSubset": _service_subset,
    "PeerAuthentication": _by(peer_authentication_conditions),
    "RequestAuthentication": _by(request_authentication_conditions),
    "ClientPolicy": _by(client_policy_conditions),
    "EnvoyPatch": _by(envoy_patch_conditions),
    "RoutePolicy": _by(route_policy_conditions),
    "TelemetryPolicy": _by(telemetry_policy_conditions),
    "TrafficPolicy": _by(traffic_policy_conditions),
}

KINDS_WITH_STATUS = frozenset(_TELL)
"""The kinds of which something is said beside who shadows them."""
