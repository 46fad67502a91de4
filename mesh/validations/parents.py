"""References of routes to their parents, which all kinds of routes share."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.kinds.references import FAIRLEAD, GATEWAY_API, ParentReference
from mesh.problems import Report

_KNOWN_PARENTS = {(GATEWAY_API, "Gateway"), (GATEWAY_API, "ListenerSet"), ("", "Service"), (FAIRLEAD, "Service")}


def check_parents(parents: Sequence[ParentReference], namespace: str, report: Report) -> None:
    """Judge `spec.parentRefs`."""
    if not parents:
        message = "the route names no parent, so that nothing routes by it"
        report.warning("MissingField", "spec.parentRefs", message, "add `parentRefs` with the name of a Gateway")
    sections: dict[tuple[str, str, str, str], list[tuple[str, int]]] = {}
    for number, parent in enumerate(parents):
        path = f"spec.parentRefs[{number}]"
        if (parent.group, parent.kind) not in _KNOWN_PARENTS:
            message = f"Fairlead knows no parent of kind '{parent.kind}' in the group '{parent.group}'"
            fix = "write a Gateway, a ListenerSet, or a Service with its group"
            report.warning("UnsupportedKind", path, message, fix)
        others = sections.setdefault((parent.group, parent.kind, parent.namespace or namespace, parent.name), [])
        section = (parent.section_name or "", parent.port or 0)
        if section in others:
            report.error("Duplicate", path, "the same parent is there twice", "remove one, or name another sectionName")
        elif others and (section == ("", 0) or ("", 0) in others):
            message = "a parent named twice needs a sectionName or port each time"
            report.error(
                "MissingField", f"{path}.sectionName", message, "name the listener each time, or only once without"
            )
        others.append(section)
