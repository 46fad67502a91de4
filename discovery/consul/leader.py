"""Leader election over a session of Consul, which holds a lock on one key: one of several replicas leads.

`leading.Tenure` decides whether this replica may act; here is the loop that renews the session and takes the lock.
Consul lets a session end no sooner than its TTL after the last renewal, and a leader believes itself for less. What it
sends in that time may arrive later all the same: whoever writes what only the leader may has Consul look at `session`
as it writes. The key's value names who leads, for people.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from discovery.consul.http import Consul, ConsulError, UnreachableError
from discovery.consul.wire import NOT_JSON
from discovery.leading import LEASE_DURATION, RETRY_PERIOD, Teller, Tenure, keep_trying

_RELEASE_TIMEOUT = 2.0
_SESSION = {
    "Name": "fairlead",
    "TTL": f"{LEASE_DURATION}s",
    "Behavior": "release",
    # Consul's own pause before another may lock: our leader has stopped believing itself before its session ends.
    "LockDelay": "1ms",
}


_FAILURES = (ConsulError, UnreachableError, *NOT_JSON, TimeoutError)


class _Created(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="ID")


class _Lock(msgspec.Struct, frozen=True, rename="pascal"):
    session: str = ""
    value: bytes | None = None
    lock_index: int = 0


_LOCKS = msgspec.json.Decoder(tuple[_Lock, ...])


class Leader:
    """Leads, or tries to, for as long as `run` runs. `changed(leading)` is called at each change.

    `denied(why)` is called when the token may not do what that takes, and with an empty `why` when it may again.
    """

    def __init__(
        self,
        consul: Consul,
        key: str,
        *,
        identity: str,
        changed: Callable[[bool], None] = lambda _: None,
        denied: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._consul = consul
        self._path = f"/v1/kv/{quote(key)}"
        self._identity = identity
        self._tenure = Tenure()
        self._teller = Teller(f"leader at {key}", self._tenure, holder=lambda: self.holder, changed=changed)
        self._denied = denied
        self._denial = ""
        self._session = ""
        self.holder = ""
        """Who leads as far as known; empty where nobody does."""
        self.term = 0
        """How often the lock had been taken when this replica took it: who leads later has a higher one."""

    @property
    def leading(self) -> bool:
        """Whether this replica leads, at this moment."""
        return self._tenure.holds(time.monotonic())

    @property
    def session(self) -> str:
        """The session that holds the lock while this replica leads; empty where it never did."""
        return self._session

    async def run(self) -> None:
        """Try, hold, try again, without end; cancelled, let the lock go for the next."""
        try:
            await keep_trying(self._attempt, self._tenure, self._teller)
        finally:
            await self._release()

    async def _attempt(self, began: float) -> None:
        try:
            async with asyncio.timeout(RETRY_PERIOD * 2):
                held = await self._hold()
        except _FAILURES as error:
            self._teller.troubled(str(error) or "no answer", answers="Consul")
            if isinstance(error, ConsulError) and error.status == HTTPStatus.FORBIDDEN:
                self._tell_denied(error.message)
            return  # the tenure runs out by itself
        self._teller.troubled("", answers="Consul")
        self._tell_denied("")
        if held:
            self._tenure.renewed(began)
            self._teller.renewed()
        else:
            self._tenure.lost()

    def _tell_denied(self, why: str) -> None:
        if why != self._denial:
            self._denial = why
            self._denied(why)

    async def _hold(self) -> bool:
        """Renew the session, or begin one; whether it holds the lock."""
        if self._session:
            try:
                await self._consul.put(f"/v1/session/renew/{self._session}")
            except ConsulError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                self._session = ""  # it has ended, and the lock with it
        if not self._session:
            made = await self._consul.put("/v1/session/create", msgspec.json.encode(_SESSION))
            self._session = msgspec.json.decode(made.body, type=_Created).id
        lock = await self._look()
        if not lock.session:
            await self._consul.put(self._path, self._identity.encode(), {"acquire": self._session})
            lock = await self._look()  # what was answered may be another's by now
        if lock.session == self._session:
            self.term = lock.lock_index
        self.holder = (lock.value or b"").decode("utf-8", "replace") if lock.session else ""
        return lock.session == self._session

    async def _look(self) -> _Lock:
        try:
            answer = await self._consul.get(self._path)
        except ConsulError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return _Lock()
        return next(iter(_LOCKS.decode(answer.body)), _Lock())

    async def _release(self) -> None:
        self._teller.stop()
        self._tenure.lost()
        self._teller.tell()
        if self._session:
            session, self._session = self._session, ""
            try:
                async with asyncio.timeout(_RELEASE_TIMEOUT):
                    await self._consul.put(f"/v1/session/destroy/{session}")
            except (ConsulError, UnreachableError, TimeoutError) as error:
                self._teller.troubled(f"its session was not ended, it will run out: {error}", answers="Consul")
