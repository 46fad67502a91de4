"""The ExternalAuth filter: the fields of its protocol, and what would be asked or taken amiss."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.external_auth import is_its_own
from mesh.kinds.http_filters import HTTPExternalAuthFilter
from mesh.problems import Report, shown
from mesh.validations.backends import check_backend

_ESCAPED = ("%2e", "%2f", "%5c", "%00")


def check_external_auth(auth: HTTPExternalAuthFilter, path: str, report: Report) -> None:
    """Judge the filter at its path."""
    check_backend(auth.backend_ref, f"{path}.backendRef", report)
    for protocol, wire, given in (("GRPC", "grpc", auth.grpc), ("HTTP", "http", auth.http)):
        if given is None and auth.protocol == protocol:
            message = f"protocol {protocol} needs the field `{wire}`"
            report.error("MissingField", f"{path}.{wire}", message, f"add `{wire}: {{}}`")
        elif given is not None and auth.protocol != protocol:
            message = f"`{wire}` does not belong to protocol {auth.protocol}"
            report.error("NotAllowed", f"{path}.{wire}", message, f"remove it, or write `protocol: {protocol}`")
    if auth.grpc is not None:
        _check_names(auth.grpc.allowed_headers, f"{path}.grpc.allowedHeaders", report)
    if auth.http is not None:
        _check_path(auth.http.path, f"{path}.http.path", report)
        _check_names(auth.http.allowed_headers, f"{path}.http.allowedHeaders", report)
        at = f"{path}.http.allowedResponseHeaders"
        _check_names(auth.http.allowed_response_headers, at, report)
        for number, name in enumerate(auth.http.allowed_response_headers):
            if is_its_own(name):
                message = f"'{shown(name)}' says something of the authorizer's own answer and never reaches the backend"
                report.warning("NoEffect", f"{at}[{number}]", message, "remove it")
    if auth.forward_body is not None and not auth.forward_body.max_size:
        message = "without `maxSize` the body is not sent"
        report.warning("NoEffect", f"{path}.forwardBody", message, "add `maxSize`, or remove `forwardBody`")


def _check_path(text: str, path: str, report: Report) -> None:
    if not text:
        return
    if not text.startswith("/"):
        report.error("InvalidPath", path, "the path does not start with /", f"write `/{shown(text)}`")
    elif any(segment in (".", "..") for segment in text.split("/")) or any(one in text.lower() for one in _ESCAPED):
        message = "the path has segments of dots, or escapes that could become some"
        report.error("InvalidPath", path, message, "write the path that is meant")


def _check_names(names: Iterable[str], path: str, report: Report) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name.lower() in seen:
            report.error("Duplicate", f"{path}[{number}]", f"'{shown(name)}' is there twice", "keep one of them")
        seen.add(name.lower())
