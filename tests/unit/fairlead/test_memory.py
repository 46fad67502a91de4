from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead import builder as module
from fairlead import memory
from fairlead.builder import Builder
from fairlead.lanes import Lanes
from mesh.model import DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey
from mesh.tables import Change, Engine, Look, derived, each

MB = 1_000_000


@derived("kept", each(DISCOVERED_ENDPOINTS))
def KEPT(key: DiscoveredEndpointsKey, look: Look) -> Any:  # noqa: N802
    return look(DISCOVERED_ENDPOINTS, key)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def changes(count: int) -> list[Change]:
    return [
        Change(DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey("test", "default", "a", f"{number}"), [number])
        for number in range(count)
    ]


async def test_many_new_rows_are_put_out_of_the_collectors_sight_and_few_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MANY_ROWS", 5)
    builder = Builder(
        Engine([DISCOVERED_ENDPOINTS, KEPT]), Lanes(quiet_period=0, quiet_period_max=0), clock=time.monotonic
    )
    await builder.build_first()
    gc.unfreeze()
    builder.submit(changes(2))
    await builder.build_first()
    builder.submit([Change(change.table, change.key, [change.row]) for change in changes(2)])
    await builder.build_first()
    assert gc.get_freeze_count() == 0, "four are new; rows that took the place of others are not"
    builder.submit(changes(4))
    await builder.build_first()
    assert gc.get_freeze_count() > 0


def test_while_much_is_added_nothing_is_collected_and_then_it_is_out_of_sight() -> None:
    with memory.adding():
        assert not gc.isenabled()
        kept: list[Any] = [[]]
    assert gc.isenabled()
    assert all(one is not kept for one in gc.get_objects())


def test_after_a_defect_while_much_is_added_the_collector_works_again() -> None:
    with pytest.raises(ValueError, match="defect"), memory.adding():
        raise ValueError("defect")
    assert gc.isenabled()


def test_a_burst_is_over_when_little_more_is_sent_and_only_once() -> None:
    bursts = memory.Bursts(0)
    sent = [0, 100 * MB, 240 * MB, 240 * MB, 240 * MB]
    assert [bursts.over(total) for total in sent] == [False, False, False, True, False]


def test_what_endpoint_changes_send_all_the_time_is_no_burst() -> None:
    bursts = memory.Bursts(0)
    assert not any(bursts.over(total) for total in range(0, 30 * MB, MB // 2))
