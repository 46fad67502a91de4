"""What a query may say: each path takes the parameters it knows, once each, and refuses all others.

Pure functions of a request. A misspelt `dryrun=All` that were ignored would write, so nothing is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet

from fastapi import Request

from api.problems import Refusal
from mesh.problems import shown
from mesh.validations.structure import closest


def only(request: Request, known: AbstractSet[str], *, several: AbstractSet[str] = frozenset()) -> None:
    """Raise Refusal for a parameter that is not `known`, or that stands twice without being one of `several`."""
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            meant = closest(name, known)
            fix = f"{', '.join(sorted(known))} can stand here" if known else "This path takes none"
            raise Refusal(
                400,
                "UnknownParameter",
                f"There is no query parameter {shown(name)!r} here.",
                fix=f"Did you mean {meant}? {fix}" if meant else fix,
            )
        if count > 1 and name not in several:
            raise Refusal(400, "BadQuery", f"The query parameter {name} stands {count} times.", fix="Give it once")


def dry_run(request: Request) -> bool:
    """Whether a write is only to be tried: `dryRun=All`, as in Kubernetes."""
    said = request.query_params.get("dryRun")
    if said not in {None, "All"}:
        raise Refusal(400, "BadQuery", f"dryRun={shown(said or '')} is not understood.", fix="Write dryRun=All")
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
