"""Lists and watches one kind of object without end, and hands what comes to a sink.

A thin shell: `informer_state.py` decides what to do next, `wire.py` reads what comes. It keeps no objects.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Hashable
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from discovery.kubernetes.api import Api, ApiError, UnreachableError
from discovery.kubernetes.informer_state import (
    IDLE_SECONDS,
    InformerState,
    List,
    Resource,
    Trouble,
    Wait,
    Watch,
    is_absence,
)
from discovery.kubernetes.wire import Event, Key, Malformed, Page, UnreadableError

LIST_SECONDS = 60.0
_SLICE = 25  # objects of a page between turns of others on the loop

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = ""


class Reading(Protocol[T_co]):
    """What reads bodies and lines: `wire.Reader`."""

    def page(self, body: bytes) -> Page[Any]: ...  # noqa: D102 - see `wire.Reader`
    def event(self, line: bytes) -> Event[Any]: ...  # noqa: D102


class Sink(Protocol[T_contra]):
    """Who takes what an informer sees. Nothing here may raise."""

    def key(self, item: T_contra) -> Key:
        """The name of an object."""

    def put(self, item: T_contra) -> None:
        """An object is there, new, changed, or as before."""

    def reject(self, malformed: Malformed) -> None:
        """An object is there that cannot be read."""

    def remove(self, key: Key) -> None:
        """An object is gone."""

    def retain(self, keys: frozenset[Key]) -> None:
        """A list has ended: no other objects are there than these."""


class Informer(Generic[T]):
    """Watches a resource for a sink. `news` is called after everything that came or went wrong, with whether the
    `situation` is another than before.

    `known`: see `InformerState`.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        reader: Reading[T],
        sink: Sink[T],
        news: Callable[[bool], None],
        *,
        known: bool = False,
        clock: Callable[[], float] = time.monotonic,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self.resource = resource
        self.failed = False
        """Whether something went wrong since the start."""
        self.heard_at = clock()
        """When the server last gave a page of a list; before the first, when this was made."""
        self._api = api
        self._reader = reader
        self._sink = sink
        self._news = news
        self._clock = clock
        self._luck = luck
        self._state = InformerState(resource, known=known)
        self._listed: set[Key] = set()

    @property
    def synced(self) -> bool:
        """Whether all there is was seen once."""
        return self._state.synced

    @property
    def missing(self) -> bool:
        """Whether the server has no such kind at present."""
        return self._state.missing

    @property
    def trouble(self) -> Trouble | None:
        """Why nothing new can be seen at present, if so."""
        return self._state.trouble

    def situation(self) -> Hashable:
        """What others may want to know: its change is news."""
        return self.synced, self.missing, self.trouble

    async def run(self) -> None:
        """List and watch, without end."""
        while True:
            step = self._state.next_step(self._clock(), self._luck())
            match step:
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case List() | Watch():
                    await self._do(step)

    async def _do(self, step: List | Watch) -> None:
        try:
            if isinstance(step, List):
                await self._list(step)
            else:
                await self._watch(step)
        except (ApiError, UnreachableError, UnreadableError) as error:
            self._fail(await self._not_kubernetes() or error if is_absence(error) else error)

    async def _not_kubernetes(self) -> UnreachableError | UnreadableError | None:
        """Why an answer of 404 cannot be believed: whatever stands in for an API server gives it for every path."""
        try:
            version = msgspec.json.decode(await self._api.request("GET", "/version"), type=_Version)
        except UnreachableError as error:
            return error
        except (ApiError, msgspec.DecodeError):
            return UnreadableError("it has no /version, and so is no API server")
        return None if version.git_version else UnreadableError("its /version is none of Kubernetes'")

    async def _list(self, step: List) -> None:
        before = self.situation()
        if "continue" not in step.query:
            self._listed = set()
        body = await self._api.request("GET", step.path, query=step.query, timeout=LIST_SECONDS)
        self.heard_at = self._clock()
        page = self._reader.page(body)
        for number, item in enumerate(page.items, 1):
            self._listed.add(self._sink.key(item))
            self._sink.put(item)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        for malformed in page.malformed:
            self._listed.add(malformed.key)
            self._sink.reject(malformed)
        if self._state.page_came(page.resource_version, page.token):
            listed, self._listed = frozenset(self._listed), set()
            self._sink.retain(listed)
        self._news(self.situation() != before)

    async def _watch(self, step: Watch) -> None:
        lines = self._api.lines(step.path, query=step.query, idle_timeout=IDLE_SECONDS)
        async with aclosing(lines):  # type: ignore[type-var]  # an iterator to callers, a generator to us
            async for line in lines:
                if not line:
                    before = self.situation()
                    self._state.watch_opened()
                    if self.situation() != before:
                        self._news(True)
                elif not self._take(self._reader.event(line)):
                    return
        self._state.watch_ended(self._clock(), self._luck())

    def _take(self, event: Event[T]) -> bool:
        """Hand an event on; False: the watch has failed and must end."""
        if event.failure is not None:
            failure = event.failure
            self._fail(ApiError(failure.code, failure.reason, failure.message))
            return False
        self._state.event_came(event.resource_version)
        gone = event.type == "DELETED"
        if event.malformed is not None:
            if gone:
                self._sink.remove(event.malformed.key)
            else:
                self._sink.reject(event.malformed)
        elif event.object is not None and event.type != "BOOKMARK":
            if gone:
                self._sink.remove(self._sink.key(event.object))
            else:
                self._sink.put(event.object)
        else:
            return True
        self._news(False)
        return True

    def _fail(self, error: ApiError | UnreachableError | UnreadableError) -> None:
        before = self.situation()
        self.failed = True
        if self._state.failed(error, self._clock(), self._luck()):
            self._sink.retain(frozenset())
        self._news(self.situation() != before)
