"""Consul's intentions as a source: one blocking query on all of them.

Nothing waits for them: while Consul has not answered, none are known, and `problems` says so; while it is away, the
last stand.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from discovery.consul import intentions
from discovery.consul.http import Consul, ConsulError, UnreachableError
from discovery.consul.intentions import Rows
from discovery.consul.trouble import Failure, fix, trouble
from discovery.consul.watch_state import Pause, WatchState
from discovery.consul.wire import UnreadableError
from mesh.authorization import DISCOVERED_AUTHORIZATIONS
from mesh.problems import Problem
from mesh.tables import Change

FIRST_WAIT_SECONDS = 3.0
_NO_SUCH_KIND = "invalid config entry kind"


class IntentionSource:
    """A `discovery.source.Source`."""

    name = "consul:intentions"

    def __init__(self, consul: Consul) -> None:
        self._consul = consul
        self._state = WatchState()
        self._entries = True  # whether this agent has config entries for them, as far as is known
        self._known: Rows = {}
        self._away: Problem | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """See `Source.problems`."""
        helps = "see whether this Fairlead knows that version of Consul; these rules are not shown in full"
        found = [
            Problem("Unreadable", "warning", "", row.unreadable, helps)
            for row in self._known.values()
            if row.unreadable
        ]
        return (*([self._away] if self._away is not None else []), *found)

    async def batches(self) -> AsyncIterator[tuple[Change, ...]]:
        """See `Source.batches`."""
        first = asyncio.get_running_loop().time()
        told = False
        while True:
            now = asyncio.get_running_loop().time()
            step = self._state.next_step(now)
            if isinstance(step, Pause):
                if not told and now > first + FIRST_WAIT_SECONDS:
                    told = True
                    yield ()
                await asyncio.sleep(min(step.seconds, FIRST_WAIT_SECONDS))
                continue
            before = self._away
            rows = await self._ask(step.index, step.wait)
            changes = self._changes(rows) if rows is not None else ()
            if changes or (told and before != self._away) or (rows is not None and not told):
                told = True
                yield changes

    async def _ask(self, index: int, wait: float) -> Rows | None:
        """All intentions; None where there is nothing new, or no answer."""
        loop = asyncio.get_running_loop()
        path = intentions.ENTRIES_PATH if self._entries else intentions.LIST_PATH
        try:
            answer = await self._consul.get(path, index=index, wait=wait)
            rows = (intentions.of_entries if self._entries else intentions.of_list)(answer.body)
        except ConsulError as error:
            if self._entries and _NO_SUCH_KIND in error.message:
                self._entries = False
                return None
            self._failed(error, retry_after=error.retry_after)
            return None
        except (UnreachableError, UnreadableError) as error:
            self._failed(error)
            return None
        self._away = None
        return rows if self._state.answered(answer.index, loop.time()).news else None

    def _failed(self, error: Failure, *, retry_after: float = 0.0) -> None:
        now, luck = asyncio.get_running_loop().time(), random.random()  # noqa: S311
        self._state.failed(now, luck, retry_after=retry_after)
        self._state.index = 0  # the next answer comes at once
        self._entries = True  # another agent may answer then, a newer one
        why = trouble(error)
        helps = 'give the token `intentions = "read"` on the services' if why.code == "Forbidden" else fix(why)
        self._away = Problem(why.code, "error", "", f"Consul cannot be asked for intentions: {error}", helps)

    def _changes(self, rows: Rows) -> tuple[Change, ...]:
        before, self._known = self._known, rows
        gone = [Change(DISCOVERED_AUTHORIZATIONS, key, None) for key in sorted(before.keys() - rows.keys())]
        new = [
            Change(DISCOVERED_AUTHORIZATIONS, key, row) for key, row in sorted(rows.items()) if before.get(key) != row
        ]
        return (*gone, *new)
