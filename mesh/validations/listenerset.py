"""ListenerSet: the rules of its CRD (v1.6.3), which are those of a Gateway's listeners."""

from __future__ import annotations

from mesh.kinds.listenerset import ListenerSet
from mesh.listener_sets import gateway_of
from mesh.problems import Report
from mesh.validations.gateway import check_listeners


def check_listenerset(listener_set: ListenerSet, report: Report) -> None:
    """Judge a ListenerSet."""
    if gateway_of(listener_set) is None:
        ref = listener_set.spec.parent_ref
        message = f"Fairlead knows no parent of kind '{ref.kind}' in the group '{ref.group}'"
        report.warning("UnsupportedKind", "spec.parentRef", message, "name a Gateway")
    check_listeners(listener_set.spec.listeners, report)
