"""Durations as Gateway API writes them (GEP-2257): `1m30s`, `500ms`, up to four parts of up to five digits each."""

from __future__ import annotations

import re

_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_WHOLE = re.compile(r"(?:[0-9]{1,5}(?:ms|h|m|s)){1,4}")
_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")


def milliseconds(text: str) -> int:
    """The duration in milliseconds.

    Raises ValueError where `text` is not a duration of GEP-2257 (`1.5s`, `-1s`, `1d` and an empty text are none).
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write one to four of h, m, s, ms, as in 1h30m or 500ms")
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text))
