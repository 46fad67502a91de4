"""The loop that moves Rollouts: what survives an end at any moment, and what happens while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discovery.kubernetes.status_writer import StatusWriter
from discovery.stores.sqlite import SqliteStore
from discovery.stores.store import StoreFull
from fairlead.rollouts.mover import NotKeptError, NotKnownError, NotLeadingError
from mesh.model import ROLLOUT_STATES, ObjectKey
from mesh.rollout_json import rollout_to_json
from mesh.rollout_machine import RefusedError, Sight
from tests.support.rollout_replicas import BAD, GOOD, KEY, ROLLOUT, Documents, Killed, Replica, essence


@pytest.mark.parametrize("before", [True, False], ids=["before the write", "after the write"])
@pytest.mark.parametrize("sight", [GOOD, BAD], ids=["good", "bad"])
async def test_killed_at_any_write_it_goes_on_and_comes_to_the_same_end(sight: Sight, before: bool) -> None:
    whole = Replica(Documents())
    await whole.begin()
    whole.looking.sight = sight
    end = await whole.run(30)
    assert end.phase == ("Promoted" if sight is GOOD else "RolledBack")
    for moment in range(1, 30):
        store = Documents()
        store.kill_in, store.before = moment, before
        first = Replica(store)
        await first.begin()
        first.looking.sight = sight
        weights = []
        try:
            for _ in range(30):
                await first.run(1)
                weights.append(first.state.weight)
        except Killed:
            pass
        else:
            assert moment > 3, "it was never killed"
            break
        second = Replica(store, now=first.now)
        await second.begin()
        second.looking.sight = sight
        now = await second.run(1)
        if now.phase != "RolledBack":
            assert now.weight >= max(weights, default=0), "users would go back and forth between versions"
        assert essence(await second.run(30)) == essence(end)


@pytest.mark.parametrize("ticks", range(1, 10))
async def test_with_a_real_store_a_process_that_ends_at_any_second_is_taken_over(ticks: int, tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "f.db")
    first = Replica(store)
    await first.begin()
    held = await first.run(ticks)
    await store.close()
    store = await SqliteStore.open(tmp_path / "f.db")
    second = Replica(store, now=first.now)
    await second.begin()
    assert second.state == held
    assert (await second.run(20)).phase == "Promoted"
    await store.close()


@pytest.mark.parametrize(("command", "phase"), [("pause", "Paused"), ("promote", "Promoted"), ("abort", "RolledBack")])
async def test_a_command_that_was_answered_survives_a_kill(command: Any, phase: str) -> None:
    store = Documents()
    first = Replica(store)
    await first.begin()
    await first.run(2)
    await first.rollouts.order(KEY, command)
    second = Replica(store)
    await second.begin()
    assert (await second.run(30)).phase == phase


async def test_while_the_store_is_away_nothing_moves_on_but_a_bad_version_goes_back() -> None:
    store = Documents()
    one = Replica(store)
    await one.begin()
    await one.run(2)
    store.away = StoreFull("The disk is full", fix="Make room.")
    assert essence(await one.run(20))[:3] == ("Progressing", 1, 10)
    with pytest.raises(NotKeptError, match="disk is full"):
        await one.rollouts.order(KEY, "promote")
    one.looking.sight = BAD
    assert essence(await one.run(5)) == ("RolledBack", 1, 0, "CheckFailed")
    store.away = None
    await one.run(1)
    again = Replica(store)
    await again.begin()
    assert again.state.phase == "RolledBack"


async def test_while_the_store_is_away_a_person_can_take_it_back() -> None:
    store = Documents()
    one = Replica(store)
    await one.begin()
    await one.run(2)
    store.away = StoreFull("The disk is full", fix="Make room.")
    await one.rollouts.order(KEY, "abort")
    assert one.state.weight == 0


async def test_a_store_that_is_away_at_the_start_begins_nothing_anew_that_it_held() -> None:
    store = Documents()
    first = Replica(store, shared=True)
    await first.begin()
    await first.run(5)
    assert first.state.step == 2
    store.away = StoreFull("away", fix="")
    second = Replica(store, shared=True)
    await second.begin()
    await second.rollouts.tick()
    assert second.engine.get(ROLLOUT_STATES, KEY) is None
    store.away = None
    assert (await second.run(1)).step == 2


async def test_what_a_replica_knows_from_elsewhere_holds_at_a_start_without_it() -> None:
    store = Documents()
    one, two = Replica(store, shared=True), Replica(store, shared=True)
    two.leading = False
    await one.begin()
    await two.begin()
    assert (await one.run(20)).phase == "Promoted"
    await two.hear()
    store.away = StoreFull("away", fix="")
    for replica in (one, two):
        again = Replica(store, shared=True)
        await again.begin(copies=replica.copies)
        assert (await again.run(1)).weight == 100
    one.delete()
    two.delete()
    assert one.copies == two.copies == {}


async def test_only_the_leader_acts_and_the_next_leader_goes_on_where_it_was() -> None:
    store = Documents()
    one, two = Replica(store, shared=True), Replica(store, shared=True)
    two.leading = False
    await one.begin()
    await two.begin()
    await one.run(5)
    await two.hear()
    assert two.state == one.state
    with pytest.raises(NotLeadingError):
        await two.rollouts.order(KEY, "abort")
    one.leading, two.leading, two.now = False, True, one.now
    assert (await two.run(10)).phase == "Promoted"
    await one.hear()
    assert one.state == two.state
    acted = [after.revision for replica in (one, two) for _, _, after in replica.acted]
    assert acted == sorted(set(acted)), "each state was come to once, by one of them"


async def test_one_that_begins_to_act_reads_what_the_other_did_last_and_then_need_not_look_again() -> None:
    store = Documents()
    one, two = Replica(store, shared=True), Replica(store, shared=True)
    two.leading = False
    await one.begin()
    await two.begin()
    before = store.read
    await one.run(5)
    assert store.read == before + 1
    one.leading, two.leading, two.now = False, True, one.now
    assert two.engine.get(ROLLOUT_STATES, KEY) is None, "it has heard of nothing"
    await one.run(1)
    store.away = StoreFull("away", fix="")
    with pytest.raises(NotKeptError):
        await two.rollouts.order(KEY, "abort")
    await two.rollouts.tick()
    assert two.engine.get(ROLLOUT_STATES, KEY) is None, "whoever acted before may have moved on"
    store.away = None
    await two.rollouts.order(KEY, "pause")
    assert (two.state.step, two.state.phase) == (2, "Paused")


async def test_one_that_does_not_know_that_it_leads_no_more_moves_nothing_and_takes_the_next_ones_word() -> None:
    store = Documents()
    one, two = Replica(store, shared=True), Replica(store, shared=True)
    one.term, two.term, two.leading = 1, 2, False
    await one.begin()
    await two.begin()
    held = await one.run(3)
    one.holds_lock, two.leading, two.now = False, True, one.now
    await two.rollouts.order(KEY, "abort")
    kept = dict(store.kept)
    assert await one.run(10) == held, "it moves on with nothing that cannot be written"
    one.looking.sight = BAD
    assert await one.run(5) == held, "nor back, for another judges by now"
    with pytest.raises(NotLeadingError):
        await one.rollouts.order(KEY, "promote")
    with pytest.raises(NotLeadingError):
        await one.rollouts.order(KEY, "abort")
    assert store.kept == kept
    await one.hear()
    assert one.state == two.state


async def test_a_way_back_that_could_not_be_written_is_forgotten_once_another_has_gone_on() -> None:
    store = Documents()
    one, two = Replica(store, shared=True), Replica(store, shared=True)
    one.term, two.term, two.leading = 1, 2, False
    await one.begin()
    await two.begin()
    await one.run(3)
    store.away = StoreFull("away", fix="")
    one.looking.sight = BAD
    assert (await one.run(5)).phase == "RolledBack"
    store.away = None
    one.leading, two.leading, two.now = False, True, one.now
    await one.run(1)
    await two.run(1)
    await two.rollouts.order(KEY, "promote")
    await one.run(1)
    await one.hear()
    assert one.state == two.state
    one.leading, one.term, two.leading = True, 3, False
    assert (await one.run(3)).phase == "Promoted"
    again = Replica(store, shared=True)
    await again.begin()
    assert again.state.phase == "Promoted", "nothing old was written over it"


async def test_one_that_leads_no_more_when_it_has_looked_moves_nothing() -> None:
    store = Documents()
    one = Replica(store, shared=True)
    await one.begin()
    looked = one.looking.of

    async def slowly(*arguments: Any) -> Mapping[ObjectKey, Any]:
        one.leading = False
        return await looked(*arguments)

    one.looking.of = slowly  # type: ignore[method-assign]
    await one.rollouts.tick()
    assert store.kept == {}


async def test_what_a_leader_wrote_into_the_status_of_an_object_is_how_far_it_is() -> None:
    one, two = Replica(Documents()), Replica(Documents())
    two.leading = False
    await one.begin()
    await two.begin()
    state = await one.run(5)
    told = {"status": {"rollout": rollout_to_json(state)}}
    two.rollouts.observed(KEY, told)
    assert essence(two.state) == essence(state)
    earlier = msgspec.structs.replace(state, revision=state.revision - 1, weight=1)
    two.rollouts.observed(KEY, {"status": {"rollout": rollout_to_json(earlier)}})
    for garbage in (None, {}, {"status": 1}, {"status": {"rollout": {"phase": 7}}}):
        two.rollouts.observed(KEY, garbage)  # type: ignore[arg-type]
    assert essence(two.state) == essence(state)
    two.leading, two.now = True, one.now
    assert (await two.run(10)).phase == "Promoted"


async def test_what_a_dead_leader_wrote_for_itself_alone_does_not_win_over_what_the_next_one_did() -> None:
    kept = Documents()
    one, two = Replica(kept), Replica(Documents())
    two.leading = False
    await one.begin()
    await two.begin()
    seen = await one.run(3)
    two.rollouts.observed(KEY, {"status": {"rollout": rollout_to_json(seen)}})
    unseen = await one.run(4)
    assert unseen.revision > seen.revision + 1
    two.leading, two.term, two.now = True, 1, one.now
    await two.rollouts.order(KEY, "pause")
    assert (two.state.term, two.state.revision) == (1, seen.revision + 1)
    again = Replica(kept, now=one.now)
    again.leading = False
    await again.begin()
    assert again.state == unseen
    again.rollouts.observed(KEY, {"status": {"rollout": rollout_to_json(two.state)}})
    assert again.state == two.state, "the later leader's word holds"
    again.leading, again.term = True, 0
    await again.rollouts.order(KEY, "resume")
    assert again.state.term == 1, "a lease that was made anew does not take terms back"
    two.rollouts.observed(KEY, {"status": {"rollout": rollout_to_json(again.state)}})
    assert two.state == again.state


async def test_a_leader_that_dies_before_anybody_saw_its_last_step_goes_on_with_that_step() -> None:
    kept = Documents()
    one = Replica(kept)
    one.term = 3
    await one.begin()
    seen = await one.run(3)
    unseen = await one.run(4)
    again = Replica(kept, now=one.now)
    again.term = 4
    await again.begin()
    again.rollouts.observed(KEY, {"status": {"rollout": rollout_to_json(seen)}})
    assert again.state == unseen


class ApiServer:
    """Takes every patch of a status, and tells whoever looks."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.version = 1

    async def request(self, _method: str, path: str, *, body: bytes | None = None, **_: Any) -> bytes:
        assert path.endswith("/namespaces/default/rollouts/reviews/status")
        self.status |= msgspec.json.decode(body or b"{}").get("status", {})
        self.version += 1
        return msgspec.json.encode(self.object)

    @property
    def object(self) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": str(self.version)}, "status": self.status}

    def lines(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


async def test_in_kubernetes_the_next_leader_goes_on_from_the_status_that_the_last_one_wrote() -> None:
    api, source = ApiServer(), "kubernetes:one"
    one, two = Replica(Documents(), source=source), Replica(Documents(), source=source)
    one.writer = StatusWriter(api, source=source)
    one.writer.lead(leading=True)
    one.writer.observe(KEY, api.object)
    two.leading = False
    await one.begin()
    await two.begin()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        writing = group.create_task(one.writer.run())
        held = await one.run(5)
        while api.status.get("rollout", {}).get("revision") != held.revision:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        writing.cancel()
    assert (held.step, held.weight) == (2, 50)
    progressing = next(each for each in api.status["conditions"] if each["type"] == "Progressing")
    assert progressing["status"] == "True"
    two.rollouts.observed(KEY, api.object)
    assert essence(two.state) == essence(held)
    assert two.state.canary == held.canary
    two.leading, two.now = True, one.now
    assert (await two.run(10)).phase == "Promoted"


async def test_with_its_object_a_state_goes_and_the_next_of_that_name_begins_anew() -> None:
    store = Documents()
    one = Replica(store)
    await one.begin()
    await one.run(5)
    one.delete()
    assert one.engine.get(ROLLOUT_STATES, KEY) is None
    await one.rollouts.tick()
    assert store.kept == {}
    one.declare(ROLLOUT)
    assert (await one.run(1)).step == 1


async def test_a_document_that_cannot_be_read_costs_its_own_rollout_its_state_and_nothing_else() -> None:
    store = Documents()
    store.kept = {"Rollout/default/reviews": b"\xff{", "Rollout/default/other": b"[]"}
    one = Replica(store)
    await one.begin()
    assert (await one.run(1)).step == 1


async def test_commands_for_nothing_or_at_the_wrong_time_are_refused() -> None:
    one = Replica(Documents())
    with pytest.raises(NotKnownError):
        await one.rollouts.order(KEY, "pause")
    await one.begin()
    with pytest.raises(RefusedError, match="not begun"):
        await one.rollouts.order(KEY, "pause")
    await one.run(1)
    with pytest.raises(RefusedError, match="nothing to resume"):
        await one.rollouts.order(KEY, "resume")


async def test_numbers_tell_of_phases_and_how_often_they_were_come_to() -> None:
    one = Replica(Documents())
    await one.begin()
    await one.run(1)
    assert one.rollouts.numbers()["phases"] == {"Progressing": 1}
    await one.rollouts.order(KEY, "pause")
    await one.rollouts.order(KEY, "abort")
    assert one.rollouts.numbers() == {"phases": {"RolledBack": 1}, "transitions": {"Paused": 1, "RolledBack": 1}}
