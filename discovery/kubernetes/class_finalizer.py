"""Keeps GatewayClasses of ours from going away under the Gateways that use them, as Gateway API recommends.

A finalizer on the class says that it is used; once the last Gateway of it is gone, the finalizer goes, and with it a
class that was deleted meanwhile. It hears of every object as the cluster's informers see it (`observe`) and of whether
this replica leads (`lead`): only the leader writes, and takes the finalizer away only once the source has read
everything. A write names the version that it was decided from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from discovery.kubernetes.api import MANAGER, MERGE_PATCH, Api, ApiError, UnreachableError
from mesh.kinds import KINDS
from mesh.kinds.gatewayclass import CONTROLLER_NAME
from mesh.model import ObjectKey

_log = logging.getLogger(__name__)

FINALIZER = "gateway-exists-finalizer.gateway.networking.k8s.io"
LINGER = 5.0
"""So long a class that nobody uses any more keeps it, unless it is to go: a Gateway is often made anew."""
AFTER_FAILURE = 10.0
_TICK = 1.0


class _Class(msgspec.Struct, frozen=True):
    """A GatewayClass of ours as the API server holds it."""

    version: str
    finalizers: tuple[str, ...]
    going: bool


class ClassFinalizer:
    """One cluster's GatewayClasses. `settled` says whether the source has read everything."""

    def __init__(self, api: Api, *, settled: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._settled = settled
        self._clock = clock
        self._leading = False
        self._classes: dict[str, _Class] = {}
        self._users: dict[str, set[ObjectKey]] = {}  # Gateways by the name of their class
        self._class_of: dict[ObjectKey, str] = {}
        self._unused_since: dict[str, float] = {}
        self._tried: dict[str, str] = {}  # the versions that our last writes were decided from
        self._not_before = float("-inf")
        self._trouble = ""
        self._bell = asyncio.Event()

    def observe(self, key: ObjectKey, raw: Mapping[str, Any] | None) -> None:
        """Take in an object as the informer sees it, None where it is gone."""
        if key.kind == "GatewayClass":
            self._saw_class(key.name, raw)
        elif key.kind == "Gateway":
            self._saw_gateway(key, raw)

    def lead(self, leading: bool) -> None:
        """Begin to write, or stop."""
        self._leading = leading
        self._tried.clear()
        self._bell.set()

    def _saw_class(self, name: str, raw: Mapping[str, Any] | None) -> None:
        if raw is None or (raw.get("spec") or {}).get("controllerName") != CONTROLLER_NAME:
            self._classes.pop(name, None)
            self._tried.pop(name, None)
            return
        metadata = raw["metadata"]
        self._classes[name] = _Class(
            metadata.get("resourceVersion") or "",
            tuple(metadata.get("finalizers") or ()),
            bool(metadata.get("deletionTimestamp")),
        )
        self._bell.set()

    def _saw_gateway(self, key: ObjectKey, raw: Mapping[str, Any] | None) -> None:
        now = str((raw.get("spec") or {}).get("gatewayClassName") or "") if raw is not None else ""
        before = self._class_of.get(key, "")
        if now == before:
            return
        if before:
            self._users[before].discard(key)
            if not self._users[before]:
                del self._users[before]
                self._unused_since[before] = self._clock()
        self._class_of.pop(key, None)
        if now:
            self._class_of[key] = now
            self._users.setdefault(now, set()).add(key)
            self._unused_since.pop(now, None)
        self._bell.set()

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what is due, without end."""
        while True:
            self._bell.clear()
            pause = await self._write_due() if self._leading else None
            try:
                async with asyncio.timeout(pause):
                    await self._bell.wait()
            except TimeoutError:
                pass

    async def _write_due(self) -> float | None:
        """Write all that is due; the seconds until more may be, None: until the bell."""
        if (wait := self._not_before - self._clock()) > 0:
            return wait
        pause: float | None = None
        for name in sorted(self._classes):
            found = self._classes.get(name)
            if found is None or self._tried.get(name) == found.version:
                continue
            wanted = self._wanted(name, found)
            if wanted is None:
                pause = _TICK
            elif wanted != found.finalizers and not await self._write(name, found, wanted):
                self._not_before = self._clock() + AFTER_FAILURE
                return AFTER_FAILURE
        return pause

    def _wanted(self, name: str, found: _Class) -> tuple[str, ...] | None:
        """The finalizers that a class should have; None where that is to be seen later."""
        if name in self._users:
            # Nothing can be added to what is on its way out.
            return found.finalizers if FINALIZER in found.finalizers or found.going else (*found.finalizers, FINALIZER)
        if FINALIZER not in found.finalizers:
            return found.finalizers
        unused = self._clock() - self._unused_since.get(name, float("-inf"))
        if not self._settled() or (unused < LINGER and not found.going):
            return None
        return tuple(one for one in found.finalizers if one != FINALIZER)

    async def _write(self, name: str, found: _Class, finalizers: tuple[str, ...]) -> bool:
        """Give a class its finalizers; False where the API server cannot be asked, or refuses."""
        metadata = {"resourceVersion": found.version, "finalizers": finalizers}
        path = f"/apis/{KINDS['GatewayClass'].api_version}/gatewayclasses/{quote(name)}"
        try:
            await self._api.request(
                "PATCH",
                path,
                query={"fieldManager": MANAGER},
                body=msgspec.json.encode({"metadata": metadata}),
                content_type=MERGE_PATCH,
            )
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or another by now: the informer is about to tell
                self._tell(str(error))
                return False
        except UnreachableError:
            return False  # the source tells of that
        self._tried[name] = found.version
        self._tell("")
        return True

    def _tell(self, words: str) -> None:
        """Say a trouble once."""
        if words and words != self._trouble:
            _log.warning("GatewayClasses cannot be told that they are used; let %s patch them: %s", MANAGER, words)
        self._trouble = words
