"""One HTTPRoute or GRPCRoute as Envoy's routes: one for each match of each rule, with its place in the order of all.

A route is built once for all the hosts and listeners where it means the same; only the listener's scheme and port, for
redirects, and the kind of client, for what gRPC cannot parse, make a difference. Each Envoy route is named
`<kind>/<namespace>/<name>/<rule>/<match>`, which tells access logs and people where it comes from. The same as
metadata would be some 100 bytes more of each route, for Envoy to parse at each change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

import msgspec

from mesh import external_auth, unsupported
from mesh.attachments import ListenerKey
from mesh.backends import Backend, Invalid, resolve
from mesh.credentials import chosen, may_inject
from mesh.envoy_patches import Patched
from mesh.failovers import keeps_sessions
from mesh.kinds.http_filters import HTTPRequestMirrorFilter
from mesh.kinds.httproute import HTTPRouteMatch, HTTPRouteRule
from mesh.kinds.references import BackendObjectReference
from mesh.model import ObjectKey
from mesh.policies import Effective
from mesh.precedence import RouteOrder
from mesh.request_authentication import ROUTE_GUARDS
from mesh.request_routes import RequestRoute
from mesh.results import Results
from mesh.route_places import NOWHERE, policies_at
from mesh.tables import Reader
from mesh.tries import of_rule
from xds.schema.types import Route
from xds.translate.envoy_patch import patch_message
from xds.translate.ext_authz import set_external_auth
from xds.translate.extensions import runs_code
from xds.translate.framing import encode_checked, framed
from xds.translate.internal_redirect import follows
from xds.translate.jwt_authn import requirement_name, set_requirement
from xds.translate.names import cluster_name, with_members
from xds.translate.redirect import Entrance
from xds.translate.route_action import refuse, set_action
from xds.translate.route_match import narrow, set_match
from xds.translate.route_policy import alternatives, apply_more, apply_policy, set_connect
from xds.translate.session_affinity import set_session_persistence
from xds.translate.stickiness import set_stickiness
from xds.translate.telemetry import set_route_tracing
from xds.translate.timeouts import limit_stream, request_limit
from xds.translate.traffic import endpoint_selection, route_policies, traced, traffic_settings, with_failover
from xds.translate.weighted_clusters import Share

_VIRTUAL_HOST_ROUTES = 3  # the field number of `VirtualHost.routes`


class RouteAt(NamedTuple):
    """A route object where it is used: behind what entrance, and by what kind of client.

    `section` is the listener, where that makes a difference to whose tokens requests need; `place` is from where the
    route inherits RoutePolicies, if from anywhere.
    """

    route: ObjectKey
    entrance: Entrance
    grpc: bool = False
    section: str = ""
    place: ListenerKey = NOWHERE


class OrderedRoute(msgspec.Struct, frozen=True):
    """One Envoy route, framed as a field of a virtual host; `order` compares with routes of other objects.

    It `runs_code` of users, which could lead its requests to other routes, or `follows` redirects of its backends.
    """

    order: RouteOrder
    framed: bytes
    runs_code: bool = False
    follows: bool = False


class BuiltRoute(msgspec.Struct, frozen=True):
    """All Envoy routes of a route object, the clusters they send requests to, and the requirements that they name.

    `results` tells what became of other objects in them; of one that fits some of the routes and not others, why not.
    """

    routes: tuple[OrderedRoute, ...]
    clusters: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    results: Results = ()


def build_route(look: Reader, at: RouteAt, route: RequestRoute) -> BuiltRoute:
    """Build the Envoy routes of a route object."""
    clusters: set[str] = set()
    results: dict[ObjectKey, str] = {}
    routes = tuple(_routes(look, at, route, clusters, results))
    named = {name for rule in route.rules if (name := _requirement(look, at, rule))}
    return BuiltRoute(
        routes=routes,
        clusters=tuple(sorted(clusters)),
        requirements=tuple(sorted(named)),
        results=tuple(sorted(results.items())),
    )


def _routes(
    look: Reader, at: RouteAt, route: RequestRoute, clusters: set[str], results: dict[ObjectKey, str]
) -> Iterator[OrderedRoute]:
    for number, rule in enumerate(route.rules):
        asked = external_auth.of_rule(rule.filters)
        judge = external_auth.authorizer(look, at.route, asked) if asked is not None else None
        refused = bool(unsupported.of_rule(rule.filters, grpc=at.grpc)) or isinstance(judge, Invalid)
        policies = _policies(look, at, rule.name) if not refused and not at.grpc else None
        alone = at.grpc or keeps_sessions(rule, policies)
        shares = tuple(_shares(look, at, route, number, alone=alone)) if not refused else ()
        limits = of_rule(look, at.route, rule)
        tracing = traced(look, at.route, rule.name)
        requirement = _requirement(look, at, rule)
        mirrors = dict(_mirrors(look, at, rule)) if not refused else {}
        stays = route.stays(number, grpc=at.grpc)
        clusters.update(_clusters(shares))
        clusters.update(mirrors.values())
        if isinstance(judge, Backend) and not refused:
            clusters.add(cluster_name(judge))
        ways = tuple(alternatives(rule, policies))
        for (index, match), (policies, only) in product(enumerate(rule.matches), ways):
            made = Route()
            made.name = f"{at.route.kind}/{at.route.namespace}/{at.route.name}/{route.label(number)}/{index}"
            set_match(made.match, match, grpc=at.grpc)
            if refused:
                refuse(made, route.unable)
            else:
                set_action(
                    made,
                    rule,
                    match,
                    shares=shares,
                    mirrors=mirrors,
                    entrance=at.entrance,
                    limits=limits,
                    unable=route.unable,
                )
            set_stickiness(made, stays, secure=at.entrance.scheme == "https")
            if asked is not None and isinstance(judge, Backend) and not refused:
                set_external_auth(made, asked, cluster_name(judge), within=request_limit(rule.timeouts))
            if at.grpc and made.HasField("route"):
                limit_stream(made.route)
            if policies is not None:
                clusters |= _apply(look, at, policies, match, made, results)
            if rule.session_persistence is not None and not at.grpc and made.HasField("route"):
                set_session_persistence(made, rule.session_persistence, rule.matches)
            if requirement:
                set_requirement(made, requirement)
            if not at.grpc:
                set_route_tracing(made, tracing)
                made = _patched(look, at, rule, made, results)
            if not only or narrow(made.match, only):
                yield OrderedRoute(
                    order=route.orders[number][index],
                    framed=framed(_VIRTUAL_HOST_ROUTES, encode_checked(made)),
                    runs_code=runs_code(made),
                    follows=follows(made),
                )


def _clusters(shares: Iterable[Share]) -> Iterator[str]:
    """The clusters that get a part of the requests, with those behind them."""
    for share in shares:
        if share.weight and share.cluster is not None:
            yield from with_members(share.cluster)


def _policies(look: Reader, at: RouteAt, rule: str | None) -> Effective | None:
    if at.place == NOWHERE:
        return route_policies(look, at.route, rule)
    return policies_at(look, at.place, at.route, rule)


def _apply(
    look: Reader, at: RouteAt, policies: Effective, match: HTTPRouteMatch, made: Any, results: dict[ObjectKey, str]
) -> set[str]:
    """Do what policies say; the clusters that are asked for it."""
    apply_policy(made, policies.settings, unjudged=at.entrance.unjudged)
    if match.method == "CONNECT":
        set_connect(made, policies.settings)
    clusters: set[str] = set()
    for part in apply_more(look, at.route, made, policies, at.entrance):
        _note(results, part.said_by, made.name, part.problem)
        clusters |= part.clusters
    return clusters


def _note(results: dict[ObjectKey, str], of: ObjectKey, route: str, problem: str) -> None:
    if not results.get(of):
        results[of] = f"{route}: {problem}" if problem else ""


def _patched(look: Reader, at: RouteAt, rule: HTTPRouteRule, made: Any, results: dict[ObjectKey, str]) -> Any:
    sections = frozenset({rule.name}) if rule.name is not None else frozenset[str]()
    made, outcomes = patch_message(look, made, Patched(*at.route), sections)
    for patch, problem in outcomes:
        _note(results, patch, made.name, problem)
    return made


def _requirement(look: Reader, at: RouteAt, rule: HTTPRouteRule) -> str:
    """The name of what a rule's requests need at a gateway; empty where nobody asks for more than of all others."""
    guards = look(ROUTE_GUARDS, at.route) if not at.entrance.inside else None
    guarded = guards.of_rule(rule.name) if guards is not None else None
    return requirement_name(at.section, guarded) if guarded is not None else ""


def _shares(look: Reader, at: RouteAt, route: RequestRoute, number: int, *, alone: bool) -> Iterator[Share]:
    """The backends of a rule; nobody takes over from those that are `alone`."""
    rule = route.rules[number]
    for place, ref in enumerate(rule.backend_refs):
        refused = unsupported.of_backend(ref.filters, grpc=at.grpc)
        counted = route.apart.get((number, place))
        judged = alone or (number, place) in route.canaries
        backend = _asked(look, at, ref, rule, counted, alone=judged) if not refused else None
        if backend is None:
            yield Share(None, ref.weight)
        else:
            selection = endpoint_selection(look, backend) if not at.grpc else None
            yield Share(cluster_name(backend), ref.weight, ref.filters, selection)


def _mirrors(look: Reader, at: RouteAt, rule: HTTPRouteRule) -> Iterator[tuple[HTTPRequestMirrorFilter, str]]:
    for filter_ in rule.filters:
        if filter_.request_mirror is not None:
            backend = _asked(look, at, filter_.request_mirror.backend_ref)
            if backend is not None:
                yield filter_.request_mirror, cluster_name(backend)


def _asked(
    look: Reader,
    at: RouteAt,
    ref: BackendObjectReference,
    rule: HTTPRouteRule | None = None,
    canary_of: ObjectKey | None = None,
    *,
    alone: bool = True,
) -> Backend | None:
    if at.grpc and ref.kind == "Backend":
        return None
    backend = _backend(look, at.route, ref, rule, canary_of, inside=at.entrance.inside)
    return with_failover(look, backend) if backend is not None and not alone else backend


def cluster_of(
    look: Reader,
    route: ObjectKey,
    ref: BackendObjectReference,
    rule: HTTPRouteRule | None = None,
    canary_of: ObjectKey | None = None,
    *,
    inside: bool = False,
) -> str | None:
    """The cluster of a backend of a route's rule, whoever takes over from it; None where it leads nowhere.

    `canary_of` is the Rollout for which its requests are counted apart. `inside`: the clients are in the mesh.
    """
    backend = _backend(look, route, ref, rule, canary_of, inside=inside)
    return cluster_name(backend) if backend is not None else None


def _backend(
    look: Reader,
    route: ObjectKey,
    ref: BackendObjectReference,
    rule: HTTPRouteRule | None,
    canary_of: ObjectKey | None,
    *,
    inside: bool,
) -> Backend | None:
    backend = resolve(look, route=route, ref=ref)
    if not isinstance(backend, Backend):
        return None
    if rule is not None and rule.retry is not None:
        settings = traffic_settings(look, backend)
        if settings is not None and settings.retry is not None:
            backend = msgspec.structs.replace(backend, route_retry=True)
    if canary_of is not None:
        backend = msgspec.structs.replace(backend, canary_of=f"{canary_of.namespace}/{canary_of.name}")
    credential = chosen(look, route, rule.name) if rule is not None and not inside else None
    if credential is not None and may_inject(look, backend):
        backend = msgspec.structs.replace(backend, credential=f"{credential.namespace}/{credential.name}")
    return backend
