"""EnvoyPatch: what can be judged without the resource: targets of one sort, and operations that are whole."""

from __future__ import annotations

from types import MappingProxyType

from mesh.kinds.envoypatch import RESOURCES, EnvoyPatch, PatchOperation
from mesh.problems import Report
from mesh.validations.policy import Targets, check_targets

_GATEWAY_API = "gateway.networking.k8s.io"
TARGETS: Targets = MappingProxyType(
    {
        (_GATEWAY_API, "Gateway"): True,
        (_GATEWAY_API, "HTTPRoute"): True,
        (_GATEWAY_API, "GRPCRoute"): True,
        ("", "Service"): True,
        ("fairlead.dev", "Service"): True,
        ("fairlead.dev", "Backend"): False,
    }
)
_WITH_VALUE = frozenset({"add", "replace", "test"})
_WITH_FROM = frozenset({"move", "copy"})


def check_envoypatch(patch: EnvoyPatch, report: Report) -> None:
    """Judge an EnvoyPatch."""
    refs = patch.spec.target_refs
    check_targets(refs, TARGETS, patch.metadata, report)
    _check_resource(patch, report)
    for number, operation in enumerate(patch.spec.patch):
        _check_operation(operation, f"spec.patch[{number}]", report)


def _check_resource(patch: EnvoyPatch, report: Report) -> None:
    """A path fits one sort of resource: all targets must have it."""
    refs, resource = patch.spec.target_refs, patch.spec.resource
    known = [(number, ref.kind) for number, ref in enumerate(refs) if (ref.group, ref.kind) in TARGETS]
    for number, kind in known:
        if resource is not None and resource not in RESOURCES[kind]:
            message = f"a {kind} has no {resource} that could be patched"
            fix = f"write one of these: {', '.join(RESOURCES[kind])}"
            report.error("InvalidCombination", "spec.resource", message, fix)
        elif resource is None and RESOURCES[kind][0] != RESOURCES[known[0][1]][0]:
            message = f"a path cannot mean both a {RESOURCES[known[0][1]][0]} and a {RESOURCES[kind][0]}"
            report.error("InvalidCombination", f"spec.targetRefs[{number}]", message, "write an EnvoyPatch for each")
        elif resource == "Listener" and kind != known[0][1]:
            message = "a path cannot mean both the listeners of gateways and those of sidecars"
            report.error("InvalidCombination", f"spec.targetRefs[{number}]", message, "write an EnvoyPatch for each")


def _check_operation(operation: PatchOperation, path: str, report: Report) -> None:
    op = operation.op
    if operation.value is None and op in _WITH_VALUE:
        report.error("MissingField", f"{path}.value", f"`{op}` needs a value", "add `value`")
    if operation.value is not None and op not in _WITH_VALUE:
        report.error("NotAllowed", f"{path}.value", f"`{op}` has no value", "remove `value`")
    if operation.from_ is None and op in _WITH_FROM:
        report.error("MissingField", f"{path}.from", f"`{op}` needs the path to take it from", "add `from`")
    if operation.from_ is not None and op not in _WITH_FROM:
        report.error("NotAllowed", f"{path}.from", f"`{op}` takes nothing from elsewhere", "remove `from`")
    if op == "move" and operation.from_ is not None and operation.path.startswith(f"{operation.from_}/"):
        report.error("InvalidCombination", f"{path}.path", "nothing can move into itself", "name another path")
