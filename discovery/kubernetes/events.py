"""Kubernetes Events about objects: what `kubectl describe` and `kubectl events` show beside an object's status.

They help people and nothing depends on them. So they are written one after the other at a bounded rate, what comes in
too fast is left out, and what cannot be written is said once in the log and forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import msgspec

from discovery.kubernetes.api import MANAGER, Api, ApiError, UnreachableError
from mesh.kinds.meta import Object

MOST_WAITING: Final = 200
PAUSE_SECONDS: Final = 0.02
_LONGEST = 1_024  # what an Event's message may have
_RANDOM_PART = 16

_log = logging.getLogger(__name__)


class Event(msgspec.Struct, frozen=True):
    """What to tell of an object; `reason` is a word, `at` in seconds since 1970."""

    about: Object
    reason: str
    message: str
    warning: bool
    at: float


class EventWriter:
    """One cluster's Events; `instance` says who tells."""

    def __init__(self, api: Api, *, instance: str, unique: Callable[[], str]) -> None:
        self._api = api
        self._instance = instance
        self._unique = unique
        self._waiting: deque[Event] = deque(maxlen=MOST_WAITING)
        self._bell = asyncio.Event()
        self._trouble = ""

    def tell(self, event: Event) -> None:
        """Write it soon."""
        self._waiting.append(event)
        self._bell.set()

    async def run(self) -> None:
        """Write what comes, without end."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._waiting:
                await self._write(self._waiting.popleft())
                await asyncio.sleep(PAUSE_SECONDS)

    async def _write(self, event: Event) -> None:
        namespace = event.about.metadata.namespace
        body = wire(event, name=f"{event.about.metadata.name[:200]}.{self._unique()[:_RANDOM_PART]}", by=self._instance)
        try:
            await self._api.request(
                "POST",
                f"/api/v1/namespaces/{quote(namespace)}/events",
                query={"fieldManager": MANAGER},
                body=msgspec.json.encode(body),
            )
        except (ApiError, UnreachableError) as error:
            fix = ""
            if isinstance(error, ApiError) and error.status == HTTPStatus.FORBIDDEN:
                fix = "; let Fairlead create events"
            words = f"{error}{fix}"
            if words != self._trouble:
                _log.warning("events cannot be written for now: %s", words)
            self._trouble = words
        else:
            self._trouble = ""


def wire(event: Event, *, name: str, by: str) -> dict[str, Any]:
    """An Event of `v1`."""
    metadata = event.about.metadata
    at = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    version = {"resourceVersion": metadata.resource_version} if metadata.resource_version else {}
    message = event.message if len(event.message) <= _LONGEST else f"{event.message[: _LONGEST - 1]}…"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata.namespace},
        "involvedObject": {
            "apiVersion": event.about.api_version,
            "kind": event.about.kind,
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
            **version,
        },
        "reason": event.reason,
        "message": message,
        "type": "Warning" if event.warning else "Normal",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": MANAGER},
        "reportingComponent": f"fairlead.dev/{MANAGER}",
        "reportingInstance": by,
    }
