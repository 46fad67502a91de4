"""When somebody should be told that an authority ends: 30, 14, 7 and 1 days before. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

import msgspec

WARN_DAYS: Final = (30, 14, 7, 1)


class Ending(msgspec.Struct, frozen=True):
    """A certificate of an authority, and when it ends. `what` is for people: `the root`, `the authority 0123…`."""

    what: str
    id: str
    ends_at: dt.datetime


class Warning(msgspec.Struct, frozen=True):  # noqa: A001 - the thing's name
    """One that ends soon; `days` is the smallest of `WARN_DAYS` that it has come within, 0 once it has ended."""

    ending: Ending
    days: int

    def __str__(self) -> str:
        end = self.ending.ends_at.isoformat(timespec="seconds")
        if not self.days:
            return f"{self.ending.what} {self.ending.id} ended at {end}"
        unit = "day" if self.days == 1 else "days"
        return f"{self.ending.what} {self.ending.id} ends within {self.days} {unit}, at {end}"


def warnings(endings: Iterable[Ending], now: dt.datetime) -> tuple[Warning, ...]:
    """What to tell, the most urgent first."""
    found = [Warning(one, days) for one in endings if (days := _within(one.ends_at - now)) is not None]
    return tuple(sorted(found, key=lambda one: (one.ending.ends_at, one.ending.id)))


def _within(left: dt.timedelta) -> int | None:
    if left <= dt.timedelta():
        return 0
    return min((days for days in WARN_DAYS if left <= dt.timedelta(days=days)), default=None)
