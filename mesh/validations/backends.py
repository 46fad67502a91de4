"""References to backends, which routes and mirrors share."""

from __future__ import annotations

from mesh.backends import KINDS
from mesh.kinds.references import FAIRLEAD, BackendObjectReference
from mesh.problems import Report


def check_backend(ref: BackendObjectReference, path: str, report: Report) -> None:
    """Of Services a port must be named, of a Backend none can be.

    An unknown kind is no error: Gateway API answers it with 500 and a status.
    """
    if (ref.group, ref.kind) not in KINDS:
        message = f"Fairlead knows no backend of kind '{ref.kind}' in the group '{ref.group}'; requests get 500"
        fix = f"write a Service, or a ServiceSubset or Backend with group `{FAIRLEAD}`"
        report.warning("UnsupportedKind", path, message, fix)
    elif ref.kind == "Backend":
        if ref.port is not None:
            message = "the endpoints of a Backend have each their own port; this one has no effect"
            report.warning("NoEffect", f"{path}.port", message, "remove `port`")
    elif ref.port is None:
        report.error(
            "MissingField", f"{path}.port", f"a {ref.kind} needs a port", "add `port`, one of the Service's ports"
        )
