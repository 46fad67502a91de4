from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from fairlead import builder as module
from fairlead.builder import Builder
from fairlead.lanes import Batch, Lanes
from mesh.model import DISCOVERED_ENDPOINTS, DISCOVERED_SERVICES, DiscoveredEndpointsKey, DiscoveredServiceKey
from mesh.tables import Change, Commit, Engine, Look, derived, each


@derived("doubled", each(DISCOVERED_ENDPOINTS))
def DOUBLED(key: DiscoveredEndpointsKey, look: Look) -> int | None:  # noqa: N802
    row: Any = look(DISCOVERED_ENDPOINTS, key)
    return None if row is None else 2 * row


def endpoints(number: int, row: Any) -> Change:
    return Change(DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey("test", "default", "a", f"{number:05}"), row)


def service(row: Any) -> Change:
    return Change(DISCOVERED_SERVICES, DiscoveredServiceKey("test", "default", "a"), row)


def made() -> tuple[Builder, list[tuple[Commit, Batch]]]:
    lanes = Lanes(quiet_period=0.05, quiet_period_max=0.5)
    builder = Builder(Engine([DISCOVERED_ENDPOINTS, DISCOVERED_SERVICES, DOUBLED]), lanes, clock=time.monotonic)
    seen: list[tuple[Commit, Batch]] = []
    builder.listen(lambda commit, batch, _seconds: seen.append((commit, batch)))
    return builder, seen


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - conditions of several kinds, with a deadline
            await asyncio.sleep(0.001)


async def test_the_first_build_takes_everything_at_once_without_waiting_for_quiet() -> None:
    builder, seen = made()
    builder.submit([service("new"), endpoints(1, 21)])
    commit = await builder.build_first()
    assert [each_commit for each_commit, _ in seen] == [commit]
    assert list(builder.engine.rows(DOUBLED).values()) == [42]
    assert builder.engine.get(DISCOVERED_SERVICES, service(None).key) == "new"


async def test_a_first_build_of_nothing_is_a_build_too() -> None:
    builder, seen = made()
    await builder.build_first()
    assert len(seen) == 1


async def test_endpoints_overtake_what_waits_for_quiet() -> None:
    builder, seen = made()
    await builder.build_first()
    running = asyncio.get_running_loop().create_task(builder.run())
    builder.submit([service("new")])
    builder.submit([endpoints(1, 1)])
    await until(lambda: len(seen) == 3)
    running.cancel()
    assert [[change.table for change in batch.changes] for _, batch in seen[1:]] == [
        [DISCOVERED_ENDPOINTS],
        [DISCOVERED_SERVICES],
    ]
    assert seen[2][1].since <= seen[1][1].since


async def test_a_large_batch_is_built_in_a_thread_and_says_so_meanwhile(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "LARGE", 10)
    builder, seen = made()
    await builder.build_first()
    before = sys.getswitchinterval()
    running = asyncio.get_running_loop().create_task(builder.run())
    during: list[tuple[bool, float]] = []

    class Watched(int):
        def __mul__(self, other: int) -> int:
            return int(self) * other

        def __rmul__(self, other: int) -> int:
            during.append((builder.building, sys.getswitchinterval()))
            return int(self) * other

    builder.submit([endpoints(number, Watched(number)) for number in range(11)])
    await until(lambda: len(seen) == 2)
    running.cancel()
    assert len(during) == 11
    assert all(building and interval < before for building, interval in during)
    assert (builder.building, sys.getswitchinterval()) == (False, before)
    assert len(builder.engine.rows(DOUBLED)) == 11


async def test_the_time_of_the_oldest_change_goes_with_the_batch() -> None:
    builder, seen = made()
    await builder.build_first()
    before = time.monotonic()
    builder.submit([service("new")])
    after = time.monotonic()
    running = asyncio.get_running_loop().create_task(builder.run())
    await until(lambda: len(seen) == 2)
    running.cancel()
    assert before <= seen[1][1].since <= after
