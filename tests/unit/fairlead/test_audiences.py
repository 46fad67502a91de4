from __future__ import annotations

import asyncio

from fairlead.audiences import Audiences
from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change

EDGE = Audience("gateway", "default", "edge")
THERE, GONE = Change(AUDIENCES, EDGE, Connected()), Change(AUDIENCES, EDGE, None)


async def test_an_audience_stays_for_a_while_after_its_last_proxy_left() -> None:
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=0.05)
    kept.present(EDGE, True)
    kept.present(EDGE, False)
    assert changes == [THERE]
    async with asyncio.timeout(5):
        while len(changes) < 2:  # noqa: ASYNC110 - a timer of the loop fires, nothing to be told by
            await asyncio.sleep(0.001)
    assert changes == [THERE, GONE]


async def test_a_proxy_that_comes_back_in_time_changes_nothing() -> None:
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=0)
    kept.present(EDGE, True)
    kept.present(EDGE, False)
    kept.present(EDGE, True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert changes == [THERE]
    kept.stop()


async def test_when_the_server_stops_nobody_is_said_to_be_gone() -> None:
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=0)
    kept.present(EDGE, True)
    kept.present(EDGE, False)
    kept.stop()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert changes == [THERE]
