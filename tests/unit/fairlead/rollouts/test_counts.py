"""Replicas that tell each other what proxies report: how often, to whom, and what happens when one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from discovery.board import BoardAwayError
from fairlead.rollouts.counts import BEAT_SECONDS, WRITE_SECONDS, SharedCounts
from mesh.model import Tally
from policy.measures import Measures
from policy.shared_counts import FORGOTTEN_AFTER

CANARY = "default/shop-v2:80"


class Pinboard:
    """A board in memory that may be away."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.away = False
        self.writes = 0
        self._bell = asyncio.Condition()

    async def write(self, changes: Mapping[str, bytes | None]) -> None:
        if self.away:
            raise BoardAwayError("it is away")
        self.writes += 1
        for name, content in changes.items():
            if content is None:
                self.rows.pop(name, None)
            else:
                self.rows[name] = content
        async with self._bell:
            self._bell.notify_all()

    async def watch(self) -> AsyncIterator[Mapping[str, bytes]]:
        while not self.away:
            yield dict(self.rows)
            async with self._bell:
                await self._bell.wait()
        raise BoardAwayError("it is away")


class Replica:
    """One that hears of proxies, at a time that tests set."""

    def __init__(self, board: Pinboard) -> None:
        self.now = 1_000.0
        self.measures = Measures()
        self.measures.watch([CANARY], [])
        self.counts = SharedCounts(self.measures, board, clock=lambda: self.now)
        self.listening = asyncio.get_running_loop().create_task(self.counts.listen())

    async def end(self) -> None:
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)

    @property
    def seen(self) -> Tally:
        return self.measures.tally(CANARY)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_judges_sees_what_both_replicas_hear_and_each_request_once() -> None:
    board = Pinboard()
    judge, other = Replica(board), Replica(board)
    other.measures.share([CANARY], [])
    await other.counts.write()
    await turns()
    judge.measures.counted(CANARY, 10, 1)
    for _ in range(3):
        other.measures.counted(CANARY, 5, 2)
        other.now += WRITE_SECONDS
        await other.counts.write()
        await judge.counts.write()
        await turns()
    assert judge.seen == Tally(25, 7)
    assert other.seen == Tally(15, 6), "who judges tells nobody"
    await judge.end()
    await other.end()


async def test_a_row_is_written_no_more_often_than_that_and_a_quiet_one_only_to_say_that_it_is_there() -> None:
    board = Pinboard()
    other = Replica(board)
    other.measures.share([CANARY], [])
    for _ in range(100):
        other.measures.counted(CANARY, 1, 0)
        await other.counts.write()
        other.now += 0.1
    assert board.writes == 10 / WRITE_SECONDS
    other.now += WRITE_SECONDS
    await other.counts.write()
    before = board.writes
    for _ in range(60):
        other.now += 10.0
        await other.counts.write()
    assert board.writes - before == 600 / BEAT_SECONDS
    await other.end()


async def test_with_nothing_to_tell_nothing_is_written_and_an_old_row_goes() -> None:
    board = Pinboard()
    other = Replica(board)
    await other.counts.write()
    assert board.writes == 0
    other.measures.share([CANARY], [])
    await other.counts.write()
    assert len(board.rows) == 1
    other.measures.share([], [])
    await other.counts.write()
    assert board.rows == {}
    other.measures.share([CANARY], [])
    other.now += WRITE_SECONDS
    await other.counts.write()
    assert len(board.rows) == 1
    await other.counts.close()
    assert board.rows == {}
    await other.end()


async def test_a_replica_that_died_drops_out_and_its_row_is_removed_after_a_while() -> None:
    board = Pinboard()
    judge, other = Replica(board), Replica(board)
    other.measures.share([CANARY], [])
    await other.counts.write()
    await turns()
    other.measures.counted(CANARY, 5, 0)
    other.now += WRITE_SECONDS
    await other.counts.write()
    await turns()
    await other.end()
    assert judge.seen == Tally(5, 0)
    third = Replica(board)
    third.measures.share([CANARY], [])
    await third.counts.write()
    await turns()
    assert len(board.rows) == 2
    third.now += FORGOTTEN_AFTER
    await third.counts.write()
    assert len(board.rows) == 1
    await turns()
    assert judge.seen == Tally(5, 0)
    await judge.end()
    await third.end()


async def test_what_could_not_be_pinned_is_told_by_the_next_row() -> None:
    board = Pinboard()
    judge, other = Replica(board), Replica(board)
    other.measures.share([CANARY], [])
    await other.counts.write()
    await turns()
    board.away = True
    other.measures.counted(CANARY, 5, 0)
    other.now += WRITE_SECONDS
    await other.counts.write()
    board.away = False
    other.now += WRITE_SECONDS
    await other.counts.write()
    await turns()
    assert judge.seen == Tally(5, 0)
    await judge.end()
    await other.end()
