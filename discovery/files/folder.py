"""Watches folders of YAML and JSON and tells what they declare, as changes of `DECLARED`.

A thin shell: `disk` looks, `folder_state` decides. Both run in a thread, so that a large file holds nobody up. Changes
are noticed by inotify where the system lends it and by looking once a second where it does not; a look every ten
seconds finds what inotify misses (a network disk, a link to a file outside the folder).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import watchfiles

from discovery.files import disk
from discovery.files.folder_state import EMPTY, SOURCE, FolderState, changes, due, scan
from mesh.problems import Problem
from mesh.tables import Change

# Writers that save in several steps are given this long to finish.
QUIET_SECONDS = 0.03
# Editors may remove a file and put the new one there a moment later; a removal is believed only after this long.
REMOVAL_SECONDS = 0.2
POLL_SECONDS = 1.0
SLOW_POLL_SECONDS = 10.0

_log = logging.getLogger(__name__)


class FilesSource:
    """A `discovery.source.Source`. `folders` may also be single files; they need not exist yet."""

    name = SOURCE

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._state = EMPTY
        self._signatures: dict[str, disk.Signature] = {}
        self._watching = False
        self._stirred = asyncio.Event()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files at present, by file and line."""
        return self._state.problems

    async def batches(self) -> AsyncIterator[tuple[Change, ...]]:
        """Yield everything first, then what changes, until cancelled."""
        watcher = asyncio.get_running_loop().create_task(self._watch(), name="files watcher")
        try:
            yield await self.refresh()
            while True:
                before = self._state.problems
                await self._stir()
                batch = await self.refresh()
                if batch or self._state.problems != before:
                    yield batch
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    async def refresh(self) -> tuple[Change, ...]:
        """Look at the disk now and tell what changed since the last time."""
        before = self._state
        after, signatures = await asyncio.to_thread(_next, self._folders, before, self._signatures)
        if before.files.keys() - after.files.keys():
            await asyncio.sleep(REMOVAL_SECONDS)
            after, signatures = await asyncio.to_thread(_next, self._folders, before, self._signatures)
        self._state, self._signatures = after, signatures
        return await asyncio.to_thread(changes, before, after)

    async def _stir(self) -> None:
        """Wait until something may have changed."""
        timeout = SLOW_POLL_SECONDS if self._watching else POLL_SECONDS
        waited_for = due(self._state, time.monotonic())
        if waited_for is not None:
            timeout = min(timeout, waited_for)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._stirred.wait()
                await asyncio.sleep(QUIET_SECONDS)
        self._stirred.clear()

    async def _watch(self) -> None:
        """Turn inotify's news into `_stirred`; where it cannot be had, looking once a second must do."""
        while True:
            started = _present(self._folders)
            try:
                if started:
                    self._watching = len(started) == len(self._folders)
                    # What changed between the last look and the start of the watch is found by one more look.
                    self._stirred.set()
                    await self._watch_until_replaced(started)
            except (OSError, RuntimeError) as error:
                # inotify's instances or watches are used up, or a folder went away.
                _log.warning("files are looked at every %g s, for they cannot be watched: %s", POLL_SECONDS, error)
            self._watching = False
            self._stirred.set()
            await asyncio.sleep(POLL_SECONDS)

    async def _watch_until_replaced(self, started: dict[Path, tuple[int, int]]) -> None:
        """Watch the folders that there were at the start, until another folder stands in the place of one."""
        news = watchfiles.awatch(
            *started, watch_filter=None, debounce=20, step=10, rust_timeout=1_000, yield_on_timeout=True
        )
        async for changed in news:
            if changed:
                self._stirred.set()
            elif _present(self._folders) != started:
                return


def _present(folders: tuple[Path, ...]) -> dict[Path, tuple[int, int]]:
    """The folders that exist, with what tells one from another that takes its place."""
    found: dict[Path, tuple[int, int]] = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            status = folder.stat()
            found[folder] = (status.st_dev, status.st_ino)
    return found


def _next(
    folders: tuple[Path, ...], before: FolderState, known: dict[str, disk.Signature]
) -> tuple[FolderState, dict[str, disk.Signature]]:
    seen = disk.look(folders, known)
    return scan(before, seen.found, now=time.monotonic(), missing=seen.missing), seen.signatures
