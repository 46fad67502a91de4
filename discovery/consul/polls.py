"""Keeps those blocking queries open that `turns` says: a thin shell, which does not know what is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from discovery.consul.turns import Turns
from discovery.consul.watch_state import Ask, WatchState

K = TypeVar("K")


class Polls(Generic[K]):
    """Queries by key. `ask` asks one, tells its state what came of it, and raises only what is a defect."""

    def __init__(
        self,
        most: int,
        ask: Callable[[K, WatchState, Ask], Coroutine[Any, Any, None]],
        failed: Callable[[BaseException], None],
        *,
        clock: Callable[[], float],
    ) -> None:
        self.turns: Turns[K] = Turns(most)
        self._ask = ask
        self._failed = failed
        self._clock = clock
        self._keys: set[K] = set()
        self._asking: dict[K, asyncio.Task[None]] = {}
        self._bell = asyncio.Event()

    def __iter__(self) -> Iterator[K]:
        return iter(self._keys)

    def put(self, key: K, *, needed: bool) -> None:
        """Have a query, or have it needed or not."""
        self.turns.put(key, needed=needed)
        self._keys.add(key)
        self._bell.set()

    def remove(self, key: K) -> None:
        """Have a query no more."""
        self._keys.discard(key)
        self.turns.remove(key)
        self._stop(key)
        self._bell.set()

    def anew(self, keys: Iterable[K]) -> None:
        """Give open ones of these up, and ask all of them at once for all there is."""
        found = [key for key in keys if key in self._keys]
        for key in found:
            self._stop(key)
        self.turns.anew(found)
        self._bell.set()

    async def run(self) -> None:
        """Ask, without end."""
        try:
            while True:
                now = self._clock()
                for key in self.turns.overdue(now):
                    self._stop(key)
                for key, step in self.turns.begin(now):
                    self._begin(key, step)
                due = self.turns.due(now)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                        await self._bell.wait()
                self._bell.clear()
        finally:
            asking = list(self._asking.values())
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    def _begin(self, key: K, step: Ask) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(key, self.turns.state(key), step))
        self._asking[key] = task
        task.add_done_callback(partial(self._ended, key))

    def _stop(self, key: K) -> None:
        if task := self._asking.pop(key, None):
            task.cancel()
            self.turns.end(key)

    def _ended(self, key: K, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
        if self._asking.get(key) is task:
            del self._asking[key]
            self.turns.end(key)
        self._bell.set()
