"""When keys are looked for again."""

from __future__ import annotations

import pytest

from discovery.jwks.refresh import pause


def test_looks_are_spread_and_never_later_than_the_settings_say() -> None:
    assert pause(refresh=300, failures=0, luck=0) == 300
    assert pause(refresh=300, failures=0, luck=1) == pytest.approx(240)


def test_after_failures_looks_come_soon_and_then_less_often() -> None:
    found = [pause(refresh=300, failures=failures, luck=0) for failures in (1, 2, 3, 9, 10, 10_000)]
    assert found == [1, 2, 4, 256, 300, 300]
