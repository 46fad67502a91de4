"""The loop that keeps the keys of token issuers: what it keeps, forgets and tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from discovery.jwks.fetch import KeyFetcher, NoKeysError
from discovery.stores.sqlite import SqliteStore
from fairlead.errors import CommandError, UsageError
from fairlead.identities.key_sets import COLLECTION, KeySets
from fairlead.settings import Settings
from fairlead.tasks import Tasks
from mesh.jwks import NOBODYS_KEYS, read_key_set
from mesh.model import KEY_SETS, KeySetRow
from mesh.tables import Change
from tests.support.issuers import Issuer
from tests.support.model import Model

A, B = "https://a.org/keys", "https://b.org/keys"
KEYS = read_key_set(Issuer().jwks.encode()).jwks


class Fetcher(KeyFetcher):
    """Answers by address: keys, words of a failure, or an event that never comes."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | str | asyncio.Event] = {}
        self.asked: list[str] = []

    async def fetch(self, uri: str) -> bytes:
        self.asked.append(uri)
        answer = self.answers[uri]
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return KEYS
        if isinstance(answer, str):
            raise NoKeysError(answer)
        return answer


class World:
    def __init__(self, store: SqliteStore) -> None:
        self.model = Model()
        self.fetcher = Fetcher()
        self.failed: list[BaseException] = []
        self.tasks = Tasks(lambda _, error: self.failed.append(error))
        self.store = store
        self.sets = self.make()

    def make(self) -> KeySets:
        settings = Settings(jwks_refresh=1)
        return KeySets(settings, self.store, self.model.engine, submit=self.submit, fetcher=self.fetcher)

    def submit(self, changes: Any) -> None:
        self.model.engine.commit(list(changes))

    def policies(self, *uris: str) -> None:
        for at, uri in enumerate((A, B)):
            name = f"p{at}"
            if uri in uris:
                rule = {"issuer": "x", "jwksUri": uri}
                spec = {"targetRefs": [{"kind": "Namespace", "name": "default"}], "jwtRules": [rule]}
                metadata = {"name": name, "namespace": "default"}
                kind = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "RequestAuthentication"}
                self.sets.committed(self.model.apply(json.dumps({**kind, "metadata": metadata, "spec": spec})))
            else:
                self.sets.committed(self.model.delete("RequestAuthentication", name))

    def row(self, uri: str) -> KeySetRow | None:
        return self.model.engine.get(KEY_SETS, uri)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - of rows that the code under test changes
            await asyncio.sleep(0.005)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await SqliteStore.open(tmp_path / "fairlead.db")
    made = World(store)
    yield made
    await made.tasks.stop()
    await made.sets.flush()
    await store.close()
    assert made.failed == []


async def test_what_policies_name_is_fetched_before_the_start_is_over(world: World) -> None:
    world.policies(A, B)
    world.fetcher.answers = {A: KEYS, B: "it is away"}
    await world.sets.start(world.tasks)
    assert world.row(A) == KeySetRow(KEYS)
    assert world.row(B) == KeySetRow(problem="it is away")
    assert [problem.level for _, problem in world.sets.problems()] == ["error"]
    assert world.sets.numbers()["sets"] == {"known": 1, "outdated": 0, "unknown": 1}


async def test_an_address_that_hangs_holds_up_no_other(world: World) -> None:
    world.policies(A)
    world.fetcher.answers = {A: asyncio.Event(), B: KEYS}
    starting = world.tasks.start("start", world.sets.start(world.tasks))
    await until(lambda: world.fetcher.asked == [A])
    world.policies(A, B)
    await until(lambda: world.row(B) == KeySetRow(KEYS))
    assert world.row(A) is None
    world.fetcher.answers[A].set()  # type: ignore[union-attr]
    await starting
    assert world.row(A) == KeySetRow(KEYS)


async def test_the_last_good_keys_stand_and_the_failure_is_told_beside(world: World) -> None:
    world.policies(A)
    world.fetcher.answers = {A: KEYS}
    await world.sets.start(world.tasks)
    world.fetcher.answers = {A: "it is away"}
    await until(lambda: world.row(A) == KeySetRow(KEYS, "it is away"))
    assert [problem.level for _, problem in world.sets.problems()] == ["warning"]
    world.fetcher.answers = {A: KEYS}
    await until(lambda: world.row(A) == KeySetRow(KEYS))


async def test_the_last_good_keys_outlive_a_restart_and_what_nobody_names_is_forgotten(world: World) -> None:
    world.policies(A, B)
    world.fetcher.answers = {A: KEYS, B: KEYS}
    await world.sets.start(world.tasks)
    await world.tasks.stop()
    await world.sets.flush()
    world.model.engine.commit([Change(KEY_SETS, uri, None) for uri in (A, B)])
    world.model.delete("RequestAuthentication", "p1")
    world.fetcher.answers = {A: "it is away"}
    again = world.sets = world.make()
    await again.load()
    assert world.row(A) == KeySetRow(KEYS)
    await again.start(world.tasks)
    await until(lambda: world.row(A) == KeySetRow(KEYS, "it is away"))
    assert world.row(B) is None
    await world.tasks.stop()  # as at the end of the server: a write under way is not what waits
    await again.flush()
    assert set(await world.store.documents(COLLECTION)) == {A}


async def test_kept_keys_that_are_none_are_not_taken(world: World) -> None:
    await world.store.write_documents(COLLECTION, {A: b"garbage", B: NOBODYS_KEYS})
    await world.sets.load()
    assert (world.row(A), world.row(B)) == (None, KeySetRow(NOBODYS_KEYS))


async def test_keys_that_no_policy_names_any_more_are_no_longer_asked_for(world: World) -> None:
    world.policies(A, B)
    world.fetcher.answers = {A: KEYS, B: KEYS}
    await world.sets.start(world.tasks)
    world.policies(B)
    assert world.row(A) is None
    asked = world.fetcher.asked.count(A)
    before = world.fetcher.asked.count(B)
    await until(lambda: world.fetcher.asked.count(B) > before + 1)
    assert world.fetcher.asked.count(A) == asked
    world.policies(A, B)
    await until(lambda: world.row(A) == KeySetRow(KEYS))


def test_settings_that_cannot_be_used_are_said(world_settings: Callable[[Settings], None]) -> None:
    with pytest.raises(UsageError, match=r"--jwks-private: '10\.1\.0\.1/16'"):
        world_settings(Settings(jwks_private=("10.1.0.1/16",)))
    with pytest.raises(CommandError, match="--jwks-ca"):
        world_settings(Settings(jwks_ca="/nowhere"))


@pytest.fixture
def world_settings() -> Callable[[Settings], None]:
    def make(settings: Settings) -> None:
        KeySets(settings, None, Model().engine, submit=lambda _: None)  # type: ignore[arg-type]

    return make
