"""Instances that register themselves over REST, put into Consul (`api.ports.Registrations`): its agent keeps them.

Each has a check with its TTL at the agent, which turns critical by itself when nothing is heard, so nothing of it is
kept here: a replica, or this server after a restart, goes on where another one was. Which instances are ours is said by
a meta key with the whole name; what somebody else registered at the agent is neither written over nor removed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from api.ports import Invalid, Refused, RegistrationView, Unavailable
from discovery.consul.http import Consul, ConsulError, UnreachableError
from discovery.consul.wire import NOT_JSON
from fairlead.consul.registration import (
    OWN_KEYS,
    PORT_NAME_KEY,
    REGISTRATION_KEY,
    TTL_KEY,
    Instance,
    UnfitError,
    body,
)
from mesh.problems import Problem
from mesh.registered import Registration, RegistrationKey, check_key

_LONGEST_TTL = 3600
_GONE = frozenset({404, 500})  # agents before 1.11 say 500 where a check is not there
_FIX = "See that the agent of --consul runs and has a leader, and that its token has `service:write`."

_log = logging.getLogger(__name__)


class _Weights(msgspec.Struct, frozen=True, rename="pascal"):
    passing: int = 1


class _Service(msgspec.Struct, frozen=True, rename="pascal"):
    """What an agent says of an instance that is registered with it."""

    address: str = ""
    port: int = 0
    meta: dict[str, str] | None = None
    weights: _Weights | None = None


class _Check(msgspec.Struct, frozen=True, rename="pascal"):
    status: str = ""
    service_id: str = msgspec.field(default="", name="ServiceID")


_SERVICES = msgspec.json.Decoder(dict[str, _Service])
_CHECKS = msgspec.json.Decoder(dict[str, _Check])


class ConsulRegistrations:
    """See `api.ports.Registrations`. `namespace` is the one of instances that say nothing of it."""

    def __init__(self, consul: Consul, *, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._consul = consul
        self._namespace = namespace
        self._clock = clock
        self._heard: dict[RegistrationKey, tuple[Registration, float]] = {}

    def numbers(self) -> Mapping[str, int]:
        """For the metrics page: those that this server heard from."""
        now = self._clock()
        return {"now": sum(until > now for _, until in self._heard.values())}

    async def all(self) -> Sequence[RegistrationView]:
        """See `api.ports.Registrations.all`: of this agent, those whose check passes."""
        checks: dict[str, _Check] = await self._asked("/v1/agent/checks", _CHECKS)
        late = {check.service_id for check in checks.values() if check.status == "critical"}
        views = (self._view(found) for own, found in (await self._services()).items() if own not in late)
        return sorted((view for view in views if view is not None), key=_key)

    async def get(self, key: RegistrationKey) -> RegistrationView | None:
        """See `api.ports.Registrations.get`."""
        return next((view for view in await self.all() if _key(view) == key), None)

    async def put(self, key: RegistrationKey, registration: Registration) -> RegistrationView:
        """See `api.ports.Registrations.put`."""
        instance = self._instance(key, registration)
        created = False
        if self._knows(key, registration) and await self._passed(instance):
            self._note(key, registration)
        else:
            created = await self._register(key, instance)
            self._note(key, registration)
        return RegistrationView(*key, registration, registration.ttl_seconds, known=True, created=created)

    async def delete(self, key: RegistrationKey) -> bool:
        """See `api.ports.Registrations.delete`."""
        self._heard.pop(key, None)
        own = self._id(key)
        there = (await self._services()).get(own)
        if there is None or not _is(there, key):
            return False
        await self._put(f"/v1/agent/service/deregister/{quote(own, safe='')}")
        _log.info("deregistered in Consul: %s", key)
        return True

    # -- one instance

    def _id(self, key: RegistrationKey) -> str:
        """As `fairlead register --consul` names it, with the namespace where that is said."""
        name = f"{key.service}-{key.id}"
        return name if key.namespace == self._namespace else f"{key.namespace}.{name}"

    def _instance(self, key: RegistrationKey, registration: Registration) -> Instance:
        _refuse(registration)
        [(port, number)] = registration.ports.items()
        made = Instance(
            service=key.service,
            id=self._id(key),
            address=registration.address,
            port=number,
            namespace="" if key.namespace == self._namespace else key.namespace,
            labels=registration.labels,
            weight=registration.weight,
            ttl=registration.ttl_seconds,
            marks={REGISTRATION_KEY: str(key), TTL_KEY: f"{registration.ttl_seconds:g}", PORT_NAME_KEY: port},
        )
        try:
            body(made)
        except UnfitError as unfit:
            field = {"label": "labels"}.get(unfit.field, unfit.field)
            problem = Problem("Unsupported", "error", field, unfit.problem, unfit.fix)
            raise Invalid((problem,), what="The registration") from None
        return made

    def _knows(self, key: RegistrationKey, registration: Registration) -> bool:
        heard = self._heard.get(key)
        return heard is not None and heard[0] == registration

    def _note(self, key: RegistrationKey, registration: Registration) -> None:
        now = self._clock()
        if key not in self._heard:  # they must not pile up: whoever is late is registered anew, which is harmless
            self._heard = {known: kept for known, kept in self._heard.items() if kept[1] > now}
        self._heard[key] = (registration, now + registration.ttl_seconds)

    async def _passed(self, instance: Instance) -> bool:
        """Tell its check that it is alive; whether there is one."""
        try:
            await self._consul.put(f"/v1/agent/check/pass/{quote(instance.check_id, safe='')}")
        except ConsulError as error:
            if error.status in _GONE:
                return False
            raise _away(error) from None
        except UnreachableError as error:
            raise _away(error) from None
        return True

    async def _register(self, key: RegistrationKey, instance: Instance) -> bool:
        """Whether it was not there before."""
        there = (await self._services()).get(instance.id)
        if there is not None and not _is(there, key):
            raise Refused(
                f"Somebody else registered {instance.id} at Consul's agent already. Choose another id, or deregister"
                " that one."
            )
        await self._put("/v1/agent/service/register", msgspec.json.encode(body(instance)))
        if not await self._passed(instance):
            raise Unavailable(f"Consul's agent does not keep the check of {instance.id}.", fix=_FIX)
        if there is None:
            _log.info("registered in Consul: %s at %s", key, instance.address)
        return there is None

    # -- the agent

    async def _services(self) -> dict[str, _Service]:
        found: dict[str, _Service] = await self._asked("/v1/agent/services", _SERVICES)
        return found

    async def _asked(self, path: str, decoder: msgspec.json.Decoder[Any]) -> Any:
        try:
            return decoder.decode((await self._consul.get(path)).body)
        except (ConsulError, UnreachableError, *NOT_JSON) as error:
            raise _away(error) from None

    async def _put(self, path: str, content: bytes = b"") -> None:
        try:
            await self._consul.put(path, content)
        except (ConsulError, UnreachableError) as error:
            raise _away(error) from None

    def _view(self, found: _Service) -> RegistrationView | None:
        """An instance of ours as it was registered; None where it is none, or somebody changed what says so."""
        meta = found.meta or {}
        parts = meta.get(REGISTRATION_KEY, "").split("/")
        if len(parts) != len(RegistrationKey._fields) or check_key(RegistrationKey(*parts)):
            return None
        key = RegistrationKey(*parts)
        try:
            ttl = float(meta.get(TTL_KEY, ""))
        except ValueError:
            return None
        if not 1 <= ttl <= _LONGEST_TTL:
            return None
        registration = Registration(
            address=found.address,
            ports={meta.get(PORT_NAME_KEY, ""): found.port},
            labels={name: value for name, value in meta.items() if name not in OWN_KEYS},
            weight=found.weights.passing if found.weights is not None else 1,
            ttl_seconds=ttl,
        )
        _, until = self._heard.get(key, (None, self._clock() + ttl))
        return RegistrationView(*key, registration, round(max(0.0, until - self._clock()), 1), known=True)


def _key(view: RegistrationView) -> RegistrationKey:
    return RegistrationKey(view.namespace, view.service, view.id)


def _is(found: _Service, key: RegistrationKey) -> bool:
    return (found.meta or {}).get(REGISTRATION_KEY) == str(key)


def _refuse(registration: Registration) -> None:
    """Raises Invalid for what a registration in Consul cannot say."""
    problems: list[Problem] = []

    def error(field: str, message: str, fix: str) -> None:
        problems.append(Problem("Unsupported", "error", field, message, fix))

    if len(registration.ports) != 1:
        error("ports", "an instance in Consul has one port", "register one service for each port")
    for field in ("region", "zone", "sub_zone"):
        if getattr(registration, field):
            error(field, "in Consul places are those of nodes", "set `region` and `zone` in the agent's `node_meta`")
    if registration.health not in {"Unknown", "Healthy"}:
        error("health", "Consul's checks say how an instance is", "leave it out; let it leave with DELETE")
    if registration.priority:
        error("priority", "Consul has no priorities", "leave it out")
    if registration.service_account or registration.mesh_tls:
        error("serviceAccount", "Consul does not tell of accounts of the mesh", "register with Fairlead's own store")
    if registration.for_zones:
        error("forZones", "Consul does not tell of zones' shares", "leave it out")
    if problems:
        raise Invalid(tuple(problems), what="The registration")


def _away(error: Exception) -> Unavailable:
    forbidden = isinstance(error, ConsulError) and error.status == HTTPStatus.FORBIDDEN
    what = "does not let this server register anything" if forbidden else "cannot do it now"
    return Unavailable(f"Consul's agent {what} ({error}).", fix=_FIX)
