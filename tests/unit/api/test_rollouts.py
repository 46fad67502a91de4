"""Rollouts in people's hands over REST: commands reach the program, and what it refuses is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.access import Access, tokens
from api.app import create_app
from api.ports import NotFound, Refused, Unavailable
from mesh.model import ObjectKey, RolloutState
from mesh.rollout_json import rollout_to_json
from tests.unit.api.fakes import Client, Fixture, fixture

KEY = ObjectKey("Rollout", "default", "shop")
PATH = "/api/v1/namespaces/default/rollouts/shop"
ROLLOUT = {
    "apiVersion": "fairlead.dev/v1alpha1",
    "kind": "Rollout",
    "metadata": {"name": "shop"},
    "spec": {
        "targetRef": {"kind": "HTTPRoute", "name": "shop"},
        "stable": {"name": "shop"},
        "canary": {"name": "shop-v2"},
        "steps": [{"weight": 10}],
    },
}
BEFORE = RolloutState("", "Progressing", step=1, weight=10, revision=4, term=2)
REACHED = RolloutState("", "Paused", step=1, weight=10, revision=5, term=2)
ACCESS = Access(tokens("ann:read:ann-reads-and-no-more\nbob:write:bob-writes-as-well", where="here"))


def told(state: RolloutState) -> dict[str, Any]:
    return {"rollout": rollout_to_json(state)}


class Mover:
    """A door that notes who came through."""

    def __init__(self, of: Fixture) -> None:
        self.of = of
        self.asked: list[tuple[ObjectKey, str]] = []
        self.error: Exception | None = None

    async def order(self, key: ObjectKey, command: Any) -> RolloutState:
        """The model hears of a step before the command first, and of what the command did a moment later."""
        self.asked.append((key, command))
        if self.error is not None:
            raise self.error
        self.of.world.statuses[key] = told(BEFORE)
        asyncio.get_running_loop().call_later(0.05, self.of.world.statuses.__setitem__, key, told(REACHED))
        return REACHED


def served(*, token: str = "bob-writes-as-well") -> tuple[Client, Mover]:
    made = fixture()
    mover = Mover(made)
    app = create_app(
        config=made.config,
        world=made.world,
        feed=made.feed,
        parse_yaml=lambda _: pytest.fail("no body is read"),
        access=ACCESS,
        rollouts=mover,
    )
    return Client(app, token=token), mover


async def with_rollout() -> tuple[Client, Mover]:
    client, mover = served()
    assert (await client.put(PATH, ROLLOUT)).status == 201
    return client, mover


@pytest.mark.parametrize("command", ["pause", "resume", "promote", "abort"])
async def test_a_command_is_followed_and_answered_with_the_object_and_how_far_it_is(command: str) -> None:
    client, mover = await with_rollout()
    answer = await client.post(f"{PATH}/{command}", {})
    assert answer.status == 200
    assert mover.asked == [(KEY, command)]
    assert answer.json["status"] == told(REACHED)
    assert answer.json["spec"]["steps"] == [{"weight": 10}]


@pytest.mark.parametrize(
    ("error", "status"), [(Refused("Not now."), 409), (NotFound("It is gone."), 404), (Unavailable("Away."), 503)]
)
async def test_what_cannot_be_done_is_told(error: Exception, status: int) -> None:
    client, mover = await with_rollout()
    mover.error = error
    answer = await client.post(f"{PATH}/pause", {})
    assert answer.status == status
    assert str(error) in str(answer.json)


async def test_what_is_not_there_is_404_and_no_other_verb_or_query_is_known() -> None:
    client, mover = served()
    assert (await client.post(f"{PATH}/pause", {})).status == 404
    client, mover = await with_rollout()
    assert (await client.post(f"{PATH}/stop", {})).status == 404
    assert (await client.get(f"{PATH}/pause")).status == 405
    assert (await client.post(f"{PATH}/pause?dryRun=All", {})).status == 400
    assert (await client.post("/api/v1/namespaces/default/httproutes/shop/pause", {})).status == 404
    assert mover.asked == []


async def test_who_may_only_read_may_not_move_anything() -> None:
    client, mover = served(token="ann-reads-and-no-more")
    assert (await client.post(f"{PATH}/abort", {})).status == 403
    assert mover.asked == []
