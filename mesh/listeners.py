"""One listener of a Gateway, judged: what it takes, whether it is served, and the conditions that say so.

Judged alone here (protocol, route kinds, certificates) and against the Gateway's other listeners (conflicts); what
routes attach is not known here, so that a route never changes a listener.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from mesh.certificates import CERTIFICATES, SecretKey
from mesh.client_validation import ClientValidation, Judged, client_validation
from mesh.conditions import Condition
from mesh.kinds.gateway import Gateway as GatewayObject
from mesh.kinds.gateway import Listener, RouteGroupKind
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.namespace import Namespace as NamespaceObject
from mesh.kinds.references import GATEWAY_API, SecretObjectReference
from mesh.kinds.selectors import LabelSelector
from mesh.model import ObjectKey
from mesh.objects import find
from mesh.reference_grants import Permission, permitted
from mesh.tables import Reader

ListenerProtocol = Literal["HTTP", "HTTPS", "TLS", "TCP", "UDP"]

NAMESPACE_NAME = "kubernetes.io/metadata.name"


class RouteKind(NamedTuple):
    """A kind of route."""

    group: str
    kind: str


ROUTE_KINDS: Mapping[str, tuple[RouteKind, ...]] = {
    "HTTP": (RouteKind(GATEWAY_API, "GRPCRoute"), RouteKind(GATEWAY_API, "HTTPRoute")),
    "HTTPS": (RouteKind(GATEWAY_API, "GRPCRoute"), RouteKind(GATEWAY_API, "HTTPRoute")),
    "TLS": (RouteKind(GATEWAY_API, "TLSRoute"),),
    "TCP": (RouteKind(GATEWAY_API, "TCPRoute"),),
    "UDP": (RouteKind(GATEWAY_API, "UDPRoute"),),
}
_TOLD_APART_BY: Mapping[str, str] = {"HTTP": "HTTP", "HTTPS": "server names", "TLS": "server names"}
"""Protocols that one port can speak side by side have the same word here; UDP's ports are no TCP ports at all."""


class AllowedNamespaces(msgspec.Struct, frozen=True):
    """The namespaces whose routes a listener takes (`allowedRoutes.namespaces`)."""

    from_: Literal["All", "Selector", "Same"] = "Same"
    selector: LabelSelector | None = None


class Owner(NamedTuple):
    """The object that a listener stands in: the Gateway itself, or a ListenerSet of it."""

    kind: str
    namespace: str
    name: str


def owner_of(name: str) -> tuple[ObjectKey | None, str]:
    """The ListenerSet in which the listener of that name stands (None: the Gateway itself), and its name there."""
    *owner, section = name.split("~")
    return (ObjectKey("ListenerSet", *owner) if owner else None), section


class GatewayListener(msgspec.Struct, frozen=True):
    """A listener as routes and translation see it.

    `name` is its own among all of the Gateway, `section` as it is written in `owner`, the ListenerSet it stands in
    (None: the Gateway itself).

    `protocol` is as written; a listener that is `programmed` has one of `ListenerProtocol`. `hostname` is empty where
    any host is meant. `programmed` False means that Envoy does not get it; `conditions` tell why. `certificates` are
    the usable ones. `passthrough`: TLS is not ended here. `clients` says how
    their certificates are judged, None where they are not asked for any.
    """

    name: str
    port: int
    protocol: str
    hostname: str = ""
    certificates: tuple[SecretKey, ...] = ()
    passthrough: bool = False
    clients: ClientValidation | None = None
    accepted: bool = True
    programmed: bool = True
    conditions: tuple[Condition, ...] = ()
    supported_kinds: tuple[RouteKind, ...] = ()
    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    owner: ObjectKey | None = None

    @property
    def section(self) -> str:
        """The name as it is written."""
        return owner_of(self.name)[1]

    @property
    def place(self) -> tuple[int, bool]:
        """The port, and whether it is one of UDP: what listeners share that Envoy binds once."""
        return self.port, self.protocol == "UDP"

    @property
    def http(self) -> bool:
        """Whether it takes requests; else it takes connections or datagrams as they are."""
        return self.protocol in ("HTTP", "HTTPS")


def listeners(
    look: Reader,
    gateway: GatewayObject,
    sets: Iterable[ListenerSet] = (),
    *,
    taken: frozenset[int] = frozenset(),
) -> tuple[GatewayListener, ...]:
    """The listeners of a Gateway in the order they are written, then those of its ListenerSets.

    Ports `taken` by its proxies themselves are not had.
    """
    refusals = {**_conflicts(gateway.spec.listeners), **_unavailable(gateway.spec.listeners, taken)}
    own = Owner("Gateway", gateway.metadata.namespace, gateway.metadata.name)
    judged = [_listener(look, gateway, own, spec, refusals.get(spec.name)) for spec in gateway.spec.listeners]
    had = _Had(gateway.spec.listeners)
    for one in sets:
        owner = Owner("ListenerSet", one.metadata.namespace, one.metadata.name)
        unavailable = _unavailable(one.spec.listeners, taken)
        for spec in one.spec.listeners:
            clash = had.clash(spec)
            judged.append(_listener(look, gateway, owner, spec, clash or unavailable.get(spec.name)))
            if clash is None:
                had.add(spec)
    return tuple(judged)


def unserved(listener: GatewayListener, message: str) -> GatewayListener:
    """The listener of a Gateway that is not served at all, for that reason."""
    verdict = Condition("Programmed", False, "Invalid", message)
    conditions = tuple(verdict if condition.type == "Programmed" else condition for condition in listener.conditions)
    return msgspec.structs.replace(listener, programmed=False, conditions=conditions)


def allows(look: Reader, listener: GatewayListener, gateway_namespace: str, route: ObjectKey) -> bool:
    """Whether a listener takes a route of that kind from that namespace."""
    if all(kind.kind != route.kind for kind in listener.supported_kinds):
        return False
    allowed = listener.allowed_namespaces
    if allowed.from_ == "All":
        return True
    if allowed.from_ == "Same":
        return route.namespace == (listener.owner.namespace if listener.owner is not None else gateway_namespace)
    return allowed.selector is not None and allowed.selector.selects(namespace_labels(look, route.namespace))


def namespace_labels(look: Reader, namespace: str) -> dict[str, str]:
    """The labels of a namespace; its name is always one of them, as Kubernetes has it."""
    found = find(look, NamespaceObject, ObjectKey("Namespace", "", namespace))
    return {**(found.metadata.labels if found is not None else {}), NAMESPACE_NAME: namespace}


def _conflicts(specs: Iterable[Listener]) -> dict[str, Condition]:
    """The listeners that cannot be told apart; none of them wins, as the specification demands.

    Only protocols that are served take part: a listener that is refused anyway does not take others down with it.
    """
    by_port: dict[tuple[int, bool], list[Listener]] = {}
    for spec in specs:
        if spec.protocol in ROUTE_KINDS:
            by_port.setdefault((spec.port, spec.protocol == "UDP"), []).append(spec)
    found: dict[str, Condition] = {}
    for (port, _), sharing in by_port.items():
        protocols = sorted({spec.protocol for spec in sharing})
        mixed = len({_told_apart_by(spec) for spec in sharing}) > 1
        for spec in sharing:
            twins = [other.name for other in sharing if other.name != spec.name and _host(other) == _host(spec)]
            if mixed:
                said = f"Port {port} is asked to speak {' and '.join(protocols)}; use one protocol per port."
                found[spec.name] = Condition("Conflicted", True, "ProtocolConflict", said)
            elif twins:
                said = (
                    f"Listeners {', '.join(sorted([spec.name, *twins]))} share port {port} and hostname "
                    f"{_host(spec) or '(any)'}; give each its own hostname or port."
                )
                found[spec.name] = Condition("Conflicted", True, "HostnameConflict", said)
    return found


class _Had:
    """What the listeners that come first have of each port: a Gateway may take a thousand of ListenerSets."""

    def __init__(self, specs: Iterable[Listener]) -> None:
        self._told_apart_by: dict[tuple[int, bool], set[str]] = {}
        self._hosts: dict[tuple[int, bool], set[str]] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: Listener) -> None:
        """A listener more; one that is refused anyway has nothing."""
        if spec.protocol in ROUTE_KINDS:
            place = (spec.port, spec.protocol == "UDP")
            self._told_apart_by.setdefault(place, set()).add(_told_apart_by(spec))
            self._hosts.setdefault(place, set()).add(_host(spec))

    def clash(self, spec: Listener) -> Condition | None:
        """Why a listener cannot be told apart from those that come before it; nothing is said of whose they are."""
        place = (spec.port, spec.protocol == "UDP")
        if spec.protocol not in ROUTE_KINDS:
            return None
        if self._told_apart_by.get(place, set()) - {_told_apart_by(spec)}:
            said = f"Port {spec.port} speaks another protocol than {spec.protocol} already; use another port."
            return Condition("Conflicted", True, "ProtocolConflict", said)
        if _host(spec) in self._hosts.get(place, ()):
            host = _host(spec) or "any hostname"
            said = f"Port {spec.port} has a listener for {host} already; use another of the two."
            return Condition("Conflicted", True, "HostnameConflict", said)
        return None


def _told_apart_by(spec: Listener) -> str:
    return _TOLD_APART_BY.get(spec.protocol, spec.protocol)


def _unavailable(specs: Iterable[Listener], taken: frozenset[int]) -> dict[str, Condition]:
    """The listeners whose port Envoy could not bind, which would refuse them one and all."""
    ports = " and ".join(str(port) for port in sorted(taken))
    return {
        spec.name: Condition(
            "Accepted",
            False,
            "PortUnavailable",
            f"Port {spec.port} is taken: the proxies use {ports} themselves. Choose another port.",
        )
        for spec in specs
        if spec.port in taken and spec.protocol != "UDP"
    }


def _host(spec: Listener) -> str:
    return (spec.hostname or "").lower()


def _listener(
    look: Reader, gateway: GatewayObject, owner: Owner, spec: Listener, refusal: Condition | None
) -> GatewayListener:
    of_set = owner.kind == "ListenerSet"
    conflict = refusal if refusal is not None and refusal.type == "Conflicted" else None
    supported, kinds_problem = _supported_kinds(spec)
    ends_tls = spec.protocol == "HTTPS" or (spec.protocol == "TLS" and not _passthrough(spec))
    certificates, problems = _certificates(look, owner, spec) if ends_tls else ((), ())
    clients = client_validation(look, gateway, spec.port) if spec.protocol == "HTTPS" else Judged()
    problems = (*([kinds_problem] if kinds_problem is not None else []), *problems, *clients.problems)
    accepted = _accepted(spec, refusal, clients)
    programmed = accepted.status and bool(supported) and (bool(certificates) or not ends_tls)
    allowed = spec.allowed_routes.namespaces
    return GatewayListener(
        name=f"{owner.namespace}~{owner.name}~{spec.name}" if of_set else spec.name,
        port=spec.port,
        protocol=spec.protocol,
        hostname=_host(spec),
        certificates=certificates,
        passthrough=spec.protocol == "TLS" and not ends_tls,
        clients=clients.validation,
        accepted=accepted.status,
        programmed=programmed,
        conditions=(
            accepted,
            conflict or Condition("Conflicted", False, "NoConflicts"),
            Condition("Programmed", True, "Programmed")
            if programmed
            else Condition(
                "Programmed",
                False,
                conflict.reason if conflict is not None and of_set else "Invalid",
                _first_message(accepted, problems),
            ),
            problems[0] if problems else Condition("ResolvedRefs", True, "ResolvedRefs"),
        ),
        supported_kinds=supported,
        allowed_namespaces=AllowedNamespaces(allowed.from_, allowed.selector),
        owner=ObjectKey(*owner) if of_set else None,
    )


def _passthrough(spec: Listener) -> bool:
    return spec.tls is not None and spec.tls.mode == "Passthrough"


def _first_message(accepted: Condition, problems: tuple[Condition, ...]) -> str:
    return accepted.message if not accepted.status else problems[0].message if problems else ""


def _accepted(spec: Listener, refusal: Condition | None, clients: Judged) -> Condition:
    if spec.protocol not in ROUTE_KINDS:
        said = f"Protocol {spec.protocol} is not supported; use one of {', '.join(sorted(ROUTE_KINDS))}."
        return Condition("Accepted", False, "UnsupportedProtocol", said)
    if refusal is not None:
        return Condition("Accepted", False, refusal.reason, refusal.message)
    if spec.protocol == "HTTPS" and _passthrough(spec):
        said = "TLS mode Passthrough is not supported for protocol HTTPS; use Terminate."
        return Condition("Accepted", False, "UnsupportedValue", said)
    if clients.validation is None and clients.problems:
        # Serving it all the same would let clients in that the user wants kept out.
        return Condition("Accepted", False, "NoValidCACertificate", clients.problems[0].message)
    return Condition("Accepted", True, "Accepted")


def _supported_kinds(spec: Listener) -> tuple[tuple[RouteKind, ...], Condition | None]:
    served = ROUTE_KINDS.get(spec.protocol, ())
    wanted = tuple(_route_kind(kind) for kind in spec.allowed_routes.kinds)
    if not wanted:
        return served, None
    wrong = sorted(set(wanted) - set(served))
    if not wrong:
        return tuple(sorted(set(wanted))), None
    names = ", ".join(f"{kind.group}/{kind.kind}" for kind in wrong)
    known = ", ".join(kind.kind for kind in served) or "none"
    said = f"Protocol {spec.protocol} does not carry routes of kind {names}; allowedRoutes.kinds may name: {known}."
    return tuple(sorted(set(wanted) & set(served))), Condition("ResolvedRefs", False, "InvalidRouteKinds", said)


def _route_kind(kind: RouteGroupKind) -> RouteKind:
    return RouteKind(kind.group, kind.kind)


def _certificates(look: Reader, owner: Owner, spec: Listener) -> tuple[tuple[SecretKey, ...], tuple[Condition, ...]]:
    """The usable certificates of an HTTPS listener, and what is wrong with the others."""
    refs = spec.tls.certificate_refs if spec.tls is not None else ()
    if not refs:
        said = "An HTTPS listener needs tls.certificateRefs: name a Secret of type kubernetes.io/tls."
        return (), (Condition("ResolvedRefs", False, "InvalidCertificateRef", said),)
    usable: list[SecretKey] = []
    problems: list[Condition] = []
    for ref in refs:
        key = SecretKey(ref.namespace or owner.namespace, ref.name)
        problem = certificate_problem(look, owner, ref, key)
        if problem is not None:
            problems.append(problem)
        elif key not in usable:
            usable.append(key)
    return tuple(usable), tuple(problems)


def certificate_problem(look: Reader, owner: Owner, ref: SecretObjectReference, key: SecretKey) -> Condition | None:
    """Why a Gateway or ListenerSet cannot use a Secret as a certificate; None where it can."""
    if (ref.group, ref.kind) != ("", "Secret"):
        said = f"The reference names {ref.kind} {ref.name} of group {ref.group!r}; only core Secrets are supported."
        return Condition("ResolvedRefs", False, "InvalidCertificateRef", said)
    wanted = Permission(GATEWAY_API, owner.kind, owner.namespace, "", "Secret", key.namespace, key.name)
    if not permitted(look, wanted):
        said = (
            f"Secret {key.namespace}/{key.name} is in another namespace and no ReferenceGrant there permits "
            f"{owner.kind}s of {owner.namespace} to use it."
        )
        return Condition("ResolvedRefs", False, "RefNotPermitted", said)
    certificate = look(CERTIFICATES, key)
    if certificate is None:
        said = f"Secret {key.namespace}/{key.name} does not exist."
        return Condition("ResolvedRefs", False, "InvalidCertificateRef", said)
    if certificate.problem:
        said = f"Secret {key.namespace}/{key.name} {certificate.problem}."
        return Condition("ResolvedRefs", False, "InvalidCertificateRef", said)
    return None
