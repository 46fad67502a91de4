"""Which of several matching rules wins, and which of several objects is older, as Gateway API defines them.

One place for all ordering: translation sorts Envoy's routes by it, and the oracle in `mesh.explain` judges by it.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

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
    """Sort key of one match of one rule, the one that wins first (HTTPRouteRule.matches in Gateway API v1.6)."""

    path_rank: int
    path_length: int
    method: int
    headers: int
    query_params: int
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
    """The sort key of `rules[rule].matches[index]` of a route of that age; smaller wins."""
    return RouteOrder(
        path_rank=_PATH_RANK[match.path.type],
        path_length=-len(match.path.value),
        method=0 if match.method is not None else 1,
        headers=-len(match.headers),
        query_params=-len(match.query_params),
        age=age,
        rule=rule,
        match=index,
    )
