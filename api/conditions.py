"""Conditional requests: `If-Match`, `If-None-Match`, `dryRun`, and other small things said in headers and queries.

Pure functions of a request's headers and query. An ETag of ours is `"<revision>-<hash>"`; for writes only the revision
counts, and `"<revision>"` alone will do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastapi import Request

from api.problems import Refusal
from mesh.problems import shown

_TAG = re.compile(r'(?:W/)?"(\d{1,18})(?:-[0-9a-f]+)?"')


def expected_revision(headers: Mapping[str, str]) -> int | None:
    """The revision that a write is meant for: None for any, 0 for none there yet. Raises Refusal."""
    if headers.get("if-none-match", "").strip() == "*":
        return 0
    match = headers.get("if-match", "").strip()
    if not match or match == "*":
        return None
    if found := _TAG.fullmatch(match):
        return int(found[1])
    raise Refusal(400, "BadIfMatch", f"If-Match {shown(match)} is no ETag of this server.", fix='Write If-Match: "7"')


def not_modified(headers: Mapping[str, str], tag: str) -> bool:
    """Whether the reader has this content already."""
    return any(one.strip().removeprefix("W/") == tag for one in headers.get("if-none-match", "").split(","))


def dry_run(request: Request) -> bool:
    """Whether a write is only to be tried: `dryRun=All`, as in Kubernetes."""
    said = request.query_params.get("dryRun", "")
    if said not in {"", "All"}:
        raise Refusal(400, "BadQuery", f"dryRun={shown(said)} is not understood.", fix="Write dryRun=All")
    return said == "All"


def flag(request: Request, name: str) -> bool:
    """A query parameter that is `true` or `false`; absent is false."""
    said = request.query_params.get(name, "false").lower()
    if said not in {"true", "false", "1", "0"}:
        raise Refusal(400, "BadQuery", f"{name}={shown(said)} is not understood.", fix=f"Write {name}=true")
    return said in {"true", "1"}


def number(request: Request, name: str, *, default: int, most: int) -> int:
    """A query parameter that is a whole number from 1 to `most`."""
    said = request.query_params.get(name)
    if said is None:
        return default
    if not (said.isascii() and said.isdigit() and len(said) < 10 and 1 <= int(said) <= most):
        raise Refusal(
            400, "BadQuery", f"{name}={shown(said)} is not understood.", fix=f"Give a number from 1 to {most}"
        )
    return int(said)
