"""What TelemetryPolicies say: of a Gateway's listeners, and of how much of a route is traced.

HTTP listeners of one port share a chain and with it what is said of one of them, as with ClientPolicies. A route's word
on sampling is narrower than any Gateway's; it is taken from policies for that very route or rule alone, since of a
namespace's policy nobody could say whether it is narrower than that of a Gateway elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from mesh.backends import Backend
from mesh.client_policies import merged_parts, parts_of
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds.telemetrypolicy import AccessLog, Collector, TelemetryPolicy, TelemetrySettings, TraceProvider
from mesh.model import ObjectKey, ServiceKey
from mesh.objects import OBJECTS, find
from mesh.policies import (
    POLICIES_BY_TARGET,
    Effective,
    Level,
    Target,
    Told,
    layers,
    merge,
    namespace_levels,
)
from mesh.quarantine import quarantined
from mesh.request_routes import each_request_route, find_request_route
from mesh.route_rules import RouteRules
from mesh.services import SERVICES
from mesh.tables import Look, Reader, derived, each

NOTHING = TelemetrySettings()
_LOGS = "accessLogs"
_PROVIDER = "tracing.provider"


class ListenerTelemetry(msgspec.Struct, frozen=True):
    """What a listener tells: the settings, and the backend of each access log and of the traces, None without one."""

    settings: TelemetrySettings = NOTHING
    logs: tuple[Backend | None, ...] = ()
    traces: Backend | None = None

    @property
    def backends(self) -> Iterator[Backend]:
        """All that are asked."""
        return (backend for backend in (*self.logs, self.traces) if backend is not None)


class TelemetryRules(msgspec.Struct, frozen=True):
    """What holds for a Gateway as a whole, for the listeners that differ, and what each tells in the end."""

    whole: Effective | None = None
    differing: tuple[tuple[str, Effective], ...] = ()
    listeners: tuple[tuple[str, ListenerTelemetry], ...] = ()

    def of_listener(self, name: str) -> ListenerTelemetry:
        """What a listener tells."""
        return dict(self.listeners).get(name, SILENT)

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The collectors of all listeners, sorted."""
        return tuple(sorted({backend for _, told in self.listeners for backend in told.backends}))


SILENT = ListenerTelemetry()
NO_TELEMETRY = TelemetryRules()


@derived("telemetry_rules", each(GATEWAYS))
def TELEMETRY_RULES(key: GatewayKey, look: Look) -> TelemetryRules | None:  # noqa: N802
    """The Gateways of which some TelemetryPolicy says something."""
    gateway = look(GATEWAYS, key)
    if gateway is None:
        return None
    policy = TelemetryPolicy.__name__
    target = Target(policy, "Gateway", *key)
    around = [*namespace_levels(look, policy, key.namespace), Level(target)]
    whole = merge(layers(look, around), TelemetrySettings)
    differing: list[tuple[str, Effective]] = []
    listeners: list[tuple[str, ListenerTelemetry]] = []
    levels = parts_of(policy, key, gateway).listeners
    served = sorted(listener.name for listener in gateway.listeners if listener.programmed and listener.http)
    merged = merged_parts(look, around, (levels[name] for name in served), TelemetrySettings)
    for name, own in zip(served, merged, strict=True):
        if own is not None:
            listeners.append((name, _told(look, own)))
        if own is not None and own != whole:
            differing.append((name, own))
    return TelemetryRules(whole, tuple(differing), tuple(listeners)) if listeners else None


def _told(look: Reader, effective: Effective) -> ListenerTelemetry:
    settings = _writable(look, effective)
    said_in = {origin.path: origin.policy.namespace for origin in effective.origins}
    logs = tuple(_resolved(look, said_in.get(_LOGS, ""), collector_of(log)) for log in settings.access_logs or ())
    provider = settings.tracing.provider if settings.tracing is not None else None
    traces = _resolved(look, said_in.get(_PROVIDER, ""), traced_to(provider)) if provider is not None else None
    return ListenerTelemetry(settings, logs, traces)


def _writable(look: Reader, effective: Effective) -> TelemetrySettings:
    """The settings, without log files that an Envoy could not open: it would refuse the listener for them."""
    settings: TelemetrySettings = effective.settings
    if not any(log.file is not None for log in settings.access_logs or ()) or not unwritable(
        look, effective.said_by(_LOGS)
    ):
        return settings
    kept = tuple(log for log in settings.access_logs or () if log.file is None)
    return msgspec.structs.replace(settings, access_logs=kept)


def unwritable(look: Reader, key: ObjectKey) -> str:
    """What an Envoy said of a policy's log files, as a sentence; empty where none refused them."""
    policy = find(look, TelemetryPolicy, key)
    out = quarantined(look, key, policy) if policy is not None else None
    return out.words if out is not None else ""


class Asked(msgspec.Struct, frozen=True):
    """A collector, and whether it is asked by gRPC."""

    collector: Collector
    grpc: bool


def collector_of(log: AccessLog) -> Asked | None:
    """Whom an access log is told to, None where it is written down here."""
    to = log.grpc or log.otlp
    return Asked(to.backend, grpc=True) if to is not None else None


def traced_to(provider: TraceProvider) -> Asked | None:
    """Whom spans are told to."""
    if provider.otlp is not None:
        return Asked(provider.otlp.backend, grpc=True)
    to = provider.zipkin or provider.datadog
    return Asked(to.backend, grpc=False) if to is not None else None


def _resolved(look: Reader, namespace: str, asked: Asked | None) -> Backend | None:
    if asked is None or why_missing(look, namespace, asked.collector):
        return None
    return Backend(ServiceKey(namespace, asked.collector.name), asked.collector.port, http2=asked.grpc)


def why_missing(look: Reader, namespace: str, collector: Collector) -> str:
    """Why a collector cannot be asked, as a sentence; empty where it can."""
    service = look(SERVICES, ServiceKey(namespace, collector.name))
    if service is None:
        return f"Service {namespace}/{collector.name} does not exist."
    port = service.port(collector.port, udp=False)
    if port is None:
        known = ", ".join(str(one.port) for one in service.ports if not one.udp) or "none"
        return f"Service {namespace}/{collector.name} has no port {collector.port}; it has: {known}."
    return ""


def missing_collectors(look: Reader, key: ObjectKey) -> Iterator[str]:
    """What a policy wants told to collectors that are not there, each in a sentence."""
    policy = find(look, TelemetryPolicy, key)
    for settings in (policy.spec, policy.spec.overrides) if policy is not None else ():
        asked = [collector_of(log) for log in (settings.access_logs or ())] if settings is not None else []
        if settings is not None and settings.tracing is not None and settings.tracing.provider is not None:
            asked.append(traced_to(settings.tracing.provider))
        for each_one in asked:
            if each_one is not None and (why := why_missing(look, key.namespace, each_one.collector)):
                yield f"Nothing is told to a collector: {why}"


@derived("route_telemetry", each(OBJECTS, each_request_route))
def ROUTE_TELEMETRY(key: ObjectKey, look: Look) -> RouteRules | None:  # noqa: N802
    """The routes of which some TelemetryPolicy says something itself."""
    target = Target(TelemetryPolicy.__name__, key.kind, key.namespace, key.name)
    route = find_request_route(look, key) if look.keys(POLICIES_BY_TARGET, target) else None
    if route is None:
        return None
    whole = merge(layers(look, [Level(target)]), TelemetrySettings)
    named = sorted({rule.name for rule in route.rules if rule.name is not None})
    of_rules = (
        (name, merge(layers(look, [Level(target), Level(target, frozenset({name}))]), TelemetrySettings))
        for name in named
    )
    rules = tuple((name, effective) for name, effective in of_rules if effective is not None and effective != whole)
    return RouteRules(whole, rules) if whole is not None or rules else None


def effective_telemetry(
    gateways: Iterable[tuple[GatewayKey, TelemetryRules]], routes: Iterable[tuple[ObjectKey, RouteRules]]
) -> Iterator[Told]:
    """What holds for each Gateway and route that a policy reaches, and for its parts that differ, sorted."""
    policy = TelemetryPolicy.__name__
    for at, rules in sorted(gateways, key=lambda item: item[0]):
        parts = [("", rules.whole)] if rules.whole is not None else []
        for section, effective in [*parts, *rules.differing]:
            yield Told(policy, "Gateway", at.namespace, at.name, section, effective)
    for key, row in sorted(routes, key=lambda item: item[0]):
        parts = [("", row.whole)] if row.whole is not None else []
        for section, effective in [*parts, *row.rules]:
            yield Told(policy, key.kind, key.namespace, key.name, section, effective)
