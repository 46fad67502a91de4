from __future__ import annotations

import pytest

from mesh.kinds.selectors import LabelSelector, LabelSelectorRequirement

LABELS = {"team": "red", "tier": "front"}


def test_an_empty_selector_selects_everything() -> None:
    assert LabelSelector().selects({})


@pytest.mark.parametrize(
    ("key", "operator", "values", "expected"),
    [
        ("team", "In", ("red", "blue"), True),
        ("team", "In", ("blue",), False),
        ("absent", "In", ("blue",), False),
        ("team", "NotIn", ("red",), False),
        ("team", "NotIn", ("blue",), True),
        ("absent", "NotIn", ("blue",), True),
        ("team", "Exists", (), True),
        ("absent", "Exists", (), False),
        ("team", "DoesNotExist", (), False),
        ("absent", "DoesNotExist", (), True),
    ],
)
def test_each_operator_means_what_it_means_in_kubernetes(key, operator, values, expected) -> None:
    requirement = LabelSelectorRequirement(key=key, operator=operator, values=values)
    assert LabelSelector(match_expressions=(requirement,)).selects(LABELS) is expected


def test_all_conditions_must_hold() -> None:
    exists = LabelSelectorRequirement(key="tier", operator="Exists")
    assert LabelSelector(match_labels={"team": "red"}, match_expressions=(exists,)).selects(LABELS)
    assert not LabelSelector(match_labels={"team": "blue"}, match_expressions=(exists,)).selects(LABELS)
