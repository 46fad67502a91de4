"""Kubernetes Events about objects: their form, their pace, and that nothing depends on them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from discovery.kubernetes.api import ApiError
from discovery.kubernetes.events import MOST_WAITING, Event, EventWriter, wire
from mesh.kinds.meta import Object, ObjectMeta
from tests.support.kubernetes_api import until

ABOUT = Object(
    api_version="fairlead.dev/v1alpha1",
    kind="Rollout",
    metadata=ObjectMeta(name="shop", namespace="default", uid="u-1", resource_version="7"),
)


class ApiServer:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.error: Exception | None = None

    async def request(self, method: str, path: str, *, body: bytes, **_: Any) -> bytes:
        assert (method, path) == ("POST", "/api/v1/namespaces/default/events")
        if self.error is not None:
            raise self.error
        self.written.append(msgspec.json.decode(body))
        return b"{}"


def event(message: str = "Step 1 of 2.") -> Event:
    return Event(ABOUT, "Step", message, warning=False, at=1_800_000_000.0)


async def written(writer: EventWriter, *, done: Callable[[], object]) -> None:
    running = asyncio.get_running_loop().create_task(writer.run())
    await until(done, "the events to be written")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_an_event_says_what_it_is_about_and_who_tells_it() -> None:
    made = wire(event(), name="shop.1", by="pod_x")
    assert made["involvedObject"] == {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Rollout",
        "namespace": "default",
        "name": "shop",
        "uid": "u-1",
        "resourceVersion": "7",
    }
    assert (made["type"], made["firstTimestamp"], made["reportingInstance"]) == (
        "Normal",
        "2027-01-15T08:00:00Z",
        "pod_x",
    )
    assert len(wire(event("x" * 5_000), name="shop.1", by="x")["message"]) == 1_024


async def test_of_too_many_the_last_are_written() -> None:
    server, numbers = ApiServer(), itertools.count()
    writer = EventWriter(server, instance="x", unique=lambda: str(next(numbers)))  # type: ignore[arg-type]
    for number in range(MOST_WAITING + 50):
        writer.tell(event(str(number)))
    await written(writer, done=lambda: len(server.written) == MOST_WAITING)
    assert [one["message"] for one in server.written] == [str(number) for number in range(50, MOST_WAITING + 50)]
    assert len({one["metadata"]["name"] for one in server.written}) == MOST_WAITING


async def test_what_cannot_be_written_is_said_once_and_the_next_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    server = ApiServer()
    server.error = ApiError(403, "Forbidden", "no")
    writer = EventWriter(server, instance="x", unique=lambda: "1")  # type: ignore[arg-type]
    writer.tell(event())
    writer.tell(event())
    with caplog.at_level(logging.WARNING):
        await written(writer, done=lambda: caplog.records and not writer._waiting)
    assert [record.getMessage() for record in caplog.records] == [
        "events cannot be written for now: 403 Forbidden: no; let Fairlead create events"
    ]
    server.error = None
    writer.tell(event("again"))
    await written(writer, done=lambda: server.written)
    assert server.written[0]["message"] == "again"
