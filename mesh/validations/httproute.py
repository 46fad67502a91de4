"""HTTPRoute: the rules of its CRD (v1.6.3), regular expressions, and what of it Fairlead does not do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from mesh import unsupported
from mesh.kinds.duration import milliseconds
from mesh.kinds.fields import TOKEN
from mesh.kinds.grpcroute import GRPCHeaderMatch, GRPCRoute
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.kinds.httproute import (
    HTTPBackendRef,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPQueryParamMatch,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    SessionPersistence,
)
from mesh.problems import Report, shown
from mesh.validations.backends import check_backend
from mesh.validations.headers import CONTROL, check_control_characters, check_unique, refuse_framing
from mesh.validations.hostnames import check_hostname
from mesh.validations.http_filters import check_filters
from mesh.validations.parents import check_parents
from mesh.validations.regexes import check_regex

MAX_MATCHES = 128

_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+")
_SESSION_NAME = re.compile(TOKEN)
_FORBIDDEN_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F", "#")


def check_httproute(route: HTTPRoute, report: Report) -> None:
    """Judge an HTTPRoute."""
    check_request_route(route, _check_rule, report)


def check_request_route(
    route: HTTPRoute | GRPCRoute, check_rule: Callable[[Any, str, Report], None], report: Report
) -> None:
    """Judge what routes of requests have in common; `check_rule` judges one rule at its path."""
    spec = route.spec
    check_parents(spec.parent_refs, route.metadata.namespace, report)
    for number, hostname in enumerate(spec.hostnames):
        check_hostname(hostname, f"spec.hostnames[{number}]", report)
    for number, rule in enumerate(spec.rules):
        check_rule(rule, f"spec.rules[{number}]", report)
    _check_rule_names((rule.name for rule in spec.rules), report)
    _check_match_count(sum(len(rule.matches) for rule in spec.rules), report)


def _check_rule_names(names: Iterable[str | None], report: Report) -> None:
    """Judge the names of a route's rules, in order."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name is not None and name in seen:
            report.error(
                "DuplicateName", f"spec.rules[{number}].name", f"'{name}' names two rules", "give each its own name"
            )
        elif name is not None:
            seen.add(name)


def _check_match_count(total: int, report: Report) -> None:
    """Judge how many matches the rules of a route have together."""
    if total > MAX_MATCHES:
        message = f"the rules have {total} matches together, at most {MAX_MATCHES} are allowed"
        report.error("TooMany", "spec.rules", message, "split the route in two")


def _check_rule(rule: HTTPRouteRule, path: str, report: Report) -> None:
    for number, match in enumerate(rule.matches):
        _check_match(match, path, number, report)
    if rule.filters:
        check_filters(rule.filters, f"{path}.filters", report)
        _check_prefix_replacement(rule.filters, f"{path}.filters", rule.matches, report)
        redirects = any(one.request_redirect is not None for one in rule.filters)
        if redirects and rule.backend_refs:
            message = "a rule that redirects sends nothing to backends"
            report.error(
                "NotAllowed", f"{path}.backendRefs", message, "remove `backendRefs`, or the RequestRedirect filter"
            )
    for number, ref in enumerate(rule.backend_refs):
        _check_http_backend(ref, f"{path}.backendRefs[{number}]", rule, report)
    _check_times(rule, path, report)
    if rule.session_persistence is not None:
        check_session_persistence(rule.session_persistence, f"{path}.sessionPersistence", report)


def _check_times(rule: HTTPRouteRule, path: str, report: Report) -> None:
    timeouts = rule.timeouts
    if timeouts is None or timeouts.request is None or timeouts.backend_request is None:
        return
    whole, one = milliseconds(timeouts.request), milliseconds(timeouts.backend_request)
    tries = 1 + rule.retry.repeated if rule.retry is not None else 1
    if 0 < whole < one:
        message = "the timeout of one try is longer than that of the whole request"
        report.error("OutOfRange", f"{path}.timeouts.backendRequest", message, "make it at most `request`")
    elif 0 < whole < tries * one:
        message = (
            f"{tries} tries of {timeouts.backend_request} take {tries * one} ms, and the request ends after "
            f"{timeouts.request}"
        )
        fix = "lower `retry.attempts` or `timeouts.backendRequest`, or raise `timeouts.request`"
        report.warning("InvalidCombination", f"{path}.timeouts.request", message, fix)


def _check_match(match: HTTPRouteMatch, rule: str, number: int, report: Report) -> None:
    if match.path.value != "/":
        _check_path(match.path, rule, number, report)
    if match.headers:
        check_values(match.headers, f"{rule}.matches[{number}].headers", report)
        if len(match.headers) > 1:
            check_unique(match.headers, f"{rule}.matches[{number}].headers", report)
    if match.query_params:
        check_values(match.query_params, f"{rule}.matches[{number}].queryParams", report)
        if len(match.query_params) > 1:
            check_unique(match.query_params, f"{rule}.matches[{number}].queryParams", report, fold=False)


def check_values(
    matches: Iterable[HTTPHeaderMatch | HTTPQueryParamMatch | GRPCHeaderMatch], path: str, report: Report
) -> None:
    """Judge the values that headers or query parameters are matched with."""
    for number, match in enumerate(matches):
        if CONTROL.search(match.value):
            check_control_characters(match.value, f"{path}[{number}].value", report)
        elif match.type == "RegularExpression":
            check_regex(match.value, f"{path}[{number}].value", report)
        elif not isinstance(match, HTTPQueryParamMatch) and match.value != match.value.strip():
            message = "proxies strip the space around a header's value, so that this never matches"
            report.warning("NeverMatches", f"{path}[{number}].value", message, "remove the space")


def _check_path(path: HTTPPathMatch, rule: str, number: int, report: Report) -> None:
    at = f"{rule}.matches[{number}].path.value"
    if path.type == "RegularExpression":
        if CONTROL.search(path.value):
            check_control_characters(path.value, at, report)
        else:
            check_regex(path.value, at, report)
        return
    reason = _path_fault(path.value)
    if reason:
        fix = (
            f"write `/{path.value}`" if _PATH.fullmatch(path.value) and path.value[0] != "/" else "write the plain path"
        )
        report.error("InvalidPath", at, f"'{shown(path.value)}' {reason}", fix)


@lru_cache(maxsize=16_384)
def _path_fault(value: str) -> str:
    if not value.startswith("/"):
        return "does not start with /"
    for part in _FORBIDDEN_IN_PATHS:
        if part in value:
            return f"contains {part}, which no normalized path has"
    if value.endswith(("/..", "/.")):
        return "ends with a dot segment, which no normalized path has"
    if not _PATH.fullmatch(value):
        return "contains characters that a path must percent-encode"
    return ""


def _check_http_backend(ref: HTTPBackendRef, path: str, rule: HTTPRouteRule, report: Report) -> None:
    check_backend(ref, path, report)
    if ref.filters:
        check_filters(ref.filters, f"{path}.filters", report)
        _check_prefix_replacement(ref.filters, f"{path}.filters", rule.matches, report)
        for number, one in enumerate(ref.filters):
            check_backend_filter(one, f"{path}.filters[{number}]", report)


def check_backend_filter(one: HTTPRouteFilter, path: str, report: Report) -> None:
    """Judge whether a filter can be one of a single backend."""
    if unsupported.of_backend((one,)):
        report.error(
            "Unsupported", path, f"Fairlead cannot apply {one.type} to one backend", "move the filter to the rule"
        )


def _check_prefix_replacement(
    filters: Iterable[HTTPRouteFilter], path: str, matches: Sequence[HTTPRouteMatch], report: Report
) -> None:
    if len(matches) == 1 and matches[0].path.type == "PathPrefix":
        return
    for number, one in enumerate(filters):
        changed = one.request_redirect or one.url_rewrite
        if changed is not None and changed.path is not None and changed.path.type == "ReplacePrefixMatch":
            report.error(
                "NotAllowed",
                f"{path}[{number}]",
                "replacing a prefix needs exactly one match, of type PathPrefix, in the rule",
                "give each prefix a rule of its own, or write ReplaceFullPath",
            )


def check_session_persistence(persistence: SessionPersistence, path: str, report: Report) -> None:
    """Judge a rule's `sessionPersistence`."""
    cookie = persistence.cookie_config
    if cookie is not None and persistence.type != "Cookie":
        report.error("NotAllowed", f"{path}.cookieConfig", "only type Cookie has a cookie", "remove `cookieConfig`")
    elif cookie is not None and cookie.lifetime_type == "Permanent" and persistence.absolute_timeout is None:
        message = "a permanent cookie needs an absolute timeout"
        report.error("MissingField", f"{path}.absoluteTimeout", message, "add `absoluteTimeout`")
    name = persistence.session_name
    if name is not None and not _SESSION_NAME.fullmatch(name):
        message = f"'{shown(name)}' can be the name of no cookie or header"
        fix = "write letters, digits and !#$%&'*+-.^_`|~, as in `session`"
        report.error("InvalidFormat", f"{path}.sessionName", message, fix)
    elif name is not None and persistence.type == "Header":
        refuse_framing(name, f"{path}.sessionName", report)
    permanent = cookie is not None and cookie.lifetime_type == "Permanent"
    if persistence.absolute_timeout is not None and not permanent:
        message = "only a permanent cookie ends after a time"
        report.warning("NoEffect", f"{path}.absoluteTimeout", message, "write `lifetimeType: Permanent`, or remove it")
