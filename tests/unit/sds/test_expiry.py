"""When somebody is told that an authority ends."""

from __future__ import annotations

import datetime as dt

import pytest

from sds.expiry import Ending, warnings

END = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
ENDING = Ending("the root", "1f3c", END)
DAY = dt.timedelta(days=1)
MOMENT = dt.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("left", "days"),
    [
        (30 * DAY + MOMENT, None),
        (30 * DAY, 30),
        (14 * DAY + MOMENT, 30),
        (14 * DAY, 14),
        (7 * DAY, 7),
        (DAY + MOMENT, 7),
        (DAY, 1),
        (MOMENT, 1),
        (0 * DAY, 0),
        (-DAY, 0),
    ],
)
def test_it_is_told_30_14_7_and_1_days_before(left: dt.timedelta, days: int | None) -> None:
    found = warnings([ENDING], END - left)
    assert [one.days for one in found] == ([] if days is None else [days])


def test_the_words_change_with_the_days_so_that_each_is_told_once() -> None:
    said = {str(one) for hours in range(31 * 24) for one in warnings([ENDING], END - dt.timedelta(hours=hours))}
    assert len(said) == 5
    assert any("the root 1f3c ends within 1 day, at 2026-06-01" in one for one in said)


def test_the_most_urgent_comes_first() -> None:
    later = Ending("the authority", "9e41", END + DAY)
    assert [one.ending.id for one in warnings([later, ENDING], END - DAY)] == ["1f3c", "9e41"]
