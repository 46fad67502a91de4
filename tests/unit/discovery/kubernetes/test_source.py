"""The source towards answers that no real API server gives on demand; the real one is in `tests/kubernetes`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from discovery.copies import Copies
from discovery.kubernetes import informer_state, source
from discovery.kubernetes.api import JSON, ApiError, Method, UnreachableError
from discovery.kubernetes.source import KubernetesSource
from discovery.stores.sqlite import SqliteStore
from mesh.model import DECLARED

DEADLINE = 10.0
NAMESPACE = {"metadata": {"name": "shop", "uid": "n"}}
SUBSET = {
    "metadata": {"name": "v1", "namespace": "shop", "uid": "u", "generation": 1},
    "spec": {"service": "reviews", "labels": {"version": "v1"}},
}
CLASS = {
    "metadata": {"name": "mine", "uid": "c", "generation": 1},
    "spec": {"controllerName": "fairlead.dev/gateway-controller"},
}


class Answers:
    """An `Api` whose answers are what the test says: per plural the items, or `error` for everything.

    `refused` are plurals that may not be listed; one that `hangs` answers nothing.
    """

    def __init__(self, **items: list[dict[str, Any]]) -> None:
        self.items = items
        self.error: ApiError | UnreachableError | None = None
        self.body: bytes | None = None
        self.refused: set[str] = set()
        self.hangs = False
        self.asked: list[str] = []
        self._watches: list[asyncio.Event] = []

    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        timeout: float = 15.0,  # noqa: ASYNC109
    ) -> bytes:
        self.asked.append(path)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        if self.body is not None:
            return self.body
        if path == "/version":
            return b'{"gitVersion": "v1.34.4"}'
        plural = path.rpartition("/")[2]
        if plural in self.refused:
            raise ApiError(403, "Forbidden", f"{plural} is forbidden")
        if plural not in self.items and "/apis/" in path and "endpointslices" not in path:
            raise ApiError(404, "Not Found", "404 page not found")
        items = self.items.get(plural, []) if not path.endswith("v1alpha1/services") else []
        return json.dumps({"metadata": {"resourceVersion": "7"}, "items": items}).encode()

    async def lines(self, path: str, *, query: Mapping[str, str], idle_timeout: float) -> AsyncIterator[bytes]:
        if self.error is not None:
            raise self.error
        yield b""
        ended = asyncio.Event()
        self._watches.append(ended)
        await ended.wait()
        raise UnreachableError("cut")

    def cut(self) -> None:
        for ended in self._watches:
            ended.set()
        self._watches.clear()


class Follower:
    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.names: set[str] = set()
        self.batches = 0
        self._news = asyncio.Condition()

    async def follow(self) -> None:
        async with contextlib.aclosing(self.source.batches()) as batches:
            async for batch in batches:
                for change in batch:
                    if change.table is DECLARED:
                        (self.names.add if change.row is not None else self.names.discard)(change.key.name)
                async with self._news:
                    self.batches += 1
                    self._news.notify_all()

    async def until(self, holds: Callable[[], object], seconds: float = DEADLINE) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(holds)


@contextlib.asynccontextmanager
async def following(api: Answers, **options: Any) -> AsyncIterator[Follower]:
    follower = Follower(KubernetesSource("x", api, **options))
    task = asyncio.get_running_loop().create_task(follower.follow())
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "store.db")
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE", "AWAY_PAUSE", "MISSING_PAUSE", "SUSPECT_PAUSE", "FORBIDDEN_PAUSE"):
        monkeypatch.setattr(informer_state, name, 0.01)


async def asked_again(api: Answers, times: int = 200) -> None:
    """Wait until so many more requests were made."""
    before = len(api.asked)
    async with asyncio.timeout(DEADLINE):
        while len(api.asked) < before + times:  # noqa: ASYNC110 - nothing else tells of it
            await asyncio.sleep(0.01)


async def test_a_server_that_has_nothing_but_404_is_no_empty_cluster() -> None:
    api = Answers()
    api.error = ApiError(404, "Not Found", "<html>")
    async with following(api) as seen:
        await asked_again(api)
        assert seen.batches == 0
        assert "Refused" in {problem.code for problem in seen.source.problems}


async def test_what_stands_in_for_the_api_server_with_404_for_everything_takes_nothing_away() -> None:
    api = Answers(namespaces=[NAMESPACE], servicesubsets=[SUBSET])
    async with following(api) as seen:
        await seen.until(lambda: seen.names == {"shop", "v1"})
        api.error = ApiError(404, "Not Found", "<html>")
        api.cut()
        await asked_again(api)
        assert seen.names == {"shop", "v1"}
        api.error = None
        api.items["servicesubsets"] = []
        await seen.until(lambda: seen.names == {"shop"})


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"items": []}', b"null", b'{"metadata": {}, "items": 7}'])
async def test_an_answer_that_is_no_list_takes_nothing_away(body: bytes) -> None:
    api = Answers(namespaces=[NAMESPACE], servicesubsets=[SUBSET])
    async with following(api) as seen:
        await seen.until(lambda: seen.names == {"shop", "v1"})
        for watch in seen.source._watches:
            watch.informer._state._resource_version = ""
        api.body = body
        api.cut()
        await seen.until(lambda: any(problem.code == "Refused" for problem in seen.source.problems))
        await asked_again(api)
        assert seen.names == {"shop", "v1"}


async def test_a_kind_whose_definition_is_taken_away_is_gone_and_the_others_stay() -> None:
    api = Answers(namespaces=[NAMESPACE], servicesubsets=[SUBSET])
    async with following(api) as seen:
        await seen.until(lambda: seen.names == {"shop", "v1"})
        del api.items["servicesubsets"]
        for watch in seen.source._watches:
            watch.informer._state._resource_version = ""
        api.cut()
        await seen.until(lambda: seen.names == {"shop"})
        assert "ServiceSubset" in str(seen.source.problems)


async def test_a_right_that_is_missing_from_the_start_keeps_the_source_from_being_ready_and_is_named() -> None:
    api = Answers()
    api.error = ApiError(403, "Forbidden", "services is forbidden")
    async with following(api) as seen:
        await asked_again(api)
        assert seen.batches == 0
        assert any("`list` and `watch` of endpointslices" in problem.fix for problem in seen.source.problems)


async def test_with_rights_in_namespaces_only_what_is_in_none_is_done_without_and_told_as_warnings() -> None:
    api = Answers(servicesubsets=[SUBSET], gatewayclasses=[CLASS])
    api.refused = {"namespaces", "nodes", "gatewayclasses"}
    async with following(api, namespaces=["shop"]) as seen:
        await seen.until(lambda: seen.names == {"v1"})
        assert seen.source.settled
        told = {problem.file.split()[-1]: problem for problem in seen.source.problems if problem.code == "Forbidden"}
        assert told.keys() == {"Namespace", "Node", "GatewayClass"}
        assert {problem.level for problem in told.values()} == {"warning"}
        assert "those of no other class" in told["GatewayClass"].fix
        api.refused = set()
        await seen.until(lambda: seen.names == {"v1", "mine"})


async def test_without_a_limit_to_namespaces_the_right_to_see_classes_is_needed() -> None:
    api = Answers(servicesubsets=[SUBSET], gatewayclasses=[CLASS])
    api.refused = {"gatewayclasses"}
    async with following(api) as seen:
        await asked_again(api)
        assert seen.batches == 0


async def test_classes_of_an_earlier_run_are_not_forgotten_for_a_right_that_is_lacking_now(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "GIVE_UP_SECONDS", 0.1)
    api = Answers(servicesubsets=[SUBSET], gatewayclasses=[CLASS])
    copies = Copies(store, "kubernetes:x")
    async with following(api, namespaces=["shop"], copies=copies) as seen:
        await seen.until(lambda: seen.names == {"v1", "mine"})
    await copies.flush()
    api.refused = {"gatewayclasses"}
    async with following(api, namespaces=["shop"], copies=Copies(store, "kubernetes:x")) as seen:
        await seen.until(lambda: seen.names == {"v1", "mine"})


async def test_a_server_that_answers_nothing_at_all_is_away_long_before_a_list_would_be_too_slow(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SILENT_SECONDS", 0.2)
    api = Answers(servicesubsets=[SUBSET])
    copies = Copies(store, "kubernetes:x")
    async with following(api, copies=copies) as seen:
        await seen.until(lambda: seen.names == {"v1"})
    await copies.flush()
    api.hangs = True
    async with following(api, copies=Copies(store, "kubernetes:x")) as seen:
        await seen.until(lambda: seen.names == {"v1"})
        assert not seen.source.settled
