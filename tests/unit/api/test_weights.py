from __future__ import annotations

from typing import Any, cast

import pytest

from api.problems import Refusal
from api.weights import shifted
from mesh.kinds.httproute import HTTPRoute
from tests.unit.api.fakes import made, route

TWO = [
    {"name": "main", "backendRefs": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]},
    {"backendRefs": [{"name": "c", "port": 80, "weight": 7}, {"name": "c", "port": 81, "weight": 3}]},
]


def httproute(rules: list[Any] | None = None) -> HTTPRoute:
    return cast("HTTPRoute", made(route(rules=rules)))


def weights(of: HTTPRoute) -> list[list[int]]:
    return [[ref.weight for ref in rule.backend_refs] for rule in of.spec.rules]


def test_the_only_rule_need_not_be_named() -> None:
    assert weights(shifted(httproute(), None, {"reviews": 1, "reviews-v2": 2})) == [[1, 2]]


def test_backends_that_are_not_named_keep_their_weight() -> None:
    assert weights(shifted(httproute(), None, {"reviews-v2": 90})) == [[90, 90]]


@pytest.mark.parametrize("rule", [0, "main"])
def test_a_rule_is_named_by_index_or_name_and_the_others_stay(rule: Any) -> None:
    before = httproute(TWO)
    after = shifted(before, rule, {"a": 0, "b": 5})
    assert weights(after) == [[0, 5], [7, 3]]
    assert after.spec.rules[1] is before.spec.rules[1]


def test_backends_of_one_name_are_told_apart_by_port_or_kind() -> None:
    assert weights(shifted(httproute(TWO), 1, {"c:81": 9})) == [[1, 1], [7, 9]]
    assert weights(shifted(httproute(), 0, {"ServiceSubset/reviews-v2:80": 5})) == [[90, 5]]


@pytest.mark.parametrize(
    ("rule", "wish", "code", "path"),
    [
        (None, {"a": 1}, "NoSuchRule", "rule"),
        (2, {"a": 1}, "NoSuchRule", "rule"),
        (-1, {"a": 1}, "NoSuchRule", "rule"),
        (True, {"a": 1}, "NoSuchRule", "rule"),
        ("nobody", {"a": 1}, "NoSuchRule", "rule"),
        ({"a": 1}, {"a": 1}, "NoSuchRule", "rule"),
        (0, {"nobody": 1}, "NoSuchBackend", "weights.nobody"),
        (1, {"c": 1}, "AmbiguousBackend", "weights.c"),
        (0, {"a": -1}, "OutOfRange", "weights.a"),
        (0, {"a": 1_000_001}, "OutOfRange", "weights.a"),
        (0, {"a": 1.5}, "OutOfRange", "weights.a"),
        (0, {"a": "1"}, "OutOfRange", "weights.a"),
        (0, {"a": True}, "OutOfRange", "weights.a"),
        (0, {}, "WrongType", "weights"),
        (0, [], "WrongType", "weights"),
        (0, {"a": 0, "b": 0}, "NoBackendLeft", "weights"),
    ],
)
def test_a_wish_that_cannot_be_met_says_where_and_what_could_be(rule: Any, wish: Any, code: str, path: str) -> None:
    with pytest.raises(Refusal) as refused:
        shifted(httproute(TWO), rule, wish)
    assert [(problem.code, problem.path) for problem in refused.value.problems] == [(code, path)]
    assert refused.value.problems[0].fix
