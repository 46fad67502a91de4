"""TelemetryPolicy: what Envoy would refuse or what cannot work, said with the path and the way out."""

from __future__ import annotations

from types import MappingProxyType

from mesh.kinds.policy import PolicyTargetReference
from mesh.kinds.telemetrypolicy import (
    AccessLog,
    AccessLogOnly,
    TelemetryPolicy,
    TelemetrySettings,
    TraceProvider,
    Tracing,
)
from mesh.problems import Report
from mesh.validations.cel import check_condition
from mesh.validations.formats import check_format
from mesh.validations.policy import Targets, check_both, check_targets

_GATEWAY_API = "gateway.networking.k8s.io"
TARGETS: Targets = MappingProxyType(
    {
        (_GATEWAY_API, "Gateway"): True,
        (_GATEWAY_API, "ListenerSet"): True,
        (_GATEWAY_API, "HTTPRoute"): True,
        (_GATEWAY_API, "GRPCRoute"): True,
        ("", "Namespace"): False,
    }
)
_OF_GATEWAYS = ("access_logs", "request_id", "metrics")
_WRITTEN = {"access_logs": "accessLogs", "request_id": "requestId", "metrics": "metrics"}
_OF_PROMETHEUS = frozenset({"le", "quantile"})  # of histograms and summaries


def check_telemetrypolicy(policy: TelemetryPolicy, report: Report) -> None:
    """Judge a TelemetryPolicy."""
    spec = policy.spec
    check_targets(spec.target_refs, TARGETS, policy.metadata, report)
    check_both(spec, TelemetrySettings, _check_settings, report, example="accessLogs")
    if any(_is_route(ref) for ref in spec.target_refs):
        _check_for_route(spec, "spec", report)
        if spec.overrides is not None:
            _check_for_route(spec.overrides, "spec.overrides", report)


def _is_route(ref: PolicyTargetReference) -> bool:
    return ref.group == _GATEWAY_API and ref.kind in ("HTTPRoute", "GRPCRoute")


def _check_for_route(settings: TelemetrySettings, path: str, report: Report) -> None:
    fix = "remove it, or put it into a policy for the Gateway"
    for name in _OF_GATEWAYS:
        if getattr(settings, name) is not None:
            report.error("NotAllowed", f"{path}.{_WRITTEN[name]}", "Envoy knows it of gateways, not of routes", fix)
    tracing = settings.tracing
    if tracing is not None and tracing.provider is not None:
        report.error("NotAllowed", f"{path}.tracing.provider", "Envoy knows it of gateways, not of routes", fix)
    if tracing is not None and tracing.tags and tracing.sampling is None:
        message = "a route that adds tags says itself how much of it is traced"
        report.error("MissingField", f"{path}.tracing.sampling", message, "add `sampling`, in percent")


def _check_settings(settings: TelemetrySettings, path: str, report: Report) -> None:
    for number, log in enumerate(settings.access_logs or ()):
        _check_log(log, f"{path}.accessLogs[{number}]", report)
    if settings.tracing is not None:
        _check_tracing(settings.tracing, f"{path}.tracing", report)
    if settings.metrics is not None:
        if not settings.metrics.tags:
            message = "without tags the metrics of Envoy itself say the same"
            report.error("MissingField", f"{path}.metrics.tags", message, 'add one, as `tenant: "%REQ(x-tenant)%"`')
        for name, value in settings.metrics.tags.items():
            if name in _OF_PROMETHEUS:
                message = "Prometheus has a label of that name of its own, and would refuse all that the proxy counts"
                report.error("NotAllowed", f"{path}.metrics.tags.{name}", message, "give it another name")
            check_format(value, f"{path}.metrics.tags.{name}", report, logs=True)


def _check_log(log: AccessLog, path: str, report: Report) -> None:
    given = [log.stdout or None, log.file, log.grpc, log.otlp]
    if len([value for value in given if value is not None]) != 1:
        message = "an access log has exactly one of stdout, file, grpc and otlp"
        report.error("InvalidCombination", path, message, "write one item for each place")
    if log.text is not None and log.json is not None and log.otlp is None:
        report.error("InvalidCombination", f"{path}.text", "it is either text or json", "remove one of the two")
    if log.grpc is not None and (log.text is not None or log.json is not None):
        at = f"{path}.{'text' if log.text is not None else 'json'}"
        message = "Envoy's own service is told everything in fields of its own"
        report.error("NotAllowed", at, message, "remove it; more headers go along by `grpc.requestHeaders`")
    if log.file is not None and not log.file.path.startswith("/"):
        message = "Envoy would look for it from wherever it is started"
        report.error("InvalidFormat", f"{path}.file.path", message, "write the whole path, from `/`")
    if log.text is not None:
        check_format(log.text, f"{path}.text", report, logs=True)
    for name, value in (log.json or {}).items():
        check_format(value, f"{path}.json.{name}", report, logs=True)
    if log.only == AccessLogOnly():
        report.error("MissingField", f"{path}.only", "it limits nothing", "add `minStatus`, as `minStatus: 500`")
    if log.only is not None and log.only.expression is not None:
        check_condition(log.only.expression, f"{path}.only.expression", report)


def _check_tracing(tracing: Tracing, path: str, report: Report) -> None:
    if tracing.provider is not None:
        _check_provider(tracing.provider, f"{path}.provider", report)
    seen: set[str] = set()
    for number, tag in enumerate(tracing.tags or ()):
        at = f"{path}.tags[{number}]"
        if [tag.value, tag.request_header, tag.environment].count(None) != 2:
            message = "a tag has exactly one of value, requestHeader and environment"
            report.error("InvalidCombination", at, message, "write one of them")
        if tag.name in seen:
            report.error("Duplicate", f"{at}.name", "the same tag is there twice", "remove one")
        seen.add(tag.name)


def _check_provider(provider: TraceProvider, path: str, report: Report) -> None:
    given = [provider.otlp, provider.zipkin, provider.datadog]
    if len([value for value in given if value is not None]) != 1:
        message = "spans go to exactly one of otlp, zipkin and datadog"
        report.error("InvalidCombination", path, message, "write one of them")
    if provider.zipkin is not None and not provider.zipkin.path.startswith("/"):
        fix = "write it as in `/api/v2/spans`"
        report.error("InvalidFormat", f"{path}.zipkin.path", "a path begins with '/'", fix)
