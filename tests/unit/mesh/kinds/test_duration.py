from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.kinds.duration import milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", 0),
        ("500ms", 500),
        ("1s500ms", 1500),
        ("1m30s", 90_000),
        ("1h2m3s4ms", 3_723_004),
        ("99999h", 359_996_400_000),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "1.5s", "-1s", "1d", "100000s", "1s1s1s1s1s", " 1s", "1s\n", "s", "\u0661s"])
def test_what_is_no_duration_of_gep_2257_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        milliseconds(text)


@settings(deadline=None)
@given(st.integers(0, 99_999), st.integers(0, 59), st.integers(0, 999))
def test_parts_add_up_in_any_size(hours: int, minutes: int, ms: int) -> None:
    assert milliseconds(f"{hours}h{minutes}m{ms}ms") == hours * 3_600_000 + minutes * 60_000 + ms
