"""Which of several matching rules wins, and which of several objects is older, as Gateway API defines them.

One place for all ordering: translation sorts Envoy's routes by it, and the oracle in `mesh.explain` judges by it.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

from mesh.kinds.grpcroute import GRPCRouteMatch
from mesh.kinds.httproute import HTTPRouteMatch
from mesh.kinds.meta import ObjectMeta

# Gateway API leaves the place of regular expressions to the implementation; between Exact and PathPrefix they can
# overrule a prefix without ever hiding a path that somebody named exactly.
_PATH_RANK = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}


class Age(NamedTuple):
    """Sort key of objects, the oldest first; then by namespace and name."""

    created: float
    namespace: str
    name: str


class RouteOrder(NamedTuple):
    """Sort key of one match of one rule, the one that wins first. `specificity` compares within one kind of routes."""

    specificity: tuple[int, ...]
    age: Age
    rule: int
    match: int


def age(metadata: ObjectMeta) -> Age:
    """The age of an object; without a (readable) creationTimestamp it counts as youngest."""
    return Age(_seconds(metadata.creation_timestamp), metadata.namespace, metadata.name)


def _seconds(timestamp: str | None) -> float:
    if timestamp is None:
        return math.inf
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return math.inf
    # Without an offset the local time zone of whoever derives would decide: replicas would differ.
    return moment.timestamp() if moment.tzinfo is not None else math.inf


def route_order(match: HTTPRouteMatch, *, age: Age, rule: int, index: int) -> RouteOrder:
    """The sort key of `rules[rule].matches[index]` of an HTTPRoute of that age; smaller wins (its `matches`)."""
    specificity = (
        _PATH_RANK[match.path.type],
        -len(match.path.value),
        0 if match.method is not None else 1,
        -len(match.headers),
        -len(match.query_params),
    )
    return RouteOrder(specificity, age, rule, index)


def grpc_route_order(match: GRPCRouteMatch, *, age: Age, rule: int, index: int) -> RouteOrder:
    """The same of a GRPCRoute (GRPCRouteRule.matches), where regular expressions come after all that is exact.

    Characters of an expression say nothing of those that it matches.
    """
    method = match.method
    specificity = (
        1 if method is not None and method.type == "RegularExpression" else 0 if method is not None else 2,
        -len(method.service) if method is not None else 0,
        -len(method.method) if method is not None else 0,
        -len(match.headers),
    )
    return RouteOrder(specificity, age, rule, index)
