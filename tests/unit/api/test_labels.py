from __future__ import annotations

import pytest

from api.labels import selected, selector
from api.problems import Refusal

LABELS = {"app": "web", "tier": "front", "example.com/zone": "a"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier!=db", True),
        ("app!=web", False),
        ("missing!=web", True),
        ("missing=web", False),
        ("app in (db, web)", True),
        ("app notin (db,web)", False),
        ("missing notin (x)", True),
        ("missing in (x)", False),
        ("example.com/zone", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("app in (web),tier=front,!x", True),
        ("app=", False),
    ],
)
def test_selectors_mean_what_they_mean_in_kubernetes(text: str, holds: bool) -> None:
    assert selected(LABELS, selector(text)) is holds


@pytest.mark.parametrize(
    "text", ["=", "a=b=c", "a in b", "a in (b", "(", ",", "a,,b", "a b", "a=b)", "a in (b c)", "ü=x", "x" * 3000]
)
def test_a_selector_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        selector(text)
