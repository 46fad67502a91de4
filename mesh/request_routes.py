"""HTTPRoute and GRPCRoute as one thing: rules with matches of requests, and which of them wins.

A gRPC call is a request whose path is `/<service>/<method>`, so a GRPCRoute's rules are told here in the words of
HTTPRoute's, and whoever translates or explains rules needs not know the kind. What stays apart: the order of matches,
for each kind counts other characters, and what a call is answered that reaches no backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec
import re2
from msgspec.structs import replace

from mesh.cookie_matches import with_cookies
from mesh.kinds.grpcroute import GRPCMethodMatch, GRPCRoute, GRPCRouteFilter, GRPCRouteMatch, GRPCRouteRule
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.kinds.httproute import (
    HTTPBackendRef,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
)
from mesh.model import Declared, ObjectKey
from mesh.objects import find
from mesh.precedence import RouteOrder, age, grpc_route_order, route_order
from mesh.rollouts import Copied, Sticking, moved
from mesh.tables import Reader

M = TypeVar("M")

REQUEST_KINDS = (HTTPRoute.__name__, GRPCRoute.__name__)
UNABLE = 500
UNAVAILABLE = 503
"""What Envoy tells a gRPC client as the status UNAVAILABLE; 500 would be UNKNOWN."""

_EVERY = HTTPPathMatch()
_ANY_SEGMENT = "[^/]+"


class RequestRoute(msgspec.Struct, frozen=True):
    """The rules of a route of requests. `orders` has for each rule the places of its matches among those of all routes.

    `grpc`: calls are meant, and backends are spoken to as gRPC is. `copies`: the last rules are copies that Rollouts
    make. `sticking`: the rules whose clients stay with a version, by their number. `apart`: the canaries whose requests
    are counted apart, by the numbers of rule and backend; `canaries`: all whose Rollout is under way.
    """

    rules: tuple[HTTPRouteRule, ...]
    orders: tuple[tuple[RouteOrder, ...], ...]
    grpc: bool = False
    copies: tuple[Copied, ...] = ()
    sticking: tuple[tuple[int, Sticking], ...] = ()
    apart: Mapping[tuple[int, int], ObjectKey] = {}
    canaries: frozenset[tuple[int, int]] = frozenset()

    @property
    def unable(self) -> int:
        """The status of requests for which there is no valid backend."""
        return UNAVAILABLE if self.grpc else UNABLE

    def declared(self, rule: int) -> int:
        """The number that a rule has in the object: its own, or that of the rule whose copy it is."""
        copied = self._copied(rule)
        return copied.origin if copied is not None else rule

    def _copied(self, rule: int) -> Copied | None:
        beyond = rule - (len(self.rules) - len(self.copies))
        return self.copies[beyond] if beyond >= 0 else None

    def stays(self, rule: int, *, grpc: bool = False) -> Sticking | None:
        """By what the clients of a rule stay with a version; None where they do not, as in gRPC's own (`grpc`)."""
        return dict(self.sticking).get(rule) if not grpc else None

    def label(self, rule: int) -> str:
        """What a rule is called in the names of Envoy's routes."""
        copied = self._copied(rule)
        name = self.rules[rule].name or str(self.declared(rule))
        return name if copied is None else f"{name}~{copied.called}"


def each_request_route(key: ObjectKey, _row: Declared) -> tuple[ObjectKey, ...]:
    """The key of a declared object that is a route of requests, for tables with a row for each of them."""
    return (key,) if key.kind in REQUEST_KINDS else ()


def find_request_route(look: Reader, key: ObjectKey) -> RequestRoute | None:
    """The route of that key, if it is one of requests, as it is by now: with what Rollouts make of it."""
    route = _of_cookies(look, key, declared_request_route(look, key))
    if route is None:
        return None
    by_now = moved(look, key, route.rules, route.orders)
    if by_now.rules == route.rules and not by_now.sticking and not by_now.canaries:
        return route
    return RequestRoute(
        by_now.rules,
        by_now.orders,
        grpc=route.grpc,
        copies=by_now.copies,
        sticking=by_now.sticking,
        apart=by_now.apart,
        canaries=by_now.canaries,
    )


def _of_cookies(look: Reader, key: ObjectKey, route: RequestRoute | None) -> RequestRoute | None:
    """A route with the cookies that policies want requests to have, and with its matches in their places by that."""
    rules = with_cookies(look, key, route.rules) if route is not None else ()
    if route is None or rules == route.rules:
        return route
    orders = (
        tuple(
            route_order(match, age=order.age, rule=order.rule, index=order.match)
            for match, order in zip(rule.matches, places, strict=True)
        )
        for rule, places in zip(rules, route.orders, strict=True)
    )
    return replace(route, rules=rules, orders=tuple(orders))


def declared_request_route(look: Reader, key: ObjectKey) -> RequestRoute | None:
    """The route of that key, if it is one of requests, as its object has it."""
    if key.kind == "GRPCRoute":
        route = find(look, GRPCRoute, key)
        return _of_grpc(route) if route is not None else None
    found = find(look, HTTPRoute, key) if key.kind == "HTTPRoute" else None
    return _of_http(found) if found is not None else None


def _of_http(route: HTTPRoute) -> RequestRoute:
    born = age(route.metadata)
    rules = tuple(_plain(rule) for rule in route.spec.rules)
    return RequestRoute(
        rules=rules,
        orders=tuple(
            tuple(route_order(match, age=born, rule=number, index=index) for index, match in enumerate(rule.matches))
            for number, rule in enumerate(rules)
        ),
    )


def _plain(rule: HTTPRouteRule) -> HTTPRouteRule:
    """A rule without the matches of a header or query parameter that another match of its name stands before."""
    if all(len(match.headers) < 2 and len(match.query_params) < 2 for match in rule.matches):
        return rule
    return replace(
        rule,
        matches=tuple(
            replace(
                match,
                headers=_firsts(match.headers, key=lambda one: one.name.lower()),
                query_params=_firsts(match.query_params, key=lambda one: one.name),
            )
            for match in rule.matches
        ),
    )


def _firsts(matches: tuple[M, ...], key: Callable[[M], str]) -> tuple[M, ...]:
    """Of several matches of one name the first counts (Gateway API, HTTPRouteMatch)."""
    firsts: dict[str, M] = {}
    for match in matches:
        firsts.setdefault(key(match), match)
    return tuple(firsts.values())


def _of_grpc(route: GRPCRoute) -> RequestRoute:
    born = age(route.metadata)
    return RequestRoute(
        rules=tuple(map(_rule, route.spec.rules)),
        orders=tuple(
            tuple(
                grpc_route_order(match, age=born, rule=number, index=index) for index, match in enumerate(rule.matches)
            )
            for number, rule in enumerate(route.spec.rules)
        ),
        grpc=True,
    )


def _rule(rule: GRPCRouteRule) -> HTTPRouteRule:
    return HTTPRouteRule(
        name=rule.name,
        matches=tuple(map(_match, rule.matches)),
        filters=filters_of(rule.filters),
        backend_refs=tuple(
            HTTPBackendRef(
                group=ref.group,
                kind=ref.kind,
                name=ref.name,
                namespace=ref.namespace,
                port=ref.port,
                weight=ref.weight,
                filters=filters_of(ref.filters),
            )
            for ref in rule.backend_refs
        ),
        session_persistence=rule.session_persistence,
    )


def filters_of(filters: Iterable[GRPCRouteFilter]) -> tuple[HTTPRouteFilter, ...]:
    """The filters of a GRPCRoute as those of an HTTPRoute."""
    return tuple(
        HTTPRouteFilter(
            type=one.type,
            request_header_modifier=one.request_header_modifier,
            response_header_modifier=one.response_header_modifier,
            request_mirror=one.request_mirror,
            extension_ref=one.extension_ref,
        )
        for one in filters
    )


def _match(match: GRPCRouteMatch) -> HTTPRouteMatch:
    return HTTPRouteMatch(
        path=method_path(match.method) if match.method is not None else _EVERY,
        headers=tuple(
            HTTPHeaderMatch(type=one.type, name=one.name, value=one.value)
            for one in _firsts(match.headers, key=lambda one: one.name.lower())
        ),
    )


def method_path(method: GRPCMethodMatch) -> HTTPPathMatch:
    """The paths of the calls that a method match means."""
    if not method.service and not method.method:
        return _EVERY
    if method.type == "Exact":
        if method.service and method.method:
            return HTTPPathMatch(type="Exact", value=f"/{method.service}/{method.method}")
        if method.service:
            return HTTPPathMatch(type="PathPrefix", value=f"/{method.service}")
        return HTTPPathMatch(type="RegularExpression", value=f"/{_ANY_SEGMENT}/{re2.escape(method.method)}")
    service = f"(?:{method.service})" if method.service else _ANY_SEGMENT
    name = f"(?:{method.method})" if method.method else _ANY_SEGMENT
    return HTTPPathMatch(type="RegularExpression", value=f"/{service}/{name}")
