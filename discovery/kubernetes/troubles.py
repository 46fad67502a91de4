"""What goes wrong between us and an API server, as the few problems that people can act on. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from discovery.kubernetes.informer_state import Trouble
from mesh.problems import Problem

_WITHOUT = {
    "gatewayclasses": "Gateways of the class `fairlead` are served, and those of no other class",
    "namespaces": "of a namespace nothing but its name is known where listeners select by labels",
    "nodes": "it is not known in which zones endpoints are",
}


class Situation(msgspec.Struct, frozen=True):
    """How one informer stands: `what` it watches, of which API `group` and `plural`, and in which `namespace`.

    `beyond`: it is about what is in no namespace, and only some namespaces are ours to read.
    """

    what: str
    group: str
    plural: str
    namespace: str = ""
    trouble: Trouble | None = None
    missing: bool = False
    beyond: bool = False


def told(source: str, situations: Iterable[Situation]) -> tuple[Problem, ...]:
    """The problems of one source, sorted. An API server that is away is one problem, not one per kind."""
    found: list[Problem] = []
    away = ""
    missing: list[str] = []
    for at in situations:
        if at.missing:
            missing.append(at.what)
        if at.trouble is None:
            continue
        if at.trouble.code == "Unreachable":
            away = away or at.trouble.message
        else:
            found.append(_refused(source, at, at.trouble))
    if away:
        fix = "see that the API server runs and that its address and credentials are right; what was last seen stands"
        found.append(Problem("Unreachable", "error", "", f"the API server cannot be asked: {away}", fix, source))
    if missing:
        kinds = ", ".join(sorted(missing))
        fix = "install their CustomResourceDefinitions if they are to be used; that is noticed by itself"
        found.append(Problem("MissingKinds", "warning", "", f"the cluster has no {kinds}", fix, f"{source} kinds"))
    return tuple(sorted(found, key=lambda problem: (problem.file, problem.code)))


def _refused(source: str, at: Situation, trouble: Trouble) -> Problem:
    where = f" in namespace {at.namespace}" if at.namespace else ""
    if trouble.code == "Forbidden" and at.beyond:
        meanwhile = _WITHOUT.get(at.plural, "what was last seen stands")
        fix = f"allow `list` and `watch` of {at.plural} (group {at.group!r}) in a ClusterRole; without, {meanwhile}"
        return Problem(trouble.code, "warning", "", trouble.message, fix, f"{source} {at.what}")
    if trouble.code == "Forbidden":
        fix = f"allow `list` and `watch` of {at.plural} (group {at.group!r}){where}; what was last seen stands"
    else:
        fix = "look into the API server's log; it is asked again, and what was last seen stands"
    return Problem(trouble.code, "error", "", trouble.message, fix, f"{source} {at.what}")
