from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from mesh.kinds.httproute import HTTPRouteMatch
from mesh.kinds.meta import ObjectMeta
from mesh.precedence import RouteOrder, age, route_order

OLD = ObjectMeta(name="z", creation_timestamp="2024-01-01T00:00:00Z")
YOUNG = ObjectMeta(name="a", creation_timestamp="2024-01-02T00:00:00Z")


def order(meta: ObjectMeta = OLD, rule: int = 0, index: int = 0, **match: Any) -> RouteOrder:
    return route_order(msgspec.convert(match, HTTPRouteMatch), age=age(meta), rule=rule, index=index)


def path(value: str, kind: str = "PathPrefix") -> dict[str, str]:
    return {"type": kind, "value": value}


HEADER = {"name": "a", "value": "b"}
QUERY = {"name": "a", "value": "b"}


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (order(path=path("/a", "Exact")), order(path=path("/aaaaaaaa"), method="GET", headers=[HEADER])),
        (order(path=path("/a", "Exact")), order(path=path("/.*", "RegularExpression"))),
        (order(path=path("/.*", "RegularExpression")), order(path=path("/aaaa"))),
        (order(path=path("/ab")), order(path=path("/a"), method="GET", headers=[HEADER])),
        (order(method="GET"), order(headers=[HEADER, HEADER])),
        (order(headers=[HEADER, {"name": "c", "value": "d"}]), order(headers=[HEADER], queryParams=[QUERY, QUERY])),
        (order(headers=[HEADER]), order(queryParams=[QUERY])),
        (order(queryParams=[QUERY]), order()),
        (order(OLD, rule=5), order(YOUNG)),
        (order(OLD), order(ObjectMeta(name="a"))),
        (order(rule=0, index=3), order(rule=1)),
        (order(index=0), order(index=1)),
    ],
)
def test_precedence_is_gateway_api_s(winner: RouteOrder, loser: RouteOrder) -> None:
    assert winner < loser


def test_without_a_timestamp_an_object_is_youngest_then_names_decide() -> None:
    ages = [
        age(ObjectMeta(name="b", namespace="n", creation_timestamp="2024-01-01T00:00:00Z")),
        age(ObjectMeta(name="c", namespace="n", creation_timestamp="2024-01-01T01:00:00+01:00")),
        age(ObjectMeta(name="z", namespace="a")),
        age(ObjectMeta(name="a", namespace="b")),
    ]
    assert ages == sorted(ages)
    assert ages[0].created == ages[1].created


@pytest.mark.parametrize("timestamp", ["yesterday", "2024-01-01T00:00:00", ""])
def test_a_timestamp_that_says_no_moment_counts_as_none(timestamp: str) -> None:
    assert age(ObjectMeta(name="a", creation_timestamp=timestamp)).created == math.inf
