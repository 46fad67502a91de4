"""The filters of HTTPRoute: one field for each type, what may stand together, and what each may hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mesh.kinds.http_filters import (
    HTTPCORSFilter,
    HTTPPathModifier,
    HTTPRequestMirrorFilter,
    HTTPRequestRedirectFilter,
    HTTPRouteFilter,
    HTTPURLRewriteFilter,
)
from mesh.problems import Report
from mesh.validations.backends import check_backend
from mesh.validations.external_auth import check_external_auth
from mesh.validations.headers import check_control_characters, check_header_filter
from mesh.validations.hostnames import check_hostname

# Which field belongs to which type, as (type, the struct's field, the wire's field).
_FIELDS = (
    ("RequestHeaderModifier", "request_header_modifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "response_header_modifier", "responseHeaderModifier"),
    ("RequestMirror", "request_mirror", "requestMirror"),
    ("RequestRedirect", "request_redirect", "requestRedirect"),
    ("URLRewrite", "url_rewrite", "urlRewrite"),
    ("CORS", "cors", "cors"),
    ("ExternalAuth", "external_auth", "externalAuth"),
    ("ExtensionRef", "extension_ref", "extensionRef"),
)
_REPEATABLE = ("RequestMirror", "ExtensionRef")


def check_filters(filters: Sequence[HTTPRouteFilter], path: str, report: Report) -> None:
    """Judge the filters of a rule or of a backend."""
    for number, one in enumerate(filters):
        _check_filter(one, f"{path}[{number}]", report)
    if len(filters) == 1:
        return
    counts = Counter(one.type for one in filters)
    for kind, count in counts.items():
        if count > 1 and kind not in _REPEATABLE:
            report.error("Duplicate", path, f"there are {count} filters of type {kind}", "put them together into one")
    if counts["RequestRedirect"] and counts["URLRewrite"]:
        message = "RequestRedirect and URLRewrite cannot stand together: a redirected request goes to no backend"
        report.error("NotAllowed", path, message, "remove one of them")


def _check_filter(one: HTTPRouteFilter, path: str, report: Report) -> None:
    for kind, field, wire in _FIELDS:
        given = getattr(one, field) is not None
        if given and kind != one.type:
            message = f"`{wire}` does not belong to a filter of type {one.type}"
            report.error("NotAllowed", f"{path}.{wire}", message, f"remove it, or write `type: {kind}`")
        elif not given and kind == one.type:
            message = f"a filter of type {kind} needs the field `{wire}`"
            report.error("MissingField", f"{path}.{wire}", message, f"add `{wire}`")
    if one.request_header_modifier is not None:
        check_header_filter(one.request_header_modifier, f"{path}.requestHeaderModifier", report)
    if one.response_header_modifier is not None:
        check_header_filter(one.response_header_modifier, f"{path}.responseHeaderModifier", report)
    if one.request_mirror is not None:
        _check_mirror(one.request_mirror, f"{path}.requestMirror", report)
    if one.request_redirect is not None:
        _check_redirect(one.request_redirect, f"{path}.requestRedirect", report)
    if one.url_rewrite is not None:
        _check_rewrite(one.url_rewrite, f"{path}.urlRewrite", report)
    if one.cors is not None:
        _check_cors(one.cors, f"{path}.cors", report)
    if one.external_auth is not None:
        check_external_auth(one.external_auth, f"{path}.externalAuth", report)
    if one.extension_ref is not None:
        message = "Fairlead has no filters of other groups; requests to this rule get 500"
        report.warning("Unsupported", f"{path}.extensionRef", message, "remove the filter")


def _check_mirror(mirror: HTTPRequestMirrorFilter, path: str, report: Report) -> None:
    check_backend(mirror.backend_ref, f"{path}.backendRef", report)
    if mirror.percent is not None and mirror.fraction is not None:
        report.error("NotAllowed", path, "`percent` and `fraction` cannot stand together", "remove one of them")
    if mirror.fraction is not None and mirror.fraction.numerator > mirror.fraction.denominator:
        message = "the numerator is larger than the denominator"
        report.error("OutOfRange", f"{path}.fraction.numerator", message, "mirror at most the whole")


def _check_redirect(redirect: HTTPRequestRedirectFilter, path: str, report: Report) -> None:
    if redirect.hostname is not None:
        check_hostname(redirect.hostname, f"{path}.hostname", report)
    if redirect.path is not None:
        _check_path_modifier(redirect.path, f"{path}.path", report)
    if redirect.scheme is None and redirect.hostname is None and redirect.path is None and redirect.port is None:
        message = "it redirects every request to itself, which loops"
        report.warning("NoEffect", path, message, "add `scheme`, `hostname`, `port` or `path`")


def _check_rewrite(rewrite: HTTPURLRewriteFilter, path: str, report: Report) -> None:
    if rewrite.hostname is not None:
        check_hostname(rewrite.hostname, f"{path}.hostname", report)
    if rewrite.path is not None:
        _check_path_modifier(rewrite.path, f"{path}.path", report)
    if rewrite.hostname is None and rewrite.path is None:
        report.warning("NoEffect", path, "it changes nothing", "add `hostname` or `path`, or remove the filter")


def _check_path_modifier(modifier: HTTPPathModifier, path: str, report: Report) -> None:
    for kind, value, wire in (
        ("ReplaceFullPath", modifier.replace_full_path, "replaceFullPath"),
        ("ReplacePrefixMatch", modifier.replace_prefix_match, "replacePrefixMatch"),
    ):
        if value is None:
            if modifier.type == kind:
                report.error("MissingField", f"{path}.{wire}", f"type {kind} needs `{wire}`", f"add `{wire}`")
            continue
        if modifier.type != kind:
            message = f"`{wire}` does not belong to type {modifier.type}"
            report.error("NotAllowed", f"{path}.{wire}", message, f"remove it, or write `type: {kind}`")
        check_control_characters(value, f"{path}.{wire}", report)
        if value and not value.startswith("/"):
            report.error("InvalidPath", f"{path}.{wire}", "the new path does not start with /", f"write `/{value}`")
        elif any(char in value for char in "?# "):
            message = "the new path contains a space, ? or #"
            report.error("InvalidPath", f"{path}.{wire}", message, "write a path only, percent-encoded")


def _check_cors(cors: HTTPCORSFilter, path: str, report: Report) -> None:
    for wire, entries in (
        ("allowOrigins", cors.allow_origins),
        ("allowMethods", cors.allow_methods),
        ("allowHeaders", cors.allow_headers),
        ("exposeHeaders", cors.expose_headers),
    ):
        if "*" in entries and len(entries) > 1 and wire != "exposeHeaders":
            report.error("NotAllowed", f"{path}.{wire}", "`*` must stand alone", "remove `*`, or everything else")
        if len(set(entries)) < len(entries):
            report.error("Duplicate", f"{path}.{wire}", "an entry is there twice", "keep one of them")
