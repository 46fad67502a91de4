"""What of a route proxyless gRPC clients cannot do, in words: they have no proxy that would do it for them.

gRPC passes over filters in silence (gRFC A28), so calls that a filter was meant for fail there (`mesh.unsupported`);
other things have no effect. Told with the distribution of the route, once such clients have it.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh import unsupported
from mesh.attachments import ATTACHMENTS
from mesh.kinds.httproute import HTTPRouteRule
from mesh.model import ObjectKey
from mesh.request_routes import find_request_route
from mesh.route_rules import ROUTE_RULES
from mesh.tables import Reader

_FAIL = "calls fail with UNAVAILABLE"


def limits(look: Reader, key: ObjectKey) -> tuple[str, ...]:
    """The sentences for a route that stands before a Service; nothing for any other object."""
    route = find_request_route(look, key)
    attachment = look(ATTACHMENTS, key) if route is not None else None
    if route is None or attachment is None or not attachment.services():
        return ()
    policies = look(ROUTE_RULES, key)
    said: list[str] = []
    for number, rule in enumerate(route.rules):
        said += _of_rule(rule, f"spec.rules[{number}]")
        if policies is not None and policies.of_rule(rule.name) is not None:
            said.append(f"spec.rules[{number}]: RoutePolicies have no effect on proxyless gRPC clients.")
    return tuple(said)


def _of_rule(rule: HTTPRouteRule, path: str) -> Iterator[str]:
    refused = unsupported.of_rule(rule.filters, grpc=True)
    if refused:
        yield f"{path} has {refused}: {_FAIL}."
    for number, ref in enumerate(rule.backend_refs):
        refused = unsupported.of_backend(ref.filters, grpc=True)
        if ref.kind == "Backend":
            refused = "a Backend, which proxyless gRPC clients cannot reach"
        if refused:
            yield f"{path}.backendRefs[{number}] has {refused}: its share of the {_FAIL}."
    if rule.session_persistence is not None:
        yield f"{path}.sessionPersistence has no effect on proxyless gRPC clients."
