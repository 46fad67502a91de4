"""What RoutePolicies say of each route and of its named rules: the row that whoever makes routes looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from mesh.kinds.routepolicy import RoutePolicy, RouteSettings
from mesh.kinds.trafficpolicy import TrafficPolicy
from mesh.model import ObjectKey
from mesh.objects import OBJECTS
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
    told_of_backends,
)
from mesh.request_routes import each_request_route, find_request_route
from mesh.tables import Look, derived, each


class RouteRules(msgspec.Struct, frozen=True):
    """What RoutePolicies say of a route: of all its rules, and of those named ones for which it differs."""

    whole: Effective | None = None
    rules: tuple[tuple[str, Effective], ...] = ()

    def of_rule(self, name: str | None) -> Effective | None:
        """What holds for a rule; one without a name is never singled out."""
        return next((effective for rule, effective in self.rules if rule == name), self.whole)


@derived("route_rules", each(OBJECTS, each_request_route))
def ROUTE_RULES(key: ObjectKey, look: Look) -> RouteRules | None:  # noqa: N802
    """The routes of which some RoutePolicy says something."""
    route = find_request_route(look, key)
    if route is None:
        return None
    policy = RoutePolicy.__name__
    target = Target(policy, key.kind, key.namespace, key.name)
    around = [*namespace_levels(look, policy, key.namespace), Level(target)]
    whole = merge(layers(look, around), RouteSettings)
    named = [rule.name for rule in route.rules if rule.name is not None]
    each_rule = [
        (name, merge(layers(look, [*around, Level(target, frozenset({name}))]), RouteSettings)) for name in named
    ]
    rules = tuple((name, effective) for name, effective in each_rule if effective is not None and effective != whole)
    return RouteRules(whole, rules) if whole is not None or rules else None


def effective_policies(
    traffic: Iterable[tuple[BackendKey, Ports]], routes: Iterable[tuple[ObjectKey, RouteRules]]
) -> Iterator[Told]:
    """What RoutePolicies and TrafficPolicies come to for each target that they reach, sorted."""
    for at, rules in sorted(routes, key=lambda item: item[0]):
        parts = [("", rules.whole)] if rules.whole is not None else []
        for section, effective in [*parts, *rules.rules]:
            yield Told(RoutePolicy.__name__, at.kind, at.namespace, at.name, section, effective)
    yield from told_of_backends(TrafficPolicy.__name__, traffic)
