"""Destinations outside the catalog: what a `Backend` object is to the routes that name it.

With a dynamic resolver clients choose the destination. That is bounded by the Backend's hostnames, and holds because of
what is asked of the route here: every hostname it answers for must be among them, so that Envoy picks its rules for no
other `Host`, and nothing may put another in its place.
"""

from __future__ import annotations

from mesh.hostnames import covers
from mesh.kinds.backend import Backend
from mesh.kinds.references import GATEWAY_API
from mesh.model import ObjectKey, ServiceKey, ServicePort
from mesh.objects import find
from mesh.request_routes import find_request_route
from mesh.route_rules import ROUTE_RULES
from mesh.routes import find_route, hostnames
from mesh.tables import Reader

PORT = 0
"""What stands for the port of a Backend, whose endpoints have each their own."""


def find_outside(look: Reader, at: ServiceKey) -> Backend | None:
    """The Backend object of that namespace and name."""
    return find(look, Backend, ObjectKey(Backend.__name__, at.namespace, at.name))


def outside_port(look: Reader, at: ServiceKey) -> ServicePort | None:
    """What a Backend speaks, as the port of a service that would be in its place; None where there is none."""
    found = find_outside(look, at)
    return ServicePort("", PORT, found.spec.protocol) if found is not None else None


def why_unbounded(look: Reader, route: ObjectKey, backend: Backend) -> str:
    """Why a route may not use a dynamic resolver, as a sentence; empty where it may, or there is no such resolver."""
    resolver = backend.spec.dynamic_resolver
    if resolver is None:
        return ""
    name = f"Backend {backend.metadata.namespace}/{backend.metadata.name}"
    found, requests = find_route(look, route), find_request_route(look, route)
    if found is None or requests is None:
        return f"{name} resolves the Host of HTTP requests, which a {route.kind} does not have."
    if any(ref.group != GATEWAY_API for ref in found.spec.parent_refs):
        return f"{name} resolves dynamically, which is for routes of Gateways only."
    rewritten = [
        each.url_rewrite.hostname
        for rule in requests.rules
        for each in (*rule.filters, *(each for ref in rule.backend_refs for each in ref.filters))
        if each.url_rewrite is not None and each.url_rewrite.hostname is not None
    ]
    allowed = ", ".join(resolver.hostnames)
    for host in (*(hostnames(found) or ("*",)), *rewritten):
        if not any(covers(pattern, host) for pattern in resolver.hostnames):
            how = "name no hostname" if host == "*" else f"have {host}"
            return f"{name} resolves only {allowed}; a route to it cannot {how}."
    rules = look(ROUTE_RULES, route)
    said = [rules.whole, *(one for _, one in rules.rules)] if rules is not None else []
    rewrites = [one.settings.rewrite for one in said if one is not None]
    if any(rewrite is not None and rewrite.host is not None and rewrite.host.by_client for rewrite in rewrites):
        return f"{name} resolves only {allowed}; a RoutePolicy of the route takes the host from the request."
    return ""
