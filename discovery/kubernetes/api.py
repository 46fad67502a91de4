"""A Kubernetes API server as the rest of this package sees it: bytes in, bytes out, and errors that say what they are.

`connection.py` implements it on the official client's credentials and TLS. Nothing here decodes a body.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
"""Server-side apply; the body may be JSON. Asks for the query `fieldManager`."""

MANAGER = "fairlead"
"""The field manager of everything that Fairlead writes; statuses are written as `fairlead-status`."""


class ApiError(Exception):
    """The API server refused a request: its HTTP status, and the `reason` and `message` of its `Status` object."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class UnreachableError(Exception):
    """The API server could not be asked: connection, TLS, time-out or credentials; the text says which."""


class Api(Protocol):
    """One cluster's API server. Safe to use from several tasks of one loop."""

    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        timeout: float = 15.0,  # noqa: ASYNC109 - it ends as an UnreachableError
    ) -> bytes:
        """Ask, and return the body of the answer. `path` begins with `/api/` or `/apis/`.

        Raises:
            ApiError: it answered with a status of 400 or more.
            UnreachableError: it could not be asked, or did not answer within `timeout` seconds.
        """

    def lines(self, path: str, *, query: Mapping[str, str], idle_timeout: float) -> AsyncIterator[bytes]:
        """A watch: yield its lines, each one JSON document, until the server ends it; first an empty one: it is open.

        Ends with UnreachableError where the connection breaks or nothing comes for `idle_timeout` seconds.

        Raises:
            ApiError, UnreachableError: as `request`.
        """
