from __future__ import annotations

import pytest

from mesh.hostnames import best, covers, intersection, specificity


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("", "a.example.com", True),
        ("", "*.example.com", True),
        ("", "", True),
        ("a.example.com", "a.example.com", True),
        ("a.example.com", "b.example.com", False),
        ("a.example.com", "", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("*.example.com", "aexample.com", False),
        ("*.example.com", "*.b.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.b.example.com", "*.example.com", False),
        ("*.example.com", "", False),
    ],
)
def test_a_wildcard_covers_one_or_more_labels(pattern: str, host: str, expected: bool) -> None:
    assert covers(pattern, host) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "a.com", "a.com"),
        ("*.com", "a.com", "a.com"),
        ("*.com", "*.a.com", "*.a.com"),
        ("a.com", "b.com", None),
        ("*.a.com", "*.b.com", None),
        ("", "", ""),
    ],
)
def test_an_intersection_is_the_narrower_of_the_two_either_way_round(
    one: str, other: str, expected: str | None
) -> None:
    assert intersection(one, other) == expected
    assert intersection(other, one) == expected


def test_exact_beats_wildcards_and_longer_wildcards_beat_shorter_ones() -> None:
    names = ["", "*.com", "*.example.com", "*.a.example.com", "b.a.example.com"]
    assert sorted(names, key=specificity) == names[::-1]
    assert best(tuple(names), "b.a.example.com") == "b.a.example.com"
    assert best(tuple(names), "c.a.example.com") == "*.a.example.com"
    assert best(tuple(names), "c.b.a.example.com") == "*.a.example.com"
    assert best(tuple(names), "example.com") == "*.com"
    assert best(tuple(names), "example.org") == ""
    assert best(("a.com",), "b.com") is None
