"""Refusals, as RFC 9457 problem details (`application/problem+json`).

Owns what an error looks like on the wire: the members of the RFC, `code` (stable, for machines), and `problems`, the
validator's findings. It never carries a traceback or anything of a secret.
"""

# ruff: noqa: N818 - errors are named by what is true: `raise Conflict`

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from api.ports import Conflict, Invalid, NotFound, Refused, TooLarge, Unavailable
from mesh.kinds import KINDS
from mesh.problems import Problem, sentence, shown

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
REPEAT_SECONDS = 10.0  # in which the log tells of the same failure once
_PLACE = frozenset({"file", "line"})

log = logging.getLogger("fairlead.api")


class Refusal(Exception):
    """A request that is refused: `detail` says what is wrong and `fix` how to mend it."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        fix: str = "",
        problems: Iterable[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.fix = status, code, detail, fix
        self.problems = tuple(problems)
        self.headers = dict(headers or {})


def invalid(problems: Iterable[Problem], *, what: str = "The object") -> Refusal:
    """422 with the validator's errors and warnings."""
    found = tuple(problems)
    errors = sum(problem.level == "error" for problem in found)
    first = next((problem for problem in found if problem.level == "error"), None)
    where = f": {first.path}: {first.message}" if first and first.path else f": {first.message}" if first else ""
    more = f" (and {errors - 1} more)" if errors > 1 else ""
    return Refusal(422, "Invalid", sentence(f"{what} is not valid{where}{more}"), problems=found)


def document(status: int, code: str, detail: str, fix: str = "", problems: Iterable[Problem] = ()) -> dict[str, Any]:
    """The problem document."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if fix:
        body["fix"] = fix
    if found := [shown_problem(problem) for problem in problems]:
        body["problems"] = found
    return body


def shown_problem(problem: Problem) -> dict[str, Any]:
    """A problem as everywhere on the wire: `file` and `line` only where there is a file."""
    return {name: value for name, value in msgspec.to_builtins(problem).items() if name not in _PLACE or value}


def response(refusal: Refusal) -> Response:
    """The answer to a refused request."""
    body = document(refusal.status, refusal.code, refusal.detail, refusal.fix, refusal.problems)
    return Response(msgspec.json.encode(body), refusal.status, refusal.headers, MEDIA_TYPE)


def understood(error: Exception, path: str = "") -> Refusal:
    """Any exception as a refusal; one that nobody foresaw says nothing of itself."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Conflict):
        return Refusal(409, "Conflict", str(error), headers={"Fairlead-Revision": str(error.actual)})
    if isinstance(error, Invalid):
        return invalid(error.problems, what=error.what)
    if isinstance(error, NotFound):
        return Refusal(404, "NotFound", str(error))
    if isinstance(error, Refused):
        return Refusal(409, "Refused", str(error))
    if isinstance(error, TooLarge):
        return Refusal(413, "TooLarge", str(error), fix=error.fix)
    if isinstance(error, Unavailable):
        return Refusal(503, "Unavailable", str(error), fix=error.fix, headers={"Retry-After": str(RETRY_SECONDS)})
    if isinstance(error, HTTPException):
        return _of_framework(error, path)
    return Refusal(500, "InternalError", "Fairlead failed at this; it is a defect, and the log tells more.")


def _of_framework(error: HTTPException, path: str) -> Refusal:
    if error.status_code == 404:
        plurals = ", ".join(kind.plural for kind in KINDS.values())
        return Refusal(
            404,
            "NotFound",
            f"There is nothing at {shown(path)}.",
            fix=f"/openapi.json and /docs list every path; the kinds are {plurals}",
        )
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        fix = f"It takes {allowed}" if allowed else ""
        return Refusal(
            405, "MethodNotAllowed", f"{shown(path)} does not take this method.", fix=fix, headers=error.headers
        )
    return Refusal(error.status_code, "Refused", str(error.detail), headers=error.headers)


class Repeats:
    """Which texts were said lately: a full disk is told of, but not for each of the writes it refuses.

    `seconds` pass before the same text is new again. It keeps the latest `MOST`.
    """

    MOST = 100

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def is_new(self, text: str, now: float) -> bool:
        """Whether a text should be said now; `now` in seconds of a monotonic clock."""
        if now - self._said.get(text, -self._seconds) < self._seconds:
            return False
        self._said.pop(text, None)
        self._said[text] = now
        if len(self._said) > self.MOST:
            del self._said[next(iter(self._said))]
        return True


def install(app: FastAPI) -> None:
    """Make every foreseen error of an app a problem document; `gate.py` sees to the others."""

    said = Repeats(REPEAT_SECONDS)

    async def answer(request: Request, error: Exception) -> Response:
        refusal = understood(error, request.url.path)
        if refusal.status >= 500 and said.is_new(refusal.detail, time.monotonic()):
            where = shown(request.url.path, 300)
            log.warning("refused %s %s: %s. %s", request.method, where, refusal.detail, refusal.fix)
        return response(refusal)

    for kind in (Refusal, Conflict, Invalid, NotFound, Refused, TooLarge, Unavailable, HTTPException):
        app.add_exception_handler(kind, answer)
