"""GRPCRoute: the rules of its CRD (v1.6.3) and regular expressions."""

from __future__ import annotations

import re

from mesh.kinds.grpcroute import GRPCBackendRef, GRPCMethodMatch, GRPCRoute, GRPCRouteMatch, GRPCRouteRule
from mesh.problems import Report, shown
from mesh.request_routes import filters_of
from mesh.validations.backends import check_backend
from mesh.validations.headers import check_unique
from mesh.validations.http_filters import check_filters
from mesh.validations.httproute import (
    check_backend_filter,
    check_request_route,
    check_session_persistence,
    check_values,
)
from mesh.validations.regexes import check_regex

_SERVICE = re.compile(r"\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*", re.IGNORECASE | re.ASCII)
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def check_grpcroute(route: GRPCRoute, report: Report) -> None:
    """Judge a GRPCRoute."""
    check_request_route(route, _check_rule, report)
    if not route.spec.rules:
        message = "the route has no rules, so that nothing is routed by it"
        report.warning("MissingField", "spec.rules", message, "add a rule with `backendRefs`")


def _check_rule(rule: GRPCRouteRule, path: str, report: Report) -> None:
    for number, match in enumerate(rule.matches):
        _check_match(match, f"{path}.matches[{number}]", report)
    check_filters(filters_of(rule.filters), f"{path}.filters", report)
    for number, ref in enumerate(rule.backend_refs):
        _check_grpc_backend(ref, f"{path}.backendRefs[{number}]", report)
    if rule.session_persistence is not None:
        check_session_persistence(rule.session_persistence, f"{path}.sessionPersistence", report)


def _check_match(match: GRPCRouteMatch, path: str, report: Report) -> None:
    if match.method is not None:
        _check_method(match.method, f"{path}.method", report)
    check_values(match.headers, f"{path}.headers", report)
    check_unique(match.headers, f"{path}.headers", report)


def _check_method(method: GRPCMethodMatch, path: str, report: Report) -> None:
    if not method.service and not method.method:
        message = "it names neither a service nor a method"
        report.error("MissingField", path, message, "add `service` or `method`, or leave the match out")
    for wire, value, pattern in (("service", method.service, _SERVICE), ("method", method.method, _METHOD)):
        if not value:
            continue
        if method.type == "RegularExpression":
            check_regex(value, f"{path}.{wire}", report)
        elif not pattern.fullmatch(value):
            message = f"'{shown(value)}' is not the name of a gRPC {wire}"
            fix = (
                "write it as the .proto file has it, as in `shop.v1.Reviews`" if wire == "service" else "write its name"
            )
            report.error("InvalidFormat", f"{path}.{wire}", message, f"{fix}, or `type: RegularExpression`")


def _check_grpc_backend(ref: GRPCBackendRef, path: str, report: Report) -> None:
    check_backend(ref, path, report)
    filters = filters_of(ref.filters)
    check_filters(filters, f"{path}.filters", report)
    for number, one in enumerate(filters):
        check_backend_filter(one, f"{path}.filters[{number}]", report)
