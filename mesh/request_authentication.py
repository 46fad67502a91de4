"""Which requests need whose tokens: what RequestAuthentications come to at gateways and in front of workloads.

At a gateway a request meets, from the widest to the narrowest, the mesh, the Gateway's namespace, the Gateway, the
ListenerSet of its listener, that listener, the route's namespace, the route and its rule; `mesh.policies` merges what
they set. Envoy must find what holds without a changed listener, and a route object is built once for all gateways. So a
part of a route that has policies of its own is only *named* on its routes (`Guarded`), and each gateway resolves the
names for itself:

    ROUTE_GUARDS          a route: the narrowest part of it, for each rule, that policies are for
    GUARDED               where such a route is attached: the requirements that it needs there
    REQUIREMENTS          a gateway's requirements: what holds where nothing is named, and for each name
    WORKLOAD_REQUIREMENTS a service: what holds in front of its workloads

A listener counts by name (`section`) only where policies name it or its ListenerSet: several share a filter chain and
their routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from mesh.attachments import ATTACHMENTS
from mesh.conditions import Condition
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.jwks import NOBODYS_KEYS, UnusableKeys, read_key_set
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.policy import PolicyTargetReference
from mesh.kinds.requestauthentication import JWTRule, RequestAuthentication, RequestAuthenticationSettings
from mesh.listeners import owner_of
from mesh.model import KEY_SETS, SIDECARS_BY_SERVICE, Declared, ObjectKey, ServiceKey, mesh_settings
from mesh.objects import OBJECTS, find
from mesh.policies import (
    BackendKey,
    Effective,
    Level,
    Ports,
    Target,
    Told,
    layers,
    merge,
    namespace_levels,
    of_backend,
    reached,
    told_of_backends,
)
from mesh.request_routes import REQUEST_KINDS, each_request_route, find_request_route
from mesh.services import SERVICES
from mesh.tables import Look, Reader, derived, each

KIND = RequestAuthentication.__name__
HTTP_PORTS = frozenset({"HTTP", "HTTP2", "GRPC"})


class Guarded(NamedTuple):
    """What policies are for: a namespace's routes, one route, or a named rule of it (empty where it is not so narrow).

    All empty: whatever a gateway's listener gets.
    """

    namespace: str = ""
    kind: str = ""
    route: str = ""
    rule: str = ""


class RequirementKey(NamedTuple):
    """A requirement of a gateway; `section` is a listener that policies name, empty for all others."""

    gateway: GatewayKey
    section: str
    guarded: Guarded


class Requirement(msgspec.Struct, frozen=True):
    """What holds there; None where policies are for it and set nothing."""

    effective: Effective | None

    @property
    def rules(self) -> tuple[JWTRule, ...]:
        """The issuers whose tokens are taken."""
        return rules_of(self.effective)

    @property
    def required(self) -> bool:
        """Whether a request needs a token."""
        return required_by(self.effective)


def rules_of(effective: Effective | None) -> tuple[JWTRule, ...]:
    """The issuers that effective settings name."""
    return effective.settings.jwt_rules or () if effective is not None else ()


def required_by(effective: Effective | None) -> bool:
    """Whether effective settings demand a token."""
    return bool(effective is not None and effective.settings.required)


class RouteGuards(msgspec.Struct, frozen=True):
    """Of a route: what policies are for that its rules are part of, and those rules that policies name."""

    whole: Guarded | None
    rules: tuple[Guarded, ...] = ()

    def of_rule(self, name: str | None) -> Guarded | None:
        """The narrowest part that policies are for and a rule belongs to."""
        return next((guarded for guarded in self.rules if guarded.rule == name), self.whole)


class GuardedAt(msgspec.Struct, frozen=True):
    """The requirements that a route needs."""

    keys: tuple[RequirementKey, ...]


@derived("route_guards", each(OBJECTS, each_request_route))
def ROUTE_GUARDS(key: ObjectKey, look: Look) -> RouteGuards | None:  # noqa: N802
    """The routes for which, or for whose namespace, policies are."""
    route = find_request_route(look, key)
    if route is None:
        return None
    target = Target(KIND, key.kind, key.namespace, key.name)
    parts = (key.namespace, key.kind, key.name)
    whole = None
    if reached(look, Level(target)):
        whole = Guarded(*parts)
    elif key.namespace != mesh_settings(look).root_namespace and reached(look, _namespace(key.namespace)):
        whole = Guarded(key.namespace)
    names = sorted({rule.name for rule in route.rules if rule.name is not None})
    rules = tuple(Guarded(*parts, name) for name in names if reached(look, Level(target, frozenset({name}))))
    return RouteGuards(whole, rules) if whole is not None or rules else None


def _namespace(name: str) -> Level:
    return Level(Target(KIND, "Namespace", name, name))


def section(look: Reader, gateway: GatewayKey, listener: str) -> str:
    """The listener's name where policies name it, or the ListenerSet it stands in; else nothing."""
    return listener if any(reached(look, level) for level in _parts(gateway, listener)) else ""


def _parts(gateway: GatewayKey, listener: str) -> list[Level]:
    """The levels of a listener below its Gateway, the widest first."""
    owner, name = owner_of(listener)
    if owner is None:
        return [Level(Target(KIND, "Gateway", gateway.namespace, gateway.name), frozenset({name}))]
    target = Target(KIND, owner.kind, owner.namespace, owner.name)
    return [Level(target), Level(target, frozenset({name}))]


@derived("guarded", each(ROUTE_GUARDS))
def GUARDED(key: ObjectKey, look: Look) -> GuardedAt | None:  # noqa: N802
    """The routes that need requirements, and which at which gateway."""
    guards = look(ROUTE_GUARDS, key)
    attachment = look(ATTACHMENTS, key)
    if guards is None or attachment is None:
        return None
    parts = (*([guards.whole] if guards.whole is not None else []), *guards.rules)
    keys = {
        RequirementKey(at.gateway, section(look, at.gateway, at.listener), part)
        for at in attachment.listeners()
        for part in parts
    }
    return GuardedAt(tuple(sorted(keys))) if keys else None


def _of_gateway(key: GatewayKey, row: Gateway) -> Iterator[RequirementKey]:
    yield RequirementKey(key, "", Guarded())
    for listener in row.listeners:
        if listener.http:
            yield RequirementKey(key, listener.name, Guarded())


@derived("requirements", each(GATEWAYS, _of_gateway), each(GUARDED, lambda _, row: row.keys))
def REQUIREMENTS(key: RequirementKey, look: Look) -> Requirement | None:  # noqa: N802
    """What holds at each gateway, and for each part of its routes that policies are for."""
    gateway, guarded = key.gateway, key.guarded
    if look(GATEWAYS, gateway) is None:
        return None
    if key.section and not section(look, gateway, key.section):
        return None
    found = Requirement(merge(layers(look, _levels(look, key)), RequestAuthenticationSettings))
    nothing = found.effective is None and guarded == Guarded() and not key.section
    return None if nothing else found


def _levels(look: Reader, key: RequirementKey) -> list[Level]:
    gateway, guarded = key.gateway, key.guarded
    levels = namespace_levels(look, KIND, gateway.namespace)
    levels.append(Level(Target(KIND, "Gateway", gateway.namespace, gateway.name)))
    if key.section:
        levels += _parts(gateway, key.section)
    if guarded.namespace and _namespace(guarded.namespace) not in levels:
        levels.append(_namespace(guarded.namespace))
    if guarded.route:
        target = Target(KIND, guarded.kind, guarded.namespace, guarded.route)
        levels.append(Level(target))
        if guarded.rule:
            levels.append(Level(target, frozenset({guarded.rule})))
    return levels


REQUIREMENTS_BY_GATEWAY = REQUIREMENTS.index("gateway", lambda key, _: (key.gateway,))


@derived("workload_requirements", each(SERVICES, lambda key, _: (BackendKey(key),)))
def WORKLOAD_REQUIREMENTS(key: BackendKey, look: Look) -> Ports | None:  # noqa: N802
    """What holds in front of the workloads of each service."""
    return of_backend(look, KIND, key)


# -- keys -------------------------------------------------------------------------------------------------------------


def _uris(_key: ObjectKey, row: Declared) -> Iterable[str]:
    return {rule.jwks_uri for rule in _rules(row.object) if rule.jwks_uri is not None}


def _rules(policy: object) -> Iterator[JWTRule]:
    if isinstance(policy, RequestAuthentication):
        spec = policy.spec
        yield from spec.jwt_rules or ()
        yield from (spec.overrides.jwt_rules or ()) if spec.overrides is not None else ()


class Wanted(msgspec.Struct, frozen=True):
    """That the keys at an address are asked for."""


@derived("wanted_key_sets", each(OBJECTS, _uris))
def WANTED_KEY_SETS(key: str, look: Look) -> Wanted:  # noqa: N802, ARG001
    """Each address at which some policy says that keys are."""
    return Wanted()


def keys_of(look: Reader, rule: JWTRule) -> bytes:
    """The keys of an issuer as Envoy takes them; nobody's where they are not known, so that no token is valid."""
    if rule.jwks_uri is not None:
        row = look(KEY_SETS, rule.jwks_uri)
        return row.jwks if row is not None and row.jwks else NOBODYS_KEYS
    try:
        return read_key_set((rule.jwks or "").encode()).jwks
    except (UnusableKeys, UnicodeEncodeError):
        return NOBODYS_KEYS


# -- what users are told ----------------------------------------------------------------------------------------------


def key_conditions(look: Reader, policy: RequestAuthentication) -> tuple[Condition, ...]:
    """Whether the keys of all issuers are known; nothing where none are to be fetched."""
    uris = sorted({rule.jwks_uri for rule in _rules(policy) if rule.jwks_uri is not None})
    if not uris:
        return ()
    unknown: list[str] = []
    late: list[str] = []
    for uri in uris:
        row = look(KEY_SETS, uri)
        if row is None:
            unknown.append(f"{uri}: not fetched yet, so none of its tokens is valid.")
        elif not row.jwks:
            unknown.append(f"{uri}: {row.problem}; none of its tokens is valid until it can be had.")
        elif row.problem:
            late.append(f"{uri}: {row.problem}; the keys that it had last stand.")
    if unknown:
        return (Condition("KeysFetched", False, "KeysUnknown", " ".join([*unknown, *late])),)
    return (Condition("KeysFetched", True, "KeysOutdated" if late else "KeysFetched", " ".join(late)),)


def missing_target(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> str:
    """Why a Gateway, or one of its listeners, is not there; empty where it is."""
    gateway = look(GATEWAYS, GatewayKey(key.namespace, ref.name))
    at = f"Gateway {key.namespace}/{ref.name}"
    if gateway is None:
        return f"{at} does not exist, or is not ours."
    if ref.section_name is None:
        return ""
    listener = gateway.listener(ref.section_name)
    if listener is None:
        known = ", ".join(one.name for one in gateway.listeners) or "none"
        return f"{at} has no listener {ref.section_name}; it has: {known}."
    return "" if listener.http else f"Listener {ref.section_name} of {at} carries no HTTP, so no tokens."


def without_http(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> str:
    """Why a policy for a listener of a ListenerSet can do nothing there; empty where it can."""
    found = find(look, ListenerSet, ObjectKey(ref.kind, key.namespace, ref.name))
    for listener in found.spec.listeners if found is not None else ():
        if listener.name == ref.section_name and listener.protocol not in ("HTTP", "HTTPS"):
            at = f"ListenerSet {key.namespace}/{ref.name}"
            return f"Listener {ref.section_name} of {at} carries no HTTP, so no tokens."
    return ""


def without_effect(look: Look, key: ObjectKey, policy: RequestAuthentication) -> Iterator[str]:
    """Of which of its targets a policy says something that cannot be done."""
    spec = policy.spec
    for stanza in (spec, *([spec.overrides] if spec.overrides is not None else [])):
        if stanza.required and stanza.jwt_rules == ():
            yield "It requires a token and names nobody whose tokens are valid: every request is refused."
    for ref in spec.target_refs:
        if ref.kind == "Service":
            service = look(SERVICES, ServiceKey(key.namespace, ref.name))
            if service is not None and not look.keys(SIDECARS_BY_SERVICE, ServiceKey(key.namespace, ref.name)):
                yield f"No sidecar stands in front of Service {key.namespace}/{ref.name}: nobody looks at its tokens."
            for port in service.ports if service is not None else ():
                if ref.section_name in (None, port.name, str(port.port)) and port.protocol not in HTTP_PORTS:
                    at = f"port {port.port} of Service {key.namespace}/{ref.name}"
                    yield f"It has no effect on {at}, which speaks {port.protocol}."
        elif ref.kind in REQUEST_KINDS:
            attachment = look(ATTACHMENTS, ObjectKey(ref.kind, key.namespace, ref.name))
            if attachment is not None and attachment.services():
                at = f"{ref.kind} {key.namespace}/{ref.name}"
                yield f"It has no effect where {at} stands before a Service: make it for the Service."


def told(
    requirements: Iterable[tuple[RequirementKey, Requirement]], workloads: Iterable[tuple[BackendKey, Ports]]
) -> Iterator[Told]:
    """What holds for each target that a policy reaches, sorted; for a part of a route, at which gateway."""
    for key, row in sorted(requirements, key=lambda item: item[0]):
        if row.effective is None:
            continue
        gateway, guarded = key.gateway, key.guarded
        if not guarded.namespace:
            owner, section_name = owner_of(key.section)
            of = owner or ObjectKey("Gateway", gateway.namespace, gateway.name)
            yield Told(KIND, of.kind, of.namespace, of.name, section_name, row.effective)
            continue
        at = f"{gateway.namespace}/{gateway.name}{f':{key.section}' if key.section else ''}"
        kind, name = (guarded.kind, guarded.route) if guarded.route else ("Namespace", guarded.namespace)
        yield Told(KIND, kind, guarded.namespace, name, guarded.rule, row.effective, f"at Gateway {at}")
    yield from told_of_backends(KIND, workloads)
