"""PeerAuthentication: what cannot mean anything, said with the path and the way out."""

from __future__ import annotations

from mesh.kinds.peerauthentication import PeerAuthentication
from mesh.problems import Report, child

_HIGHEST_PORT = 65_535


def check_peerauthentication(policy: PeerAuthentication, report: Report) -> None:
    """Judge a PeerAuthentication."""
    spec = policy.spec
    selector = spec.selector
    if selector is not None and not selector.match_labels and not selector.match_expressions:
        message = "an empty selector selects nothing in particular"
        report.error("MissingField", "spec.selector", message, "remove it for the whole namespace, or add matchLabels")
    if spec.port_level_mtls and selector is None:
        message = "ports are those of workloads, which only a selector names"
        report.error("InvalidCombination", "spec.portLevelMtls", message, "add `selector`, or remove `portLevelMtls`")
    for port in spec.port_level_mtls:
        if int(port) > _HIGHEST_PORT:
            path = child("spec.portLevelMtls", port)
            report.error("OutOfRange", path, "there is no such port", f"write a number up to {_HIGHEST_PORT}")
    if spec.mtls.mode == "UNSET" and not spec.port_level_mtls:
        report.warning("MissingField", "spec.mtls.mode", "the policy sets nothing", "write `mtls: {mode: STRICT}`")
