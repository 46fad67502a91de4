"""What an informer does next, decided without I/O: list in pages, watch from there, and what each failure means.

The shell (`informer.py`) asks `next_step`, does it, and tells what came of it. Time and chance are handed in. Rules:
- a list is read page by page; a page token that has expired starts it anew, without pages the second time;
- a watch goes on where it left off, as long as the server remembers (410 asks for a new list);
- a kind that the server does not have (404) has no objects; but one that was there is believed to be gone only when
  the server says so again, for a server that starts may not know its own kinds yet;
- whatever else fails keeps what was seen, and is tried again after a pause that grows.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

import msgspec

from discovery.kubernetes.api import ApiError, UnreachableError
from discovery.kubernetes.wire import UnreadableError

FIRST_PAUSE = 0.2
AWAY_PAUSE = 5.0  # a server that is away costs nothing to ask, and all wait for it to come back
LONGEST_PAUSE = 15.0
FORBIDDEN_PAUSE = 30.0
MISSING_PAUSE = 10.0
SUSPECT_PAUSE = 2.0
ABSENCES = 3
"""How often in a row a kind that was there must be missing before it is gone."""
WATCH_SECONDS = (300, 600)
IDLE_SECONDS = 150.0
"""Bookmarks come about once a minute, so that a watch on which nothing came for so long is dead."""
_SHORT_WATCH = 1.0

TroubleCode = Literal["Unreachable", "Forbidden", "Refused"]
Failure = ApiError | UnreachableError | UnreadableError


class Resource(msgspec.Struct, frozen=True):
    """What is listed and watched: `what` for people, `paths` by version, the preferred first."""

    what: str
    paths: tuple[str, ...]
    fields: str = ""
    """A field selector."""
    page_size: int = 250
    labels: str = ""
    """A label selector."""
    builtin: bool = False
    """Every Kubernetes has it: who says that there is no such kind is something else."""


class List(msgspec.Struct, frozen=True):
    """Ask for a page of the list."""

    path: str
    query: dict[str, str]


class Watch(msgspec.Struct, frozen=True):
    """Watch from where the list or the last watch ended."""

    path: str
    query: dict[str, str]


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for so many seconds."""

    seconds: float


class Trouble(msgspec.Struct, frozen=True):
    """Why nothing new can be seen at present."""

    code: TroubleCode
    message: str


def is_absence(error: Failure) -> bool:
    """Whether a failure says that there is no such kind."""
    return isinstance(error, ApiError) and error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


class InformerState:
    """`synced`: the whole list was seen once, or there is no such kind. `missing`: there is none at present.

    `known`: objects of the kind are remembered from an earlier run, so that its absence asks for proof.
    """

    def __init__(self, resource: Resource, *, known: bool = False) -> None:
        self.resource = resource
        self._known = known
        self.synced = False
        self.missing = False
        self.trouble: Trouble | None = None
        self._version = 0  # of `resource.paths`
        self._versions_tried = 0
        self._resource_version = ""
        self._token = ""
        self._paged = True
        self._failures = 0
        self._absences = 0
        self._not_before = 0.0
        self._watch_began = 0.0
        self._watch_told = False

    def next_step(self, now: float, luck: float) -> List | Watch | Wait:
        """What to do; `luck` is chance, 0 to 1."""
        if self._not_before > now:
            return Wait(self._not_before - now)
        path = self.resource.paths[self._version]
        query = {"fieldSelector": self.resource.fields} if self.resource.fields else {}
        if self.resource.labels:
            query["labelSelector"] = self.resource.labels
        if not self._resource_version:
            if self._paged:
                query["limit"] = str(self.resource.page_size)
            if self._token:
                query["continue"] = self._token
            return List(path, query)
        self._watch_began = now
        self._watch_told = False
        low, high = WATCH_SECONDS
        query |= {
            "watch": "1",
            "resourceVersion": self._resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round(low + (high - low) * luck)),
        }
        return Watch(path, query)

    def page_came(self, resource_version: str, token: str) -> bool:
        """A page was read. True: it was the last one, the list is whole."""
        self._well()
        self._token = token
        if token:
            return False
        self._paged = True
        # A list without a version is none of Kubernetes'; "0" asks a watch for everything from the start.
        self._resource_version = resource_version or "0"
        self.synced = True
        self.missing = False
        return True

    def watch_opened(self) -> None:
        """The server has accepted the watch."""
        self.trouble = None
        self._absences = self._versions_tried = 0

    def event_came(self, resource_version: str) -> None:
        """An event or a bookmark was read, and counts."""
        self._well()
        self._watch_told = True
        if resource_version:
            self._resource_version = resource_version

    def watch_ended(self, now: float, luck: float) -> None:
        """The server ended the watch as it does now and then; at once and without a word is a failure."""
        if self._watch_told or now - self._watch_began >= _SHORT_WATCH:
            self._failures = 0
        else:
            self._pause(now, luck)

    def failed(self, error: Failure, now: float, luck: float) -> bool:
        """A list or a watch failed. True: the kind is gone, and all its objects with it."""
        watching = bool(self._resource_version)
        if isinstance(error, UnreachableError):
            self._token = ""
            self.trouble = Trouble("Unreachable", str(error))
            self._pause(now, luck, longest=AWAY_PAUSE)
            return False
        if isinstance(error, UnreadableError):
            self._relist()
            self.trouble = Trouble("Refused", f"it answers what is not Kubernetes' API: {error}")
            self._pause(now, luck)
            return False
        if is_absence(error) and not self.resource.builtin:
            return self._not_found(now, luck)
        if error.status == HTTPStatus.GONE:
            self._paged = watching or not self._token
            self._relist()
            self._failures += 1
            if self._failures > 1:
                self._pause(now, luck)
            return False
        self._token = ""
        self._refused(error, now, luck)
        return False

    def _refused(self, error: ApiError, now: float, luck: float) -> None:
        forbidden = error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED)
        self.trouble = Trouble("Forbidden" if forbidden else "Refused", str(error))
        self._pause(now, luck, longest=FORBIDDEN_PAUSE if forbidden else LONGEST_PAUSE)
        if error.retry_after is not None:
            self._not_before = max(self._not_before, now + min(error.retry_after, 60.0))

    def _not_found(self, now: float, luck: float) -> bool:
        """Another version may be served; where none is, the kind is missing."""
        self._relist()
        self._versions_tried += 1
        self._version = (self._version + 1) % len(self.resource.paths)
        if self._versions_tried < len(self.resource.paths):
            return False
        self._versions_tried = 0
        self._absences += 1
        present = not self.missing
        if present and (self.synced or self._known) and self._absences < ABSENCES:
            self._not_before = now + SUSPECT_PAUSE
            return False
        self._not_before = now + MISSING_PAUSE * (0.8 + 0.4 * luck)
        self.trouble = None
        self._failures = 0
        self.synced = self.missing = True
        return present

    def _relist(self) -> None:
        self._resource_version = ""
        self._token = ""

    def _well(self) -> None:
        self.trouble = None
        self._failures = self._absences = self._versions_tried = 0

    def _pause(self, now: float, luck: float, *, longest: float | None = None) -> None:
        pause = min(LONGEST_PAUSE if longest is None else longest, FIRST_PAUSE * 2 ** min(self._failures, 20))
        self._failures += 1
        self._not_before = now + pause * (0.5 + 0.5 * luck)
