"""What policies say of routes and of the backends that they name, as clusters and routes ask for it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mesh.backends import Backend
from mesh.kinds.duration import milliseconds
from mesh.kinds.telemetrypolicy import TelemetrySettings
from mesh.kinds.trafficpolicy import TrafficSettings
from mesh.model import ObjectKey
from mesh.policies import ROUTE_RULES, TRAFFIC, BackendKey, Effective
from mesh.tables import Reader
from mesh.telemetry_policies import ROUTE_TELEMETRY


def traffic_settings(look: Reader, backend: Backend) -> TrafficSettings | None:
    """What TrafficPolicies say of a backend; None where they say nothing."""
    row = look(TRAFFIC, BackendKey(backend.service, backend.subset, backend.outside))
    effective = row.of_port(backend.port) if row is not None else None
    settings: TrafficSettings | None = effective.settings if effective is not None else None
    if settings is not None and backend.route_retry:
        return msgspec.structs.replace(settings, retry=None)
    return settings


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


def request_timeout(look: Reader, backends: Iterable[Backend]) -> int | None:
    """Milliseconds that an answer of any of these backends may take, 0 for no limit; None where no policy says.

    Envoy knows it of a route, not of a cluster: of several backends the most patient one counts.
    """
    return _most_patient(look, backends, "request")


def try_timeout(look: Reader, backends: Iterable[Backend]) -> int | None:
    """The same of one try: Envoy reads it nowhere but in a route's retries, whatever a cluster's say."""
    return _most_patient(look, backends, "per_try")


def _most_patient(look: Reader, backends: Iterable[Backend], name: str) -> int | None:
    limits = []
    for backend in backends:
        settings = traffic_settings(look, backend)
        timeouts = settings.timeouts if settings is not None else None
        limit = getattr(timeouts, name) if timeouts is not None else None
        if limit is None:
            return None
        limits.append(milliseconds(limit))
    return 0 if 0 in limits else max(limits, default=None)
