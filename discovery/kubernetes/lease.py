"""Leader election over a `coordination.k8s.io/v1` Lease, as client-go does it, so that its replicas and tools agree.

`Election` decides and is handed the time; `Lease` is the loop around it. One replica leads: it alone writes statuses
and provisions. Who does not lead serves all the same.

Clocks of different machines are never compared. A replica takes over when the record has not changed for the duration
that the record states, by its own clock; a leader believes itself only until `RENEW_DEADLINE` after the *beginning* of
its last renewal that came through, which is well before anybody may take over. So two can only lead at once if a
leader stands still between looking at the clock and writing; what it then writes fails on its `resourceVersion`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from discovery.kubernetes.api import MERGE_PATCH, Api, ApiError, UnreachableError
from discovery.leading import LEASE_DURATION, RETRY_PERIOD, Teller, Tenure, keep_trying

_log = logging.getLogger(__name__)

_RELEASE_TIMEOUT = 2.0


class Record(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`spec` of a Lease; times as Kubernetes' MicroTime."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Election:
    """One replica's view of one lease. `now` is a clock that never goes back, `wall` seconds since 1970."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self._seen: Record | None = None
        self._seen_at = 0.0
        self.tenure = Tenure()

    @property
    def holder(self) -> str:
        """Who holds the lease as far as known; empty where nobody does."""
        return (self._seen.holder_identity or "") if self._seen is not None else ""

    @property
    def term(self) -> int:
        """How often the lease has changed hands, as far as known."""
        return (self._seen.lease_transitions or 0) if self._seen is not None else 0

    def leading(self, now: float) -> bool:
        """Whether this replica may act as leader."""
        return self.tenure.holds(now)

    def observed(self, record: Record | None, now: float) -> None:
        """Take in what the API server holds; None: there is no lease."""
        if record != self._seen or record is None:
            self._seen = record
            self._seen_at = now
        if self.holder != self.identity:
            self.tenure.lost()

    def wanted(self, now: float, wall: float) -> Record | None:
        """The record to write now, or None while another holds the lease."""
        seen = self._seen or Record()
        written = _micro_time(wall)
        if seen.holder_identity == self.identity:
            return msgspec.structs.replace(seen, lease_duration_seconds=LEASE_DURATION, renew_time=written)
        if seen.holder_identity and now < self._seen_at + (seen.lease_duration_seconds or LEASE_DURATION):
            return None
        first = self._seen is None
        return Record(
            holder_identity=self.identity,
            lease_duration_seconds=LEASE_DURATION,
            acquire_time=written,
            renew_time=written,
            lease_transitions=0 if first else (seen.lease_transitions or 0) + 1,
        )

    def wrote(self, record: Record, *, began: float, now: float) -> None:
        """What was wanted has been written; `began` is when the request was sent."""
        self._seen = record
        self._seen_at = now
        self.tenure.renewed(began)

    def released(self, wall: float) -> Record | None:
        """The record that lets another take over at once; None where there is nothing to release."""
        self.tenure.lost()
        if self._seen is None or self._seen.holder_identity != self.identity:
            return None
        return msgspec.structs.replace(
            self._seen, holder_identity="", lease_duration_seconds=1, renew_time=_micro_time(wall)
        )


class Lease:
    """Holds a lease, or tries to, for as long as `run` runs. `changed(leading)` is called at each change."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        changed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._election = Election(identity)
        self._teller = Teller(
            f"lease {namespace}/{name}", self._election.tenure, holder=lambda: self.holder, changed=changed
        )
        self._version = ""
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"
        self._path = f"{self._collection}/{quote(name)}"

    @property
    def leading(self) -> bool:
        """Whether this replica leads, at this moment."""
        return self._election.leading(time.monotonic())

    @property
    def holder(self) -> str:
        """Who holds the lease as far as known; empty where nobody does."""
        return self._election.holder

    @property
    def term(self) -> int:
        """How often it has changed hands, as far as known."""
        return self._election.term

    async def run(self) -> None:
        """Try, hold, try again, without end; cancelled, let the lease go for the next."""
        try:
            await keep_trying(self._attempt, self._election.tenure, self._teller)
        finally:
            await self._release()

    async def _attempt(self, began: float) -> None:
        """Read the lease where it must be read, and write it where it may be written."""
        try:
            if not self.leading or not self._version:
                await self._read()
            record = self._election.wanted(began, time.time())
            if record is not None:
                await self._write(record)
        except ApiError as error:
            self._version = ""
            if error.status not in (404, 409):  # another was quicker, or the lease was deleted: the next look tells
                self._troubled(f"{error.status} {error.reason}: {error.message}")
        except UnreachableError as error:
            self._version = ""
            self._troubled(str(error))
        else:
            self._troubled("")

    async def _read(self) -> None:
        try:
            body = await self._api.request("GET", self._path, timeout=RETRY_PERIOD * 2)
        except ApiError as error:
            if error.status != 404:
                raise
            self._version = ""
            self._election.observed(None, time.monotonic())
            return
        self._version, record = _decode(body)
        self._election.observed(record, time.monotonic())

    async def _write(self, record: Record) -> None:
        began = time.monotonic()
        version, self._version = self._version, ""  # until the answer says which it is now
        body: dict[str, Any] = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": record}
        if not version:
            body |= {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            answer = await self._api.request("POST", self._collection, body=_encode(body), timeout=RETRY_PERIOD * 2)
        else:
            body["metadata"]["resourceVersion"] = version
            answer = await self._api.request(
                "PATCH", self._path, body=_encode(body), content_type=MERGE_PATCH, timeout=RETRY_PERIOD * 2
            )
        self._version, written = _decode(answer)
        self._election.wrote(written, began=began, now=time.monotonic())
        self._teller.renewed()

    def _troubled(self, words: str) -> None:
        self._teller.troubled(words, answers="the API server")

    async def _release(self) -> None:
        self._teller.stop()
        record = self._election.released(time.time())
        self._teller.tell()
        if record is None:
            return
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                if not self._version:  # a write was under way: is there anything to release?
                    await self._read()
                    record = self._election.released(time.time())
                if record is not None:
                    body = {"metadata": {"resourceVersion": self._version}, "spec": record}
                    await self._api.request("PATCH", self._path, body=_encode(body), content_type=MERGE_PATCH)
        except (ApiError, UnreachableError, TimeoutError) as error:
            _log.info("lease %s/%s was not released, it will run out: %s", self._namespace, self._name, error)


def _encode(body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(body)


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Lease(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: Record = Record()


_decoder = msgspec.json.Decoder(_Lease)


def _decode(body: bytes) -> tuple[str, Record]:
    """Version and record of a Lease.

    Raises:
        UnreachableError: what answered is no API server.
    """
    try:
        lease = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError) as error:
        raise UnreachableError(f"the answer is not a Lease: {error}") from None
    return lease.metadata.resource_version, lease.spec


def _micro_time(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
