"""Durations in policies: what is too short or too long to be meant."""

from __future__ import annotations

from mesh.kinds.duration import milliseconds
from mesh.problems import Report

_LONGEST = 365 * 24 * 3_600_000  # a year, in ms: what is meant to last longer is written as 0s


def check_positive(duration: str | None, path: str, report: Report) -> None:
    """Longer than nothing."""
    if duration is not None and milliseconds(duration) == 0:
        report.error("OutOfRange", path, "it must be longer than 0", "write it as in `5s`, or leave it out")
    check_not_endless(duration, path, report)


def check_whole_seconds(duration: str | None, path: str, report: Report) -> None:
    """Whole seconds, at least one."""
    check_positive(duration, path, report)
    if duration is not None and milliseconds(duration) % 1000:
        report.error("OutOfRange", path, "it is counted in whole seconds", "write it as in `30s`")


def check_not_endless(duration: str | None, path: str, report: Report) -> None:
    """At most a year."""
    if duration is not None and milliseconds(duration) > _LONGEST:
        report.error("OutOfRange", path, "it is longer than a year", "write at most 8760h")
