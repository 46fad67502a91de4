"""Writes statuses into one cluster: the loop around `status.py` (what to write) and `status_pacing.py` (when).

It hears of three things, on one event loop: every commit of the engine (`note`), every object as the cluster's informer
sees it (`observe`, an observer of `config.Config`), and whether this replica leads (`lead`). Only the leader writes;
all replicas keep what is to be said, so that one that takes over begins by comparing and not by writing.

Only objects that this cluster declares are told anything, and one whose declaration here does not count, because that
of another cluster comes first, is told just that. What an object holds is what the informer last saw or what the API
server answered to our own last write, whichever is newer; a write that was made from something older is refused by the
API server (see `status.py`) and decided anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from discovery.kubernetes import status as statuses
from discovery.kubernetes.api import MANAGER, MERGE_PATCH, Api, ApiError, UnreachableError
from discovery.kubernetes.status_pacing import LAST_PAUSE, Budget, Pacing, pause
from mesh.kinds import KINDS
from mesh.kinds.meta import JSON
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.objects import SHADOWED, Shadowed
from mesh.refusals import REFUSED, Refused
from mesh.status import Status
from mesh.statuses import KINDS_WITH_STATUS, STATUSES, shadowed_status
from mesh.tables import Commit

_log = logging.getLogger(__name__)

FIELD_MANAGER = f"{MANAGER}-status"
PARALLEL = 8
RATE = 200.0  # writes a second; an API server on two cores takes some 500
BURST = 50
_TRIES = 4  # against conflicts, before waiting
_LONGEST_HOLD = 30.0
_LAST_WORDS = 1.0  # seconds that writes under way have at the end
_SLICE = 50  # decisions between turns of others on the loop
_FIRST = {"GatewayClass": 0, "Gateway": 1}  # few, and what everybody waits for


class _Held(NamedTuple):
    """An object's version and `status` (JSON) as the API server holds them."""

    version: str
    status: bytes


class _Gone(Exception):  # noqa: N818 - reads as what happened
    """The object is not there any more."""


class StatusWriter:
    """One cluster's statuses. `source` is the cluster's name as a source, `kubernetes:<cluster>`."""

    def __init__(
        self,
        api: Api,
        *,
        source: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._source = source
        self._clock = clock
        self._wall = wall
        self._leading = False
        self._rows: dict[ObjectKey, Status] = {}
        self._declared: dict[ObjectKey, Declared] = {}
        self._refused: dict[ObjectKey, Refused] = {}
        self._losing: dict[ObjectKey, Shadowed] = {}
        self._former: dict[ObjectKey, Status] = {}
        self._seen: dict[ObjectKey, _Held] = {}
        self._answered: dict[ObjectKey, _Held] = {}
        self._said: dict[ObjectKey, Status | None] = {}
        self._pacing: Pacing[ObjectKey] = Pacing(lambda key: _FIRST.get(key.kind, 2))
        self._budget = Budget(RATE, BURST)
        self._running: set[asyncio.Task[None]] = set()
        self._bell = asyncio.Event()
        self._away = 0
        self._hold_until = float("-inf")
        self._troubles: dict[str, str] = {}
        self.writes = 0

    # -- what is heard ------------------------------------------------------------------------------------------

    def note(self, commit: Commit) -> None:
        """Take in what a commit changed."""
        touched = {ObjectKey(key.kind, key.namespace, key.name): None for key in self._of(commit, DECLARED)}
        touched |= {ObjectKey(key.kind, key.namespace, key.name): None for key in self._of(commit, SHADOWED)}
        touched |= {ObjectKey(key.kind, key.namespace, key.name): None for key in self._of(commit, REFUSED)}
        touched |= dict.fromkeys(commit.of(STATUSES))
        if not touched:
            return
        before = {key: self._wanted(key) for key in touched if key.kind in KINDS_WITH_STATUS}
        self._take_in(commit)
        now = self._clock()
        for key, former in before.items():
            self._changed(key, former, now)
        self._bell.set()

    def observe(self, key: ObjectKey, raw: Mapping[str, Any] | None) -> None:
        """Take in an object as the informer sees it, None where it is gone."""
        if key.kind not in KINDS_WITH_STATUS:
            return
        if raw is None:
            self._forget(key)
            return
        held = _Held(raw["metadata"].get("resourceVersion") or "", msgspec.json.encode(raw.get("status") or {}))
        self._seen[key] = held
        answered = self._answered.get(key)
        ours = answered is not None and not _newer(held.version, answered.version)
        if self._leading and self._here(key) and not ours:
            self._pacing.add(key, self._clock(), urgent=False)
            self._bell.set()

    def lead(self, leading: bool) -> None:
        """Begin to write, or stop; writes under way go on to their end, which their precondition makes harmless."""
        if leading == self._leading:
            return
        self._leading = leading
        self._pacing.clear()
        self._answered.clear()
        self._said.clear()
        if leading:
            now = self._clock()
            for key in sorted({*self._declared, *self._refused}):
                self._pacing.add(key, now, urgent=False)
        self._bell.set()

    @property
    def waiting(self) -> int:
        """How many objects have a status to be looked at or written."""
        return len(self._pacing) + len(self._running)

    def _of(self, commit: Commit, table: Any) -> list[DeclaredKey]:
        return [key for key in commit.of(table) if key.source == self._source]

    def _take_in(self, commit: Commit) -> None:
        ours: tuple[tuple[Any, dict[ObjectKey, Any]], ...] = (
            (DECLARED, self._declared),
            (REFUSED, self._refused),
            (SHADOWED, self._losing),
        )
        for table, rows in ours:
            for at in self._of(commit, table):
                key = ObjectKey(at.kind, at.namespace, at.name)
                row = commit.changes[table][at][1]
                if row is None:
                    rows.pop(key, None)
                elif key.kind in KINDS_WITH_STATUS:
                    rows[key] = row
        for key, (_, row) in commit.of(STATUSES).items():
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row

    def _changed(self, key: ObjectKey, before: Status | None, now: float) -> None:
        if not self._here(key):
            self._forget_words(key)
            return
        wanted = self._wanted(key)
        if wanted is not None:
            self._former.pop(key, None)
        elif before is not None:
            self._former[key] = before
        if self._leading:
            self._pacing.add(key, now, urgent=not statuses.says_the_same(before, wanted))

    def _wanted(self, key: ObjectKey) -> Status | None:
        told = self._rows.get(key) if self._here(key) else None
        by = self._losing.get(key)
        if told is None or by is None:
            return told
        loser = self._declared.get(key)
        return shadowed_status(told, loser.object, by) if loser is not None else None

    def _here(self, key: ObjectKey) -> bool:
        """Whether this cluster has the object, be it in a form that is refused."""
        return key in self._declared or key in self._refused

    def _forget(self, key: ObjectKey) -> None:
        self._seen.pop(key, None)
        self._answered.pop(key, None)
        self._forget_words(key)

    def _forget_words(self, key: ObjectKey) -> None:
        self._former.pop(key, None)
        self._said.pop(key, None)
        self._pacing.forget(key)

    def _present(self, key: ObjectKey) -> _Held | None:
        """The newest that is known of an object; None where it is not there."""
        seen, answered = self._seen.get(key), self._answered.get(key)
        if seen is None or answered is None:
            return seen
        if _newer(answered.version, seen.version):
            return answered
        del self._answered[key]
        return seen

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what is due, without end."""
        try:
            while True:
                self._bell.clear()
                seconds = self._start_writes()
                if seconds is None or seconds > 0:
                    await self._wait(seconds)
                else:
                    await asyncio.sleep(0)
        finally:
            if running := list(self._running):
                await asyncio.wait(running, timeout=_LAST_WORDS)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass

    def _start_writes(self) -> float | None:
        """Begin the writes that are due and allowed; the seconds until there may be more, None: until the bell."""
        for _ in range(_SLICE):
            now = self._clock()
            due = self._pacing.next_due() if self._leading else None
            if due is None or len(self._running) >= PARALLEL:
                return None  # a change rings, and so does the end of a write
            delay = max(due - now, self._hold_until - now, self._budget.delay(now))
            if delay > 0:
                return delay
            key = self._pacing.take(now)
            if key is None:
                continue
            if self._decide(key) is None:
                self._settled(key)
                self._pacing.done(key, now)
                continue
            self._budget.spend()
            task = asyncio.get_running_loop().create_task(self._write(key), name=f"status {key}")
            self._running.add(task)
            task.add_done_callback(self._ended)
        return 0.0

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._bell.set()

    def _decide(self, key: ObjectKey) -> tuple[_Held, JSON] | None:
        """What to write into an object and from which version of it; None where there is nothing to write."""
        held = self._present(key)
        if held is None:
            return None
        now = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        present = msgspec.json.decode(held.status)
        fields = statuses.changes(
            key.kind, key.namespace, self._wanted(key), present, now=now, former=self._former.get(key)
        )
        return (held, fields) if fields is not None else None

    def _settled(self, key: ObjectKey) -> None:
        """What we once said of an object that is not ours any more is gone from it."""
        if key in self._seen:
            self._former.pop(key, None)

    async def _write(self, key: ObjectKey) -> None:
        """Write one object's status, again from what is there now where somebody else was quicker."""
        try:
            for _ in range(_TRIES):
                if not self._leading:
                    break
                decided = self._decide(key)
                if decided is None:
                    self._settled(key)
                    self._pacing.done(key, self._clock())
                    break
                if await self._patch(key, *decided):
                    break
                self._answered[key] = await self._read(key)
            else:
                self._pacing.failed(key, self._clock())
            self._fine(key)
        except _Gone:
            self._pacing.done(key, self._clock())
            self._answered.pop(key, None)
        except ApiError as error:
            self._turned_down(key, error)
        except UnreachableError as error:
            self._unreachable(key, error)
        except Exception:  # noqa: BLE001 - a defect with one object must not keep all others from their statuses
            _log.exception("the status of %s cannot be written for a reason that is not known", key)
            self._pacing.failed(key, self._clock(), after=LAST_PAUSE)

    async def _patch(self, key: ObjectKey, held: _Held, fields: JSON) -> bool:
        """Whether it came through; False where the object is another by now."""
        wanted = self._wanted(key)
        body = msgspec.json.encode({"metadata": {"resourceVersion": held.version}, "status": fields})
        try:
            answer = await self._api.request(
                "PATCH",
                f"{_path(key)}/status",
                query={"fieldManager": FIELD_MANAGER},
                body=body,
                content_type=MERGE_PATCH,
            )
        except ApiError as error:
            if error.status == 409:
                return False
            if error.status == 404:
                raise _Gone from None
            raise
        self.writes += 1
        if key in self._seen:
            self._answered[key] = _held(answer)
        again = self._said.get(key, ...) == wanted
        self._said[key] = wanted
        self._pacing.done(key, self._clock(), wrote=True, again=again)
        return True

    async def _read(self, key: ObjectKey) -> _Held:
        try:
            return _held(await self._api.request("GET", _path(key)))
        except ApiError as error:
            if error.status == 404:
                raise _Gone from None
            raise

    # -- trouble ------------------------------------------------------------------------------------------------

    def _fine(self, key: ObjectKey) -> None:
        self._away = 0
        for about in ("the API server", key.kind, str(key)):
            if self._troubles.pop(about, None) is not None:
                _log.info("statuses of %s can be written again", about)

    def _turned_down(self, key: ObjectKey, error: ApiError) -> None:
        """The API server said no: to this object, to us, or for now."""
        now = self._clock()
        if error.status in (401, 403):
            self._tell(key.kind, f"{error.message}; let {FIELD_MANAGER} patch {KINDS[key.kind].plural}/status")
            self._pacing.failed(key, now, after=LAST_PAUSE)
        elif error.status == 429 or error.status >= 500:
            self._tell("the API server", str(error))
            self._pacing.failed(key, now, after=error.retry_after)
            self._hold(now, error.retry_after)
        else:
            self._tell(str(key), str(error))
            self._pacing.failed(key, now, after=LAST_PAUSE)

    def _unreachable(self, key: ObjectKey, error: UnreachableError) -> None:
        now = self._clock()
        self._tell("the API server", str(error))
        self._pacing.failed(key, now, after=0.0)  # it waits with all others for the server
        self._hold(now, None)

    def _hold(self, now: float, seconds: float | None) -> None:
        """Write nothing for a while; writes that failed together count once."""
        if now < self._hold_until:
            return
        self._away += 1
        wait = seconds if seconds is not None else min(_LONGEST_HOLD, pause(self._away))
        self._hold_until = now + wait * (1 + random.random() / 4)  # noqa: S311 - replicas must not ask in step

    def _tell(self, about: str, words: str) -> None:
        """Say a trouble once, and once more when it is another."""
        if self._troubles.get(about) != words:
            self._troubles[about] = words
            _log.warning("statuses of %s cannot be written for now: %s", about, words)


def _path(key: ObjectKey) -> str:
    kind = KINDS[key.kind]
    scope = f"/namespaces/{quote(key.namespace)}" if kind.namespaced else ""
    return f"/apis/{kind.api_version}{scope}/{kind.plural}/{quote(key.name)}"


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    status: msgspec.Raw = msgspec.Raw(b"{}")


_decoder = msgspec.json.Decoder(_Object)


def _held(answer: bytes) -> _Held:
    """Version and status of an object that the API server answered with.

    Raises:
        UnreachableError: what answered is no API server.
    """
    try:
        found = _decoder.decode(answer)
    except (msgspec.DecodeError, ValueError) as error:
        raise UnreachableError(f"the answer is not an object: {error}") from None
    return _Held(found.metadata.resource_version, bytes(found.status))


def _newer(one: str, other: str) -> bool:
    """Whether a resourceVersion is the later one; those of custom resources are etcd's revisions, which count up."""
    return one.isdecimal() and other.isdecimal() and int(one) > int(other)
