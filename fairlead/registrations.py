"""Instances that register themselves (`api.ports.Registrations`): kept while they are heard from, in store and model.

When one was last heard is told by this process's own monotonic clock: no clock of the instance's counts, and nobody
leaves because a clock was set. Time in which the server could not hear does not count either: after a start each known
instance has its whole time anew, and so it has when the process stood still (a stopped container).
That something ended is written into the input table by the sweeper here; the model reads no clock.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from api.ports import Refused, RegistrationView
from mesh.model import ServiceKey
from mesh.registered import Registration, RegistrationKey, change, check_key
from mesh.services import SERVICES
from mesh.tables import Change, Engine

COLLECTION = "registrations"  # of the store's documents
MOST = 10_000
MOST_OF_A_SERVICE = 2_000
_PAUSE = 0.1  # between two sweeps at the least, however many instances there are
_LATE = 1.0  # a sweep that comes so much later than planned tells that the process stood still

_log = logging.getLogger(__name__)


class Registrations:
    """See `api.ports.Registrations`. `save` writes documents in the background, None removes one."""

    def __init__(
        self,
        engine: Engine,
        submit: Callable[[Iterable[Change]], None],
        *,
        save: Callable[[Mapping[str, bytes | None]], None],
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._submit = submit
        self._save = save
        self._clock = clock
        self._kept: dict[RegistrationKey, Registration] = {}
        self._deadlines: dict[RegistrationKey, float] = {}
        self._of_service: dict[ServiceKey, int] = {}
        self._expired = 0
        self._planned = math.inf
        self._bell = asyncio.Event()

    def load(self, documents: Mapping[str, bytes]) -> None:
        """Take back what an earlier run knew; what has registered meanwhile is newer."""
        for name, body in sorted(documents.items()):
            try:
                key = RegistrationKey(*name.split("/"))
                registration = msgspec.json.decode(body, type=Registration)
            except (TypeError, ValueError, msgspec.DecodeError):
                key = None
            if key is None or check_key(key):
                _log.warning("a registration that cannot be read is dropped: %r", name)
                self._save({name: None})
            elif key not in self._kept:
                self._keep(key, registration)

    async def all(self) -> Sequence[RegistrationView]:
        """See `api.ports.Registrations.all`."""
        return [self._view(key) for key in sorted(self._kept)]

    async def get(self, key: RegistrationKey) -> RegistrationView | None:
        """See `api.ports.Registrations.get`."""
        return self._view(key) if key in self._kept else None

    async def put(self, key: RegistrationKey, registration: Registration) -> RegistrationView:
        """See `api.ports.Registrations.put`."""
        known = self._kept.get(key)
        if known is None:
            self._refuse_too_many(key)
            _log.info("registered: %s at %s", key, registration.address)
        if known == registration:  # a heartbeat: nothing to derive, nothing to write
            self._await(key, registration)
        else:
            self._keep(key, registration)
            self._save({str(key): msgspec.json.encode(registration)})
        return msgspec.structs.replace(self._view(key), created=known is None)

    async def delete(self, key: RegistrationKey) -> bool:
        """See `api.ports.Registrations.delete`."""
        if key not in self._kept:
            return False
        _log.info("deregistered: %s", key)
        self._drop([key])
        return True

    def numbers(self) -> Mapping[str, int]:
        """For the metrics page."""
        return {"now": len(self._kept), "expired": self._expired}

    async def sweep(self) -> None:
        """Remove what is not heard of any more, without end."""
        while True:
            self._planned = min(self._deadlines.values(), default=math.inf)
            self._bell.clear()
            due = max(self._planned, self._clock() + _PAUSE)
            try:
                async with asyncio.timeout(None if due == math.inf else due - self._clock()):
                    await self._bell.wait()
            except TimeoutError:
                pass
            self.expire(planned=due)

    def expire(self, *, planned: float = math.inf) -> None:
        """Remove whose time is over; `planned` is when this should have been."""
        now = self._clock()
        stood_still = now - planned
        if stood_still > _LATE:
            _log.warning("the process stood still for %.1f s; registrations have their whole time anew", stood_still)
            self._deadlines = {key: now + kept.ttl_seconds for key, kept in self._kept.items()}
        over = [key for key, deadline in self._deadlines.items() if deadline <= now]
        for key in over:
            _log.warning("nothing heard of %s for %g s: it leaves", key, self._kept[key].ttl_seconds)
        self._expired += len(over)
        self._drop(over)

    def _refuse_too_many(self, key: RegistrationKey) -> None:
        if len(self._kept) >= MOST:
            raise Refused(f"{MOST} instances are registered already; more are not taken.")
        if self._of_service.get(ServiceKey(key.namespace, key.service), 0) >= MOST_OF_A_SERVICE:
            raise Refused(f"{MOST_OF_A_SERVICE} instances of {key.namespace}/{key.service} are registered already.")

    def _keep(self, key: RegistrationKey, registration: Registration) -> None:
        if key not in self._kept:
            service = ServiceKey(key.namespace, key.service)
            self._of_service[service] = self._of_service.get(service, 0) + 1
        self._kept[key] = registration
        self._await(key, registration)
        self._submit([change(key, registration)])

    def _await(self, key: RegistrationKey, registration: Registration) -> None:
        deadline = self._clock() + registration.ttl_seconds
        self._deadlines[key] = deadline
        if deadline < self._planned:
            self._bell.set()

    def _drop(self, keys: Sequence[RegistrationKey]) -> None:
        if not keys:
            return
        for key in keys:
            del self._kept[key], self._deadlines[key]
            service = ServiceKey(key.namespace, key.service)
            self._of_service[service] -= 1
            if not self._of_service[service]:
                del self._of_service[service]
        self._submit([change(key, None) for key in keys])
        self._save({str(key): None for key in keys})

    def _view(self, key: RegistrationKey) -> RegistrationView:
        registration = self._kept[key]
        service = self._engine.get(SERVICES, ServiceKey(key.namespace, key.service))
        left = max(0.0, self._deadlines[key] - self._clock())
        known = service is not None and any(port.name in registration.ports for port in service.ports)
        return RegistrationView(*key, registration, round(left, 1), known)
