"""Where replicas keep an authority that they share: check-and-set in a Secret, a board, a copy for when it is away."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discovery.kubernetes.api import ApiError, UnreachableError
from discovery.stores.sqlite import SqliteStore
from fairlead.errors import UsageError
from fairlead.identities.authorities import check, shared_place
from fairlead.identities.authority_places import BOOK, ConfigMapBoard, CopyingKeeper, SecretKeeper
from fairlead.identities.replica_gate import ReplicaGate
from fairlead.settings import Settings
from sds.keepers import BookChanged, BookUnavailable, UnreadableBook
from sds.replicas import Sight
from sds.rotation import Gate

SECRET = "/api/v1/namespaces/home/secrets/authority"
BOARD = "/api/v1/namespaces/home/configmaps/authority-replicas"


class Objects:
    """As much of an API server as Secrets and ConfigMaps need: versions, conflicts, merges."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.version = 0
        self.error: Exception | None = None

    async def request(self, method: str, path: str, *, body: bytes | None = None, **_: Any) -> bytes:
        if self.error is not None:
            raise self.error
        value = msgspec.json.decode(body) if body else None
        if method == "POST":
            path = f"{path}/{value['metadata']['name']}"
            if path in self.found:
                raise ApiError(409, "AlreadyExists", "there is one")
            return self._put(path, value)
        if path not in self.found:
            raise ApiError(404, "NotFound", "there is none")
        if method == "PUT":
            if value["metadata"]["resourceVersion"] != self.found[path]["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "it was modified")
            return self._put(path, value)
        if method == "PATCH":
            merged = {**self.found[path].get("data", {}), **value["data"]}
            data = {key: text for key, text in merged.items() if text is not None}
            return self._put(path, {**self.found[path], "data": data})
        return msgspec.json.encode(self.found[path])

    def _put(self, path: str, value: Any) -> bytes:
        self.version += 1
        self.found[path] = {**value, "metadata": {**value["metadata"], "resourceVersion": str(self.version)}}
        return msgspec.json.encode(self.found[path])

    def lines(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "f.db")
    yield opened
    await opened.close()


def keeper(api: Objects) -> SecretKeeper:
    return SecretKeeper(lambda: api, "home", "authority")


async def test_a_secret_is_written_over_only_as_it_was_read() -> None:
    api = Objects()
    one, two = keeper(api), keeper(api)
    assert (await one.load(), await two.load()) == (None, None)
    await one.save(b"first")
    with pytest.raises(BookChanged):
        await two.save(b"another first")
    assert await two.load() == b"first"
    await two.save(b"second")
    await two.save(b"third")
    with pytest.raises(BookChanged):
        await one.save(b"late")
    assert await one.load() == b"third"
    del api.found[SECRET]
    with pytest.raises(BookChanged):
        await one.save(b"over what is gone")
    assert await one.load() is None
    await one.save(b"put back")
    assert await two.load() == b"put back"


async def test_a_secret_of_somebody_else_is_told_of() -> None:
    api = Objects()
    api.found[SECRET] = {"metadata": {"resourceVersion": "7"}, "data": {"password": "eA=="}}
    with pytest.raises(UnreadableBook, match="Secret home/authority holds nothing of ours"):
        await keeper(api).load()
    api.found[SECRET]["data"] = {BOOK: "no base64"}
    with pytest.raises(UnreadableBook):
        await keeper(api).load()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnreachableError("connection refused"), "connection refused"),
        (ApiError(403, "Forbidden", "no"), "let Fairlead's account create Secrets"),
        (ApiError(500, "InternalError", "etcd"), "etcd"),
    ],
)
async def test_a_cluster_that_is_away_or_refuses_is_told(error: Exception, words: str) -> None:
    api = Objects()
    api.error = error
    board = ConfigMapBoard(lambda: api, "home", "authority-replicas")
    for work in (keeper(api).load(), keeper(api).save(b"x"), board.post(Sight("a", 1, "", True)), board.read()):
        with pytest.raises(BookUnavailable, match=words):
            await work


async def test_with_the_place_away_a_start_goes_on_with_the_copy_and_writes_nothing_over(store: SqliteStore) -> None:
    api = Objects()
    first = CopyingKeeper(keeper(api), store)
    assert await first.load() is None
    await first.save(b"first")
    api.error = UnreachableError("away")
    with pytest.raises(BookUnavailable):
        await first.load()  # one that runs knows it already
    again = CopyingKeeper(keeper(api), store)
    assert await again.load() == b"first"
    with pytest.raises(BookUnavailable):
        await again.save(b"second")
    api.error = None
    other = keeper(api)
    await other.load()
    await other.save(b"newer")
    with pytest.raises(BookChanged):
        await again.save(b"from the copy")
    assert await again.load() == b"newer"


async def test_without_a_copy_nobody_starts_while_the_place_is_away(store: SqliteStore) -> None:
    api = Objects()
    api.error = UnreachableError("away")
    with pytest.raises(BookUnavailable, match="away"):
        await CopyingKeeper(keeper(api), store).load()


async def test_a_place_that_lost_the_authority_is_no_place_for_another(store: SqliteStore) -> None:
    api = Objects()
    first = CopyingKeeper(keeper(api), store)
    await first.load()
    await first.save(b"first")
    del api.found[SECRET]
    with pytest.raises(UnreadableBook, match="no authority is kept there, where there was one"):
        await CopyingKeeper(keeper(api), store).load()
    assert await first.load() is None, "who runs knows what to put back"


async def test_replicas_hear_of_each_other_over_the_board_and_what_is_garbage_there_is_passed_over() -> None:
    api, now = Objects(), [0.0]
    board = ConfigMapBoard(lambda: api, "home", "authority-replicas")
    one = ReplicaGate(board, 60.0, monotonic=lambda: now[0])
    two = ReplicaGate(board, 60.0, monotonic=lambda: now[0])
    assert not one.gate(Gate(), b"roots").open
    await one.exchange(Gate(), b"roots")
    assert one.gate(Gate(), b"roots").open
    await two.exchange(Gate(known=False), b"roots")
    await one.exchange(Gate(), b"roots")
    assert not one.gate(Gate(), b"roots").open
    await two.exchange(Gate(("proxy",)), b"roots")
    api.found[BOARD]["data"]["garbage"] = "{"
    await one.exchange(Gate(), b"roots")
    assert one.gate(Gate(), b"roots").waiting == ("proxy",)
    await two.exchange(Gate(), b"roots")
    await one.exchange(Gate(), b"roots")
    assert one.gate(Gate(), b"roots").open
    api.error = UnreachableError("away")
    with pytest.raises(BookUnavailable):
        await one.exchange(Gate(), b"roots")
    assert not one.gate(Gate(), b"roots").open


async def test_a_replica_writes_on_the_board_when_something_changed_or_the_beat_is_due_and_tidies_up() -> None:
    api, now = Objects(), [0.0]
    one, two = (
        ReplicaGate(ConfigMapBoard(lambda: api, "home", "authority-replicas"), 60.0, monotonic=lambda: now[0])
        for _ in range(2)
    )
    await two.exchange(Gate(), b"roots")
    await one.exchange(Gate(), b"roots")
    written = api.version
    await one.exchange(Gate(), b"roots")
    assert api.version == written
    await one.exchange(Gate(("proxy",)), b"roots")
    assert api.version == written + 1
    now[0] += 5.0
    await one.exchange(Gate(("proxy",)), b"roots")
    assert api.version == written + 2
    now[0] += 4_000.0
    await one.exchange(Gate(), b"roots")
    assert list(api.found[BOARD]["data"]) == [one.replica]


def test_where_an_authority_is_shared_follows_from_the_settings(store: SqliteStore) -> None:
    def place(**named: Any) -> Any:
        return shared_place(Settings(**named), store, kv=None, apis=dict)

    assert place(ca="memory") is None
    assert place(ca="store") is None
    shared = place(ca="secret:mine", kubernetes=("x",), kubernetes_lease="home/fairlead")
    assert shared.keeper.where == "Secret home/mine"


@pytest.mark.parametrize("ca", ["secret", "secret:", "secret:UPPER", "secret:a/b", "secret:fine"])
def test_a_secret_that_cannot_be_is_refused(ca: str) -> None:
    kubernetes = () if ca == "secret:fine" else ("x",)
    with pytest.raises(UsageError, match=r"Fix: .*secret:NAME"):
        check(Settings(ca=ca, ca_passphrase="a passphrase of some length", kubernetes=kubernetes))


def test_the_book_is_not_in_what_is_shown_of_an_answer() -> None:
    from fairlead.identities.authority_places import _Object

    shown = repr(msgspec.json.decode(b'{"data": {"book": "%s"}}' % base64.b64encode(b"sealed"), type=_Object))
    assert base64.b64encode(b"sealed").decode() not in shown
