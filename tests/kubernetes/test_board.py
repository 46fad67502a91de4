"""A board in a ConfigMap of a real cluster: what one replica pins the others hear, and none overwrites another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from discovery.board import BoardAwayError
from discovery.kubernetes.api import ApiError
from discovery.kubernetes.board import ConfigMapBoard
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from tests.support.kubernetes import Cluster
from tests.support.kubernetes_api import Line

NAME = "fairlead-rollout-counts"


@pytest.fixture
async def line(kubeconfig: Path) -> AsyncIterator[Line]:
    connection = Connection(KubeConfig(str(kubeconfig)))
    yield Line(connection)
    await connection.close()


async def test_who_watches_hears_of_each_row_that_comes_changes_and_goes(
    cluster: Cluster, line: Line, namespace: str
) -> None:
    one, two = (ConfigMapBoard(line, namespace=namespace, name=NAME) for _ in range(2))
    async with asyncio.timeout(60), aclosing(two.watch()) as rows:  # type: ignore[type-var]
        assert await anext(rows) == {}
        await one.write({"a": None})
        changes: tuple[tuple[dict[str, bytes | None], dict[str, bytes]], ...] = (
            ({"a": b"1"}, {"a": b"1"}),
            ({"b": b"2"}, {"a": b"1", "b": b"2"}),
            ({"a": b"3"}, {"a": b"3", "b": b"2"}),
            ({"a": None}, {"b": b"2"}),
        )
        for changed, wanted in changes:
            await one.write(changed)
            assert await anext(rows) == wanted
        await asyncio.to_thread(cluster.request, "DELETE", f"/api/v1/namespaces/{namespace}/configmaps/{NAME}", {})
        assert await anext(rows) == {}
        await asyncio.gather(one.write({"a": b"4"}), two.write({"b": b"5"}))
        async for found in rows:
            if found == {"a": b"4", "b": b"5"}:
                break


async def test_a_board_that_may_not_be_written_says_what_to_allow(line: Line, namespace: str) -> None:
    board = ConfigMapBoard(line, namespace=namespace, name=NAME)
    line.refuse = lambda _method, _path: ApiError(403, "Forbidden", "no")
    with pytest.raises(BoardAwayError, match=f"Let Fairlead create ConfigMaps in {namespace}, and list, watch"):
        await board.write({"a": b"1"})
    line.cut = True
    with pytest.raises(BoardAwayError, match="the line is cut"):
        await anext(board.watch())
