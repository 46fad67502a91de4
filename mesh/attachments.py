"""What each route attaches to: listeners of Gateways, or Services, as its parentRefs ask and the parents allow.

One row per route, so that a changed route recomputes its own row only; who wants the routes of a listener, a host or
a service reads the indexes here. A Gateway of another controller is none of our business: no result is given for it.
Nor is a parent that nobody here knows, where other controllers are at work (they have a GatewayClass): it may be theirs
tomorrow. Where there is none, it is a mistake, and is told.

HTTPRoutes and GRPCRoutes cannot share a hostname of a listener: of two that would, the older one has it
(GRPCRouteSpec.hostnames). So there is a proposal for each route first, then for each listener who loses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.gateways import GATEWAYS, GatewayKey
from mesh.hostnames import ANY, intersection, wider
from mesh.kinds.gatewayclass import CONTROLLER_NAME, GatewayClass
from mesh.kinds.grpcroute import GRPCRoute
from mesh.kinds.httproute import HTTPRoute
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.references import FAIRLEAD, GATEWAY_API, ParentReference
from mesh.listener_sets import gateway_of
from mesh.listeners import GatewayListener, allows
from mesh.model import Declared, ObjectKey, ServiceKey
from mesh.objects import OBJECTS, find
from mesh.precedence import Age, age
from mesh.request_routes import REQUEST_KINDS
from mesh.routes import ROUTE_TYPES, STREAM_KINDS, find_route, hostnames
from mesh.services import SERVICES
from mesh.tables import Look, Reader, derived, each

ROUTES = tuple(ROUTE_TYPES)


class ListenerKey(NamedTuple):
    """A listener of a Gateway."""

    gateway: GatewayKey
    listener: str


class HostKey(NamedTuple):
    """A hostname under which routes answer on a listener; empty where any host is meant."""

    gateway: GatewayKey
    listener: str
    hostname: str


class ConsumerKey(NamedTuple):
    """A service as the clients of one namespace see it."""

    namespace: str
    service: ServiceKey


class AttachedListener(msgspec.Struct, frozen=True):
    """A listener that a route is attached to, and the hostnames under which it answers there (sorted).

    The hostnames are the intersection of the listener's and the route's; an empty one means any host. `ranks` has for
    each how much wider the route's own hostname is; empty where none is.
    """

    gateway: GatewayKey
    listener: str
    hostnames: tuple[str, ...]
    ranks: tuple[int, ...] = ()

    def rank(self, hostname: str) -> int:
        """Where the route stands among those for one of its hostnames: 0 if it names it, more if it names a wider one.

        What a route itself names decides before anything that it matches (HTTPRouteSpec.hostnames in v1.7, feature
        GatewayRouteHostnameIntersectionPrecedence).
        """
        return self.ranks[self.hostnames.index(hostname)] if self.ranks else 0


class Parent(msgspec.Struct, frozen=True):
    """What came of one parentRef. `reason` is a word of Gateway API for the condition Accepted.

    Either `listeners` is not empty, or `service` is set (with `port`, 0 for all its ports), or it was not accepted.
    """

    ref: ParentReference
    accepted: bool
    reason: str
    message: str = ""
    listeners: tuple[AttachedListener, ...] = ()
    service: ServiceKey | None = None
    port: int = 0


class Attachment(msgspec.Struct, frozen=True):
    """The parents of a route, in the order of its parentRefs."""

    parents: tuple[Parent, ...]

    def listeners(self) -> tuple[AttachedListener, ...]:
        """Every listener once, in order, with its hostnames."""
        found = {(at.gateway, at.listener): at for parent in self.parents for at in parent.listeners}
        return tuple(found[key] for key in sorted(found))

    def rank(self, key: HostKey) -> int:
        """Where the route stands among those for a hostname of a listener that it is attached to."""
        return next(at.rank(key.hostname) for at in self.listeners() if (at.gateway, at.listener) == key[:2])

    def services(self) -> tuple[tuple[ServiceKey, int], ...]:
        """The services and ports (0: all) that the route stands in front of, sorted."""
        return tuple(sorted({(parent.service, parent.port) for parent in self.parents if parent.service is not None}))

    def stands_before(self, service: ServiceKey, port: int) -> bool:
        """Whether the route is attached to that port of a service, or to all of its ports."""
        return any(parent.service == service and parent.port in (0, port) for parent in self.parents)


def _foreign_class(_key: ObjectKey, row: Declared) -> tuple[str, ...]:
    ours = not isinstance(row.object, GatewayClass) or row.object.spec.controller_name == CONTROLLER_NAME
    return () if ours else ("",)


FOREIGN_CLASSES = OBJECTS.index("foreign_class", _foreign_class)


def _route(key: ObjectKey, _row: Declared) -> tuple[ObjectKey, ...]:
    return (key,) if key.kind in ROUTES else ()


@derived("proposals", each(OBJECTS, _route))
def PROPOSALS(key: ObjectKey, look: Look) -> Attachment | None:  # noqa: N802
    """Each route and what comes of its parentRefs where no other route stands in its way."""
    route = find_route(look, key)
    if route is None:
        return None
    results = (parent(look, key, ref, hostnames(route)) for ref in route.spec.parent_refs)
    return Attachment(parents=tuple(result for result in results if result is not None))


def _listener_keys(_key: ObjectKey, row: Attachment) -> Iterable[ListenerKey]:
    return (ListenerKey(at.gateway, at.listener) for at in row.listeners())


def _with_grpc(key: ObjectKey, row: Attachment) -> Iterable[ListenerKey]:
    return _listener_keys(key, row) if key.kind == GRPCRoute.__name__ else ()


PROPOSED_BY_LISTENER = PROPOSALS.index("listener", _listener_keys)


class Clashes(msgspec.Struct, frozen=True):
    """The routes that a listener does not take because an older one of another kind has a hostname of theirs.

    Pairs of the one and the other, sorted.
    """

    lost: tuple[tuple[ObjectKey, ObjectKey], ...]

    def winner(self, route: ObjectKey) -> ObjectKey | None:
        """Who has the hostname instead; None where nobody stands in the way."""
        return next((other for loser, other in self.lost if loser == route), None)


@derived("clashes", each(PROPOSALS, _with_grpc))
def CLASHES(key: ListenerKey, look: Look) -> Clashes | None:  # noqa: N802
    """The listeners for which routes of both kinds ask, and who loses."""
    routes = [at for at in look.keys(PROPOSED_BY_LISTENER, key) if at.kind in REQUEST_KINDS]
    if len({at.kind for at in routes}) < 2:
        return None
    # By kind: the hostnames that are had, and all that cover one of them, each with its owner.
    had: dict[str, dict[str, ObjectKey]] = {}
    around: dict[str, dict[str, ObjectKey]] = {}
    lost: list[tuple[ObjectKey, ObjectKey]] = []
    for route in sorted(routes, key=lambda at: (_age(look, at), at.kind)):
        row = look(PROPOSALS, route)
        listeners = row.listeners() if row is not None else ()
        names = [host for at in listeners if (at.gateway, at.listener) == key for host in at.hostnames]
        other = GRPCRoute.__name__ if route.kind == HTTPRoute.__name__ else HTTPRoute.__name__
        theirs, theirs_around = had.get(other, {}), around.get(other, {})
        winners = (theirs_around.get(name) or _first(theirs, wider(name)) for name in names)
        winner = next((owner for owner in winners if owner is not None), None)
        if winner is not None:
            lost.append((route, winner))
            continue
        for name in names:
            had.setdefault(route.kind, {}).setdefault(name, route)
            for each_one in wider(name):
                around.setdefault(route.kind, {}).setdefault(each_one, route)
    return Clashes(tuple(sorted(lost))) if lost else None


def _first(owners: dict[str, ObjectKey], names: Iterable[str]) -> ObjectKey | None:
    return next((owners[name] for name in names if name in owners), None)


def _age(look: Look, key: ObjectKey) -> Age:
    route = find_route(look, key)
    return age(route.metadata) if route is not None else Age(math.inf, key.namespace, key.name)


@derived("attachments", each(PROPOSALS))
def ATTACHMENTS(key: ObjectKey, look: Look) -> Attachment | None:  # noqa: N802
    """Each route and what came of its parentRefs."""
    proposal = look(PROPOSALS, key)
    if proposal is None or key.kind in STREAM_KINDS:
        return proposal
    lost: dict[ListenerKey, ObjectKey] = {}
    for at in proposal.listeners():
        clashes = look(CLASHES, ListenerKey(at.gateway, at.listener))
        winner = clashes.winner(key) if clashes is not None else None
        if winner is not None:
            lost[ListenerKey(at.gateway, at.listener)] = winner
    return Attachment(tuple(_without(one, lost) for one in proposal.parents)) if lost else proposal


def _without(proposed: Parent, lost: dict[ListenerKey, ObjectKey]) -> Parent:
    """What comes of a parentRef without the listeners that another route has."""
    kept = tuple(at for at in proposed.listeners if ListenerKey(at.gateway, at.listener) not in lost)
    if len(kept) == len(proposed.listeners):
        return proposed
    gone = {
        at.listener: lost[key] for at in proposed.listeners if (key := ListenerKey(at.gateway, at.listener)) in lost
    }
    said = " ".join(
        f"On listener {listener.rpartition('~')[2]} {winner} is older and has a hostname of this route; "
        "HTTPRoutes and GRPCRoutes cannot share one: give each its own."
        for listener, winner in sorted(gone.items())
    )
    if kept:
        return msgspec.structs.replace(proposed, listeners=kept, message=said)
    return Parent(proposed.ref, accepted=False, reason="HostnameConflict", message=said)


ROUTES_BY_LISTENER = ATTACHMENTS.index("listener", _listener_keys)
ROUTES_BY_HOST = ATTACHMENTS.index(
    "host", lambda _, row: (HostKey(at.gateway, at.listener, host) for at in row.listeners() for host in at.hostnames)
)
ROUTES_BY_SERVICE = ATTACHMENTS.index(
    "service", lambda key, row: (service for service, _ in row.services() if service.namespace == key.namespace)
)
CONSUMER_ROUTES = ATTACHMENTS.index(
    "consumer",
    lambda key, row: (
        ConsumerKey(key.namespace, service) for service, _ in row.services() if service.namespace != key.namespace
    ),
)


@derived("attached", each(ATTACHMENTS, _listener_keys))
def ATTACHED(key: ListenerKey, look: Look) -> int | None:  # noqa: N802
    """How many routes are attached to a listener; no row means none."""
    return len(look.keys(ROUTES_BY_LISTENER, key)) or None


def service_routes(look: Reader, *, client_namespace: str, service: ServiceKey, port: int) -> tuple[ObjectKey, ...]:
    """The routes that clients in a namespace take on their way to a port of a service.

    Routes of the client's own namespace (consumer routes) replace those that the service's owner wrote for the same
    port, and for no other. Where there are GRPCRoutes, the more specific kind, HTTPRoutes do not count (GEP-1426).
    """
    consumer = _for_port(look, look.keys(CONSUMER_ROUTES, ConsumerKey(client_namespace, service)), service, port)
    routes = consumer or _for_port(look, look.keys(ROUTES_BY_SERVICE, service), service, port)
    return tuple(route for route in routes if route.kind == GRPCRoute.__name__) or routes


def _for_port(look: Reader, routes: tuple[ObjectKey, ...], service: ServiceKey, port: int) -> tuple[ObjectKey, ...]:
    rows = ((route, look(ATTACHMENTS, route)) for route in routes)
    return tuple(route for route, row in rows if row is not None and row.stands_before(service, port))


def parent(look: Look, route: ObjectKey, ref: ParentReference, names: tuple[str, ...]) -> Parent | None:
    """What comes of one parentRef of a route; None where that is another controller's business."""
    namespace = ref.namespace or route.namespace
    if (ref.group, ref.kind) == (GATEWAY_API, "Gateway"):
        return _gateway_parent(look, route, ref, GatewayKey(namespace, ref.name), names)
    if (ref.group, ref.kind) == (GATEWAY_API, "ListenerSet"):
        return _set_parent(look, route, ref, ObjectKey("ListenerSet", namespace, ref.name), names)
    if ref.group in ("", FAIRLEAD) and ref.kind == "Service" and route.kind not in STREAM_KINDS:
        return _service_parent(look, ref, ServiceKey(namespace, ref.name))
    if look.keys(FOREIGN_CLASSES, ""):
        return None
    use = "a Gateway or ListenerSet" + ("" if route.kind in STREAM_KINDS else ", or a Service")
    said = f"A {route.kind} cannot attach to {ref.kind} of group {ref.group!r}; use {use}."
    return Parent(ref, accepted=False, reason="InvalidKind", message=said)


def _service_parent(look: Look, ref: ParentReference, key: ServiceKey) -> Parent:
    service = look(SERVICES, key)
    name = f"Service {key.namespace}/{key.name}"
    if service is None or (ref.group == FAIRLEAD and not service.own):
        return Parent(ref, accepted=False, reason="NoMatchingParent", message=f"{name} does not exist.")
    if ref.port is not None and service.port(ref.port) is None and service.port(ref.port, udp=True) is None:
        known = ", ".join(str(port.port) for port in service.ports) or "none"
        said = f"{name} has no port {ref.port}; it has: {known}."
        return Parent(ref, accepted=False, reason="NoMatchingParent", message=said)
    return Parent(ref, accepted=True, reason="Accepted", service=key, port=ref.port or 0)


def _set_parent(
    look: Look, route: ObjectKey, ref: ParentReference, key: ObjectKey, names: tuple[str, ...]
) -> Parent | None:
    found = find(look, ListenerSet, key)
    if found is None:
        if look.keys(FOREIGN_CLASSES, ""):
            return None
        return Parent(ref, accepted=False, reason="NoMatchingParent", message=f"{key} does not exist.")
    at = gateway_of(found)
    gateway = look(GATEWAYS, GatewayKey(at.namespace, at.name)) if at is not None else None
    if at is None or gateway is None:
        return None
    own = gateway.of_set(key)
    if not own:
        said = f"{key} is not attached to {at}; its conditions say why."
        return Parent(ref, accepted=False, reason="NoMatchingParent", message=said)
    return _attached(look, route, ref, str(key), GatewayKey(at.namespace, at.name), own, names)


def _gateway_parent(
    look: Look, route: ObjectKey, ref: ParentReference, key: GatewayKey, names: tuple[str, ...]
) -> Parent | None:
    name = f"Gateway {key.namespace}/{key.name}"
    gateway = look(GATEWAYS, key)
    if gateway is None:
        if look(OBJECTS, ObjectKey("Gateway", key.namespace, key.name)) is not None or look.keys(FOREIGN_CLASSES, ""):
            return None
        return Parent(ref, accepted=False, reason="NoMatchingParent", message=f"{name} does not exist.")
    return _attached(look, route, ref, name, key, gateway.of_set(None), names)


def _attached(
    look: Look,
    route: ObjectKey,
    ref: ParentReference,
    name: str,
    key: GatewayKey,
    listeners: tuple[GatewayListener, ...],
    names: tuple[str, ...],
) -> Parent:
    """What comes of a parentRef to a Gateway or to a ListenerSet of it, whose listeners these are."""
    named = _named(listeners, ref)
    if not named:
        said = f"{name} has no listener with {_asked(ref)}; it has: {_listed(listeners)}."
        return Parent(ref, accepted=False, reason="NoMatchingParent", message=said)
    allowing = [listener for listener in named if allows(look, listener, key.namespace, route)]
    if not allowing:
        said = f"No listener of {name} allows {route.kind}s of namespace {route.namespace} (see its allowedRoutes)."
        return Parent(ref, accepted=False, reason="NotAllowedByListeners", message=said)
    attached = tuple(
        AttachedListener(key, listener.name, hosts, _ranks(hosts, names))
        for listener in allowing
        if (hosts := _effective(listener.hostname, names))
    )
    if not attached:
        theirs = ", ".join(sorted({listener.hostname for listener in allowing}))
        said = f"None of the route's hostnames lies within those of {name}'s listeners: {theirs}."
        return Parent(ref, accepted=False, reason="NoMatchingListenerHostname", message=said)
    return Parent(ref, accepted=True, reason="Accepted", listeners=attached)


def _named(listeners: tuple[GatewayListener, ...], ref: ParentReference) -> list[GatewayListener]:
    """The listeners that a parentRef selects; `sectionName` and `port` must both hold where both are given."""
    return [
        listener
        for listener in listeners
        if (ref.section_name is None or listener.section == ref.section_name)
        and (ref.port is None or listener.port == ref.port)
    ]


def _asked(ref: ParentReference) -> str:
    name = f"name {ref.section_name}" if ref.section_name is not None else ""
    port = f"port {ref.port}" if ref.port is not None else ""
    return " and ".join(part for part in (name, port) if part)


def _listed(listeners: tuple[GatewayListener, ...]) -> str:
    return ", ".join(f"{listener.section} ({listener.port})" for listener in listeners)


def _effective(listener: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The hostnames under which a route answers on a listener: all that both mean, each once, sorted."""
    if not names:
        return (listener,)
    both = (intersection(listener, hostname.lower()) for hostname in names)
    return tuple(sorted({host for host in both if host is not None}))


def _ranks(hosts: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    """For each effective hostname how many steps wider the narrowest of the route's own is that means it."""
    named = {name.lower() for name in names} or {ANY}
    ranks = tuple(next(step for step, name in enumerate(wider(host)) if name in named) for host in hosts)
    return ranks if any(ranks) else ()
