"""The keys of token issuers: a loop for each address that some policy names, so that none waits for another.

What may be fetched and how is `discovery/jwks`. Rows of `KEY_SETS` say what is known; the last good keys stand while
an address is away, and over a restart. Before the first proxy is let in each address is asked once, for a moment: a
new replica without a store must not take away keys that others have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from discovery.jwks.addresses import read_exceptions
from discovery.jwks.fetch import KeyFetcher, NoKeysError
from discovery.jwks.refresh import pause
from discovery.stores.store import Store
from fairlead.errors import CommandError, UsageError
from fairlead.settings import Settings
from fairlead.stores.documents import DocumentWriter
from fairlead.tasks import Tasks
from mesh.jwks import UnusableKeys, read_key_set
from mesh.model import KEY_SETS, KeySetRow
from mesh.problems import Problem
from mesh.request_authentication import WANTED_KEY_SETS
from mesh.tables import Change, Commit, Engine

COLLECTION: Final = "key-sets"
SOURCE: Final = "jwks"
MOST: Final = 1_000
_FIRST_WAIT: Final = 5.0
_RESOLVERS: Final = 4

_log = logging.getLogger(__name__)


class KeySets:
    """`submit` takes changed rows. `fetcher` is for tests; `clock` is monotonic."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        *,
        submit: Callable[[Iterable[Change]], None],
        fetcher: KeyFetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises UsageError: an exception in the settings is none."""
        self._refresh = settings.jwks_refresh
        self._store = store
        self._engine = engine
        self._submit = submit
        self._clock = clock
        self._documents = DocumentWriter(store, COLLECTION)
        self._rows: dict[str, KeySetRow] = {}
        self._fetched_at: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, asyncio.Event] = {}
        self._tasks: Tasks | None = None
        self._results: Counter[str] = Counter({"ok": 0, "failed": 0})
        self._pool = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="jwks")
        self._fetcher = fetcher or _fetcher(settings, self._pool)

    async def load(self) -> None:
        """Take what an earlier run had. Raises StoreUnavailable."""
        for uri, document in (await self._store.documents(COLLECTION)).items():
            try:
                self._put(uri, KeySetRow(read_key_set(document).jwks))
            except UnusableKeys as error:
                _log.warning("the kept keys of %s cannot be used: %s", uri, error)

    async def start(self, tasks: Tasks) -> None:
        """Begin to fetch, once objects are known; returns when each address was asked once, or after a moment."""
        self._tasks = tasks
        tasks.start("kept keys", self._documents.run())
        wanted = set(self._engine.rows(WANTED_KEY_SETS))
        for uri in sorted(self._rows.keys() - wanted):
            self._forget(uri)
        for uri in sorted(wanted):
            self._begin(uri)
        unknown = [asked for uri, asked in self._asked.items() if not self._has(uri)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WAIT):
                for asked in unknown:
                    await asked.wait()

    async def flush(self) -> None:
        """Write what is not written yet."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        await self._documents.flush()

    def committed(self, commit: Commit) -> None:
        """Follow what policies name."""
        if self._tasks is None:
            return
        for uri, (_, row) in sorted(commit.of(WANTED_KEY_SETS).items()):
            if row is None:
                self._forget(uri)
            elif uri not in self._running:
                self._begin(uri)

    def _begin(self, uri: str) -> None:
        assert self._tasks is not None
        if len(self._running) >= MOST:
            self._put(uri, KeySetRow(problem=f"keys are fetched from at most {MOST} addresses"))
            return
        self._asked[uri] = asyncio.Event()
        self._running[uri] = self._tasks.start(f"keys of {uri}", self._follow(uri, self._asked[uri]))

    def _forget(self, uri: str) -> None:
        task = self._running.pop(uri, None)
        if task is not None:
            task.cancel()
        self._asked.pop(uri, None)
        self._fetched_at.pop(uri, None)
        if self._rows.pop(uri, None) is not None:
            self._submit((Change(KEY_SETS, uri, None),))
            self._documents.save({uri: None})

    async def _follow(self, uri: str, asked: asyncio.Event) -> None:
        failures = 0
        while True:
            failures = 0 if await self._look(uri) else failures + 1
            asked.set()
            luck = random.random()  # noqa: S311 - a spread
            await asyncio.sleep(pause(refresh=self._refresh, failures=failures, luck=luck))

    async def _look(self, uri: str) -> bool:
        """Fetch once; whether there were keys."""
        before = self._rows.get(uri, KeySetRow())
        try:
            keys = await self._fetcher.fetch(uri)
        except NoKeysError as error:
            self._results["failed"] += 1
            if not before.problem:
                standing = "the last good ones stand" if before.jwks else "none of its tokens is valid"
                _log.warning("the keys at %s cannot be had: %s; %s", uri, error, standing)
            self._put(uri, KeySetRow(before.jwks, str(error)))
            return False
        self._results["ok"] += 1
        self._fetched_at[uri] = self._clock()
        if keys != before.jwks:
            self._documents.save({uri: keys})
        if before.problem or keys != before.jwks:
            _log.info("the keys at %s are known", uri)
        self._put(uri, KeySetRow(keys))
        return True

    def _put(self, uri: str, row: KeySetRow) -> None:
        if self._rows.get(uri) != row:
            self._rows[uri] = row
            self._submit((Change(KEY_SETS, uri, row),))

    def _has(self, uri: str) -> bool:
        return uri in self._rows and bool(self._rows[uri].jwks)

    # -- what is told ---------------------------------------------------------------------------------------------

    def problems(self) -> Sequence[tuple[str, Problem]]:
        """Which addresses cannot be asked."""
        return [
            (
                SOURCE,
                Problem(
                    "KeysAway",
                    "warning" if row.jwks else "error",
                    "",
                    f"the keys at {uri} cannot be had: {row.problem}",
                    "See to it, or correct `jwksUri`; "
                    + ("the last good keys stand" if row.jwks else "none of its tokens is valid until then"),
                ),
            )
            for uri, row in sorted(self._rows.items())
            if row.problem
        ]

    def numbers(self) -> Mapping[str, Mapping[str, float]]:
        """Counts for metrics: `fetches` by result, `sets` by state, and the `oldest` set's age in seconds."""
        states = Counter({"known": 0, "outdated": 0, "unknown": 0})
        states.update(_state(self._rows.get(uri, KeySetRow())) for uri in self._running)
        now = self._clock()
        oldest = max((now - at for at in self._fetched_at.values()), default=0.0)
        return {"fetches": self._results, "sets": states, "oldest": {"": oldest}}


def _state(row: KeySetRow) -> str:
    return "unknown" if not row.jwks else "outdated" if row.problem else "known"


def _fetcher(settings: Settings, pool: ThreadPoolExecutor) -> KeyFetcher:
    try:
        exceptions = read_exceptions(settings.jwks_private)
    except ValueError as error:
        raise UsageError(f"--jwks-private: {error}") from None
    context = ssl.create_default_context()
    if settings.jwks_ca:
        try:
            context.load_verify_locations(cafile=settings.jwks_ca)
        except (OSError, ssl.SSLError) as error:
            raise CommandError(f"--jwks-ca: {error}. Fix: a PEM file with authorities") from None
    return KeyFetcher(context, exceptions, resolver=pool)
