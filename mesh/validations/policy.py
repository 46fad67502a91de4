"""What all policies must satisfy: targets that the kind can be for, each named once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mesh.kinds.meta import ObjectMeta, Spec
from mesh.kinds.policy import PolicyTargetReference
from mesh.problems import Report, shown

Targets = Mapping[tuple[str, str], bool]
"""Group and kind of what a policy can be for, and whether it can be for a part of it (`sectionName`)."""


def check_targets(
    refs: Iterable[PolicyTargetReference], allowed: Targets, metadata: ObjectMeta, report: Report
) -> None:
    """Judge `spec.targetRefs`."""
    seen: set[tuple[str, str, str | None]] = set()
    for number, ref in enumerate(refs):
        path = f"spec.targetRefs[{number}]"
        sections = allowed.get((ref.group, ref.kind))
        if sections is None:
            message = f"such a policy cannot be for {shown(ref.kind)} of the group '{shown(ref.group)}'"
            names = ", ".join(f"{kind} ('{group}')" for group, kind in allowed)
            report.error("UnsupportedKind", path, message, f"write one of these kinds, with its group: {names}")
            continue
        if ref.section_name is not None and not sections:
            message = f"a {ref.kind} has no parts that a policy could be for"
            report.error("NotAllowed", f"{path}.sectionName", message, "remove `sectionName`")
        namespace = metadata.namespace or "default"
        if ref.kind == "Namespace" and ref.name != namespace:
            message = f"a policy is for its own namespace only, which is '{shown(namespace)}'"
            fix = f"write `name: {shown(namespace)}`, or put the policy into the namespace it is for"
            report.error("NotAllowed", f"{path}.name", message, fix)
        same = (ref.kind, ref.name, ref.section_name)
        if same in seen:
            report.error("Duplicate", path, "the same target is there twice", "remove one")
        seen.add(same)


def check_both(
    spec: Any, of: type[Spec], check: Callable[[Any, str, Report], None], report: Report, *, example: str
) -> None:
    """Judge what a policy sets, and what its `overrides` do, by `check`; `of` are the fields that it can set."""
    stanzas = [(spec, "spec"), *([(spec.overrides, "spec.overrides")] if spec.overrides is not None else [])]
    for settings, path in stanzas:
        check(settings, path, report)
    if not any(getattr(settings, name) is not None for settings, _ in stanzas for name in of.__struct_fields__):
        fix = f"add what it is for, such as `{example}`"
        report.warning("MissingField", "spec", "the policy sets nothing", fix)
