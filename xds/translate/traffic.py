"""What policies say of routes and of the backends that they name, as clusters and routes ask for it."""

from __future__ import annotations

import msgspec

from mesh.backends import Backend
from mesh.failovers import successors
from mesh.kinds.telemetrypolicy import TelemetrySettings
from mesh.kinds.trafficpolicy import EndpointSelection, TrafficSettings
from mesh.model import ObjectKey
from mesh.policies import Effective
from mesh.route_rules import ROUTE_RULES
from mesh.tables import Reader
from mesh.telemetry_policies import ROUTE_TELEMETRY
from mesh.tries import effective_for
from xds.translate.names import cluster_name


def traffic_settings(look: Reader, backend: Backend) -> TrafficSettings | None:
    """What TrafficPolicies say of a backend; None where they say nothing."""
    effective = effective_for(look, backend)
    settings: TrafficSettings | None = effective.settings if effective is not None else None
    if settings is not None and backend.route_retry:
        return msgspec.structs.replace(settings, retry=None)
    return settings


def endpoint_selection(look: Reader, backend: Backend) -> EndpointSelection | None:
    """How requests choose among the endpoints of a backend; None where they do not."""
    settings = traffic_settings(look, backend) if not backend.outside else None
    balancer = settings.load_balancer if settings is not None else None
    return balancer.endpoint_selection if balancer is not None else None


def with_failover(look: Reader, backend: Backend) -> Backend:
    """A backend with those that take over from it, if any do."""
    found = successors(look, backend)
    return msgspec.structs.replace(backend, failover=tuple(map(cluster_name, found))) if found else backend


def route_policies(look: Reader, route: ObjectKey, rule: str | None) -> Effective | None:
    """What RoutePolicies say of a rule of a route; None where they say nothing."""
    row = look(ROUTE_RULES, route)
    return row.of_rule(rule) if row is not None else None


def traced(look: Reader, route: ObjectKey, rule: str | None) -> TelemetrySettings | None:
    """What TelemetryPolicies for a rule of a route say; None where there are none."""
    row = look(ROUTE_TELEMETRY, route)
    effective = row.of_rule(rule) if row is not None else None
    settings: TelemetrySettings | None = effective.settings if effective is not None else None
    return settings
