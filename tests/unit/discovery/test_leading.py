from __future__ import annotations

import asyncio
import time

import pytest

from discovery import leading
from discovery.leading import RENEW_DEADLINE, Teller, Tenure


def test_a_tenure_counts_from_the_beginning_of_the_last_renewal() -> None:
    tenure = Tenure()
    assert not tenure.holds(0.0)
    tenure.renewed(5.0)
    assert tenure.holds(5.0 + RENEW_DEADLINE - 0.01)
    assert not tenure.holds(5.0 + RENEW_DEADLINE)
    tenure.renewed(20.0)
    tenure.lost()
    assert not tenure.holds(20.0)


async def test_a_tenure_that_runs_out_is_told_though_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "RENEW_DEADLINE", 0.05)
    tenure, told, ended = Tenure(), [], asyncio.Event()

    def changed(leads: bool) -> None:
        told.append(leads)
        if not leads:
            ended.set()

    teller = Teller("it", tenure, holder=lambda: "", changed=changed)
    tenure.renewed(time.monotonic())
    teller.renewed()
    teller.tell()
    await asyncio.wait_for(ended.wait(), 10)
    assert told == [True, False]
