"""What an instance may say of itself."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.registered import RegistrationKey, check, check_key

GOOD: dict[str, Any] = {"address": "192.0.2.7", "ports": {"http": 8080}}


def test_a_registration_has_a_time_to_live_of_its_own() -> None:
    made, problems = check(GOOD)
    assert made is not None
    assert (made.ttl_seconds, problems) == (15, ())


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"ttlSeconds": 0}, "ttlSeconds"),
        ({"ttlSeconds": 1e300}, "ttlSeconds"),
        ({"ttlSeconds": "15"}, "ttlSeconds"),
        ({"ports": {}}, "ports"),
        ({"ports": {"http": 0}}, "ports.http"),
        ({"ports": {f"p{number}": 1 for number in range(101)}}, "ports"),
        ({"labels": {f"l{number}": "" for number in range(65)}}, "labels"),
        ({"address": "reviews.example.com"}, "address"),
        ({"address": "0.0.0.0"}, "address"),
        ({"weight": 0}, "weight"),
        ({"adress": "192.0.2.7"}, "adress"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(wrong: dict[str, Any], path: str) -> None:
    made, problems = check(GOOD | wrong)
    assert made is None
    assert path in [problem.path for problem in problems]


@pytest.mark.parametrize("raw", [None, [], "x", 1])
def test_something_else_than_an_object_is_refused(raw: Any) -> None:
    assert check(raw)[0] is None


@pytest.mark.parametrize("key", [("", "a", "b"), ("a", "B", "c"), ("a", "b", "../c"), ("a", "b", "x" * 64)])
def test_names_that_cannot_be_are_refused(key: tuple[str, str, str]) -> None:
    assert check_key(RegistrationKey(*key))
