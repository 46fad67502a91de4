from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fairlead.audiences import Audiences
from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change

EDGE = Audience("gateway", "default", "edge")
NAME = '["gateway","default","edge",0,0,0,false,"",false,"",[]]'
THERE, GONE = Change(AUDIENCES, EDGE, Connected()), Change(AUDIENCES, EDGE, None)


def nowhere(_documents: Mapping[str, bytes | None]) -> None:
    pass


async def test_an_audience_stays_for_a_while_after_its_last_proxy_left() -> None:
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=0.05, save=nowhere)
    kept.present(EDGE, True)
    kept.present(EDGE, False)
    assert changes == [THERE]
    async with asyncio.timeout(5):
        while len(changes) < 2:  # noqa: ASYNC110 - a timer of the loop fires, nothing to be told by
            await asyncio.sleep(0.001)
    assert changes == [THERE, GONE]


async def test_a_proxy_that_comes_back_in_time_changes_nothing() -> None:
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=0, save=nowhere)
    kept.present(EDGE, True)
    kept.present(EDGE, False)
    kept.present(EDGE, True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert changes == [THERE]
    kept.stop()


async def test_when_the_server_stops_nobody_is_said_to_be_gone() -> None:
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=0, save=nowhere)
    kept.present(EDGE, True)
    kept.present(EDGE, False)
    kept.stop()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert changes == [THERE]


async def test_after_a_restart_audiences_are_there_before_their_proxies_and_go_if_none_comes() -> None:
    documents: dict[str, Any] = {}
    kept = Audiences(list[Change]().extend, linger=60, save=documents.update)
    kept.present(EDGE, True)
    kept.present(EDGE, False)
    kept.stop()
    assert documents == {NAME: b""}

    changes: list[Change] = []
    again = Audiences(changes.extend, linger=0.05, save=documents.update)
    again.load(documents)
    assert changes == [THERE]
    async with asyncio.timeout(5):
        while len(changes) < 2:  # noqa: ASYNC110 - a timer of the loop fires, nothing to be told by
            await asyncio.sleep(0.001)
    assert changes == [THERE, GONE]
    assert documents == {NAME: None}


async def test_a_proxy_that_returns_after_a_restart_finds_its_audience_and_changes_nothing() -> None:
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=0, save=nowhere)
    kept.load([NAME])
    kept.present(EDGE, True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert changes == [THERE]


async def test_a_name_that_is_no_audience_is_forgotten() -> None:
    documents: dict[str, Any] = {"rubbish": b""}
    kept = Audiences(list[Change]().extend, linger=0, save=documents.update)
    kept.load(list(documents))
    assert documents == {"rubbish": None}


async def test_an_audience_that_an_older_version_kept_is_kept_under_its_present_name() -> None:
    documents: dict[str, Any] = {'["gateway","default","edge",0,0,0]': b""}
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=60, save=documents.update)
    kept.load(list(documents))
    kept.stop()
    assert changes == [THERE]
    assert documents == {'["gateway","default","edge",0,0,0]': None, NAME: b""}


async def test_replicas_of_a_gateway_over_state_of_the_world_are_an_audience_of_their_own() -> None:
    documents: dict[str, Any] = {}
    changes: list[Change] = []
    kept = Audiences(changes.extend, linger=60, save=documents.update)
    over_sotw = EDGE._replace(sotw=True)
    kept.present(EDGE, True)
    kept.present(over_sotw, True)
    assert changes == [THERE, Change(AUDIENCES, over_sotw, Connected())]
    again: list[Change] = []
    loaded = Audiences(again.extend, linger=60, save=nowhere)
    loaded.load(documents)
    loaded.stop()
    assert again == changes
