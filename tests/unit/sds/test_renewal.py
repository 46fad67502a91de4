"""When certificates are renewed."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sds.renewal import renew_at, retry_after

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(hours=24)


@pytest.mark.parametrize(("draw", "share"), [(0.0, 0.4), (0.5, 0.5), (1.0, 0.6)])
def test_renewal_falls_into_the_middle_fifth_of_a_life(draw: float, share: float) -> None:
    found = renew_at(BEGIN, BEGIN + DAY, draw=draw)
    assert abs(found - (BEGIN + DAY * share)) < dt.timedelta(milliseconds=1)


def test_many_that_were_issued_together_come_spread() -> None:
    times = sorted(renew_at(BEGIN, BEGIN + DAY, draw=(i + 0.5) / 2_000) for i in range(2_000))
    busiest = max(
        sum(1 for one in times[i : i + 50] if one - times[i] < dt.timedelta(seconds=60)) for i in range(1_950)
    )
    assert busiest <= 8  # of 2,000, in the busiest minute of 4.8 hours


@given(st.integers(1, 10_000), st.floats(0, 1e6), st.floats(0, 1))
def test_there_is_always_time_for_more_attempts(attempts: int, seconds: float, draw: float) -> None:
    pause = retry_after(attempts, left=dt.timedelta(seconds=seconds), draw=draw).total_seconds()
    assert 0.5 <= pause <= max(1.0, seconds / 20) + 1e-6  # a timedelta is whole microseconds
