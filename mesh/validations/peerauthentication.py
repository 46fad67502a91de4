"""PeerAuthentication: what cannot mean anything, said with the path and the way out."""

from __future__ import annotations

from mesh.kinds.peerauthentication import PeerAuthentication
from mesh.kinds.selectors import LabelSelector
from mesh.problems import Report, child

_HIGHEST_PORT = 65_535
_MOST_CONDITIONS = 64
_LONGEST_KEY = 317  # a prefix of 253, '/' and a name of 63


def check_peerauthentication(policy: PeerAuthentication, report: Report) -> None:
    """Judge a PeerAuthentication."""
    spec = policy.spec
    selector = spec.selector
    if selector is not None and not selector.match_labels and not selector.match_expressions:
        message = "an empty selector selects nothing in particular"
        report.error("MissingField", "spec.selector", message, "remove it for the whole namespace, or add matchLabels")
    if selector is not None:
        _check_size(selector, report)
    if spec.port_level_mtls and selector is None:
        message = "ports are those of workloads, which only a selector names"
        report.error("InvalidCombination", "spec.portLevelMtls", message, "add `selector`, or remove `portLevelMtls`")
    for port in spec.port_level_mtls:
        if int(port) > _HIGHEST_PORT:
            path = child("spec.portLevelMtls", port)
            report.error("OutOfRange", path, "there is no such port", f"write a number up to {_HIGHEST_PORT}")
    if spec.mtls.mode == "UNSET" and not spec.port_level_mtls:
        report.warning("MissingField", "spec.mtls.mode", "the policy sets nothing", "write `mtls: {mode: STRICT}`")


def _check_size(selector: LabelSelector, report: Report) -> None:
    for name, given in (("matchLabels", selector.match_labels), ("matchExpressions", selector.match_expressions)):
        if len(given) > _MOST_CONDITIONS:
            message = f"there are {len(given)} conditions, at most {_MOST_CONDITIONS} may be there"
            report.error("TooMany", f"spec.selector.{name}", message, "give the workloads a label of their own")
    for number, one in enumerate(selector.match_expressions):
        if not 0 < len(one.key) <= _LONGEST_KEY:
            message = f"a label's name has at least 1 and at most {_LONGEST_KEY} characters"
            fix = "write a label's name, as in `app`"
            report.error("InvalidFormat", f"spec.selector.matchExpressions[{number}].key", message, fix)
