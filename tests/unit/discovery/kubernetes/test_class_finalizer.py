"""When a GatewayClass is told that it is used, without an API server; with one in `tests/kubernetes`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from discovery.kubernetes import class_finalizer
from discovery.kubernetes.api import ApiError
from discovery.kubernetes.class_finalizer import FINALIZER, ClassFinalizer
from mesh.model import ObjectKey
from tests.support.kubernetes_api import until

OURS = "fairlead.dev/gateway-controller"
EDGE = ObjectKey("Gateway", "shop", "edge")


class Answers:
    """An `Api` that keeps what is written, and refuses with `error`."""

    def __init__(self) -> None:
        self.error: ApiError | None = None
        self.asked = 0
        self.written: list[tuple[str, list[str]]] = []

    async def request(self, _method: str, path: str, *, body: bytes, **_: Any) -> bytes:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.written.append((path.rpartition("/")[2], json.loads(body)["metadata"]["finalizers"]))
        return b"{}"


class World:
    """The finalizer with a clock and a source that the test sets."""

    def __init__(self) -> None:
        self.api = Answers()
        self.now = 100.0
        self.settled = True
        self.finalizer = ClassFinalizer(self.api, settled=lambda: self.settled, clock=lambda: self.now)  # type: ignore[arg-type]
        self._version = 0

    def see_class(self, *finalizers: str, name: str = "ours", controller: str = OURS, going: bool = False) -> None:
        self._version += 1
        metadata = {"name": name, "resourceVersion": str(self._version), "finalizers": list(finalizers)}
        if going:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        raw = {"metadata": metadata, "spec": {"controllerName": controller}}
        self.finalizer.observe(ObjectKey("GatewayClass", "", name), raw)

    def see_gateway(self, class_name: str | None = "ours") -> None:
        raw = {"metadata": {"name": "edge"}, "spec": {"gatewayClassName": class_name}}
        self.finalizer.observe(EDGE, raw if class_name is not None else None)

    async def due(self) -> list[tuple[str, list[str]]]:
        """What is written now."""
        before = len(self.api.written)
        await self.finalizer._write_due()
        return self.api.written[before:]


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(world.finalizer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_class_of_ours_that_a_gateway_uses_gets_the_finalizer_beside_those_it_has() -> None:
    world = World()
    world.see_class("example.com/a")
    world.see_class(name="theirs", controller="example.com/another")
    world.see_gateway()
    assert await world.due() == [("ours", ["example.com/a", FINALIZER])]
    assert await world.due() == [], "it was written, and the informer has not told of it yet"


@pytest.mark.parametrize("going", [True, False])
async def test_it_goes_with_the_last_gateway_at_once_where_the_class_is_to_go(going: bool) -> None:
    world = World()
    world.see_class(FINALIZER)
    world.see_gateway()
    assert await world.due() == []
    world.see_class(FINALIZER, "example.com/a", going=going)
    world.see_gateway(None)
    if not going:
        assert await world.due() == []
        world.now += class_finalizer.LINGER
    assert await world.due() == [("ours", ["example.com/a"])]


async def test_a_gateway_that_is_made_anew_costs_no_write() -> None:
    world = World()
    world.see_class(FINALIZER)
    for _ in range(3):
        world.see_gateway()
        world.see_gateway(None)
        world.now += 1.0
        assert await world.due() == []
    world.see_gateway()
    world.now += class_finalizer.LINGER
    assert await world.due() == []


async def test_nothing_is_added_to_a_class_on_its_way_out() -> None:
    world = World()
    world.see_class("example.com/a", going=True)
    world.see_gateway()
    assert await world.due() == []


async def test_nothing_is_taken_away_before_all_gateways_were_read() -> None:
    world = World()
    world.settled = False
    world.see_class(FINALIZER, going=True)
    assert await world.due() == []
    world.settled = True
    assert await world.due() == [("ours", [])]


async def test_a_gateway_that_goes_to_another_class_leaves_its_own() -> None:
    world = World()
    world.see_class(FINALIZER)
    world.see_class(name="second")
    world.see_gateway()
    world.see_gateway("second")
    world.now += class_finalizer.LINGER
    assert sorted(await world.due()) == [("ours", []), ("second", [FINALIZER])]


async def test_only_the_leader_writes_and_a_refusal_is_told_once_and_waited_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.api.error = ApiError(403, "Forbidden", "no")
    world.see_class()
    world.see_gateway()
    async with running(world):
        await asyncio.sleep(0)
        assert world.api.asked == 0
        world.finalizer.lead(True)
        await until(lambda: world.api.asked == 1, "a try")
        for turn in range(3):
            world.see_class(f"example.com/{turn}")
            await asyncio.sleep(0)
        assert world.api.asked == 1
        world.now += class_finalizer.AFTER_FAILURE
        world.see_class("example.com/a")
        await until(lambda: world.api.asked == 2, "another try")
        assert caplog.text.count("let fairlead patch them") == 1
        world.api.error = None
        world.now += class_finalizer.AFTER_FAILURE
        world.see_class("example.com/b")
        await until(lambda: world.api.written == [("ours", ["example.com/b", FINALIZER])], "the finalizer")
