"""What TelemetryPolicies say, on a `HttpConnectionManager` and on routes: access logs, traces, request IDs, metrics.

A collector that is not there is left out, and everything else stands: requests matter more than what is told of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.backends import Backend
from mesh.gateways import GatewayKey
from mesh.kinds.telemetrypolicy import (
    AccessLog,
    AccessLogOnly,
    RequestMetrics,
    TelemetrySettings,
    TraceProvider,
    TraceTag,
    Tracing,
)
from mesh.telemetry_policies import ListenerTelemetry
from xds.schema import message, pack
from xds.schema.types import ApiVersion, StdoutAccessLog
from xds.translate.access_log import FIELDS, add_access_log, set_condition
from xds.translate.names import cluster_name, host_of
from xds.translate.timeouts import set_duration

STATS_PREFIX = "fairlead"
_MILLION = 1_000_000
_TENTH_OF_A_SECOND = 100
_MILLISECONDS = 3
_LONGEST_TAG = 128
_OTHER = "(other)"

_ComparisonFilter = message("envoy.config.accesslog.v3.ComparisonFilter")
_Datadog = message("envoy.config.trace.v3.DatadogConfig")
_File = message("envoy.extensions.access_loggers.file.v3.FileAccessLog")
_HttpGrpc = message("envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig")
_Matcher = message("xds.type.matcher.v3.Matcher")
_OpenTelemetry = message("envoy.config.trace.v3.OpenTelemetryConfig")
_OpenTelemetryLog = message("envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig")
_Stats = message("envoy.extensions.access_loggers.stats.v3.Config")
_TagValue = message("envoy.extensions.matching.common_inputs.stats.v3.StatTagValueInput")
_TransformStat = message("envoy.extensions.matching.actions.transform_stat.v3.TransformStat")
_Zipkin = message("envoy.config.trace.v3.ZipkinConfig")


def set_telemetry(manager: Any, told: ListenerTelemetry, gateway: GatewayKey) -> None:
    """Fill what a gateway's `HttpConnectionManager` tells of its requests."""
    settings = told.settings
    if settings.access_logs is None:
        add_access_log(manager)
    for log, backend in zip(settings.access_logs or (), told.logs, strict=True):
        _add_log(manager, log, backend)
    if settings.metrics is not None:
        _add_metrics(manager, settings.metrics)
    tracing = settings.tracing
    if tracing is not None and tracing.provider is not None and told.traces is not None:
        _set_tracing(manager.tracing, tracing, tracing.provider, told.traces, gateway)
    request_id = settings.request_id
    if request_id is not None:
        if request_id.generate is not None:
            manager.generate_request_id.value = request_id.generate
        manager.preserve_external_request_id = bool(request_id.preserve)
        manager.always_set_request_id_in_response = bool(request_id.in_response)


def set_route_tracing(route: Any, settings: TelemetrySettings | None) -> None:
    """Fill how much of a `Route` is traced, where its own policies say so."""
    tracing = settings.tracing if settings is not None else None
    if tracing is None or tracing.sampling is None:
        return
    for sampling, percent in (("client_sampling", 0.0), ("random_sampling", tracing.sampling)):
        part = getattr(route.tracing, sampling)
        part.numerator = round(percent * _MILLION / 100)
        part.denominator = 2  # MILLION
    _add_tags(route.tracing, tracing.tags or ())


# -- access logs ------------------------------------------------------------------------------------------------------


def _add_log(manager: Any, log: AccessLog, backend: Backend | None) -> None:
    config: Any
    if log.grpc is not None or log.otlp is not None:
        if backend is None:
            return
        name = "http_grpc" if log.grpc is not None else "open_telemetry"
        config = _service(log, backend) if log.grpc is not None else _otlp(log, backend)
    elif log.file is not None:
        name, config = "file", _File()
        config.path = log.file.path
        _set_format(config.log_format, log)
    else:
        name, config = "stdout", StdoutAccessLog()
        _set_format(config.log_format, log)
    added = manager.access_log.add()
    added.name = f"envoy.access_loggers.{name}"
    added.typed_config.CopyFrom(pack(config))
    if log.only is not None:
        _limit(added.filter, log.only)


def _set_format(log_format: Any, log: AccessLog) -> None:
    if log.text is not None:
        log_format.text_format_source.inline_string = log.text if log.text.endswith("\n") else f"{log.text}\n"
        return
    for name, command in sorted((log.json or FIELDS).items()):
        log_format.json_format.fields[name].string_value = command


def _service(log: AccessLog, backend: Backend) -> Any:
    config = _HttpGrpc()
    if log.grpc is not None:
        config.common_config.log_name = log.grpc.log_name
        config.additional_request_headers_to_log.extend(name.lower() for name in log.grpc.request_headers)
    _ask(config.common_config.grpc_service, backend)
    config.common_config.transport_api_version = ApiVersion.V3
    set_duration(config.common_config.buffer_flush_interval, _TENTH_OF_A_SECOND)
    return config


def _otlp(log: AccessLog, backend: Backend) -> Any:
    config = _OpenTelemetryLog()
    _ask(config.grpc_service, backend)
    config.log_name = STATS_PREFIX
    set_duration(config.buffer_flush_interval, _TENTH_OF_A_SECOND)
    if log.text is not None:
        config.body.string_value = log.text
    fields: Mapping[str, str] = log.json or (FIELDS if log.text is None else {})
    for name, command in sorted(fields.items()):
        attribute = config.attributes.values.add()
        attribute.key = name
        attribute.value.string_value = command
    return config


def _ask(service: Any, backend: Backend) -> None:
    service.envoy_grpc.cluster_name = cluster_name(backend)


def _limit(filter_: Any, only: AccessLogOnly) -> None:
    parts: list[Any] = []
    for wanted, field in ((only.min_status, "status_code_filter"), (only.min_duration_ms, "duration_filter")):
        if wanted is not None:
            part = type(filter_)()
            comparison = getattr(part, field).comparison
            comparison.op = _ComparisonFilter.GE
            comparison.value.default_value = wanted
            comparison.value.runtime_key = f"fairlead.access_log.{field}"
            parts.append(part)
    if only.percent is not None:
        part = type(filter_)()
        part.runtime_filter.runtime_key = "fairlead.access_log.percent"
        part.runtime_filter.percent_sampled.numerator = round(only.percent * _MILLION / 100)
        part.runtime_filter.percent_sampled.denominator = 2  # MILLION
        part.runtime_filter.use_independent_randomness = True
        parts.append(part)
    if only.expression is not None:
        part = type(filter_)()
        set_condition(part, only.expression)
        parts.append(part)
    if len(parts) == 1:
        filter_.CopyFrom(parts[0])
    else:
        filter_.and_filter.filters.extend(parts)


def _showable() -> Any:
    """The rule that leaves a tag's value alone if it is plain text of some length, and shows another in its place.

    Values come from clients: one byte that is not UTF-8 would have Prometheus refuse everything that the proxy counts.
    """
    rules = _Matcher()
    rule = rules.matcher_list.matchers.add()
    predicate = rule.predicate.not_matcher.single_predicate
    predicate.input.name = "value"
    predicate.input.typed_config.CopyFrom(pack(_TagValue()))
    predicate.value_match.safe_regex.google_re2.SetInParent()
    predicate.value_match.safe_regex.regex = f"[ -~]{{0,{_LONGEST_TAG}}}"
    rule.on_match.action.name = "other"
    transform = _TransformStat()
    transform.update_tag.new_tag_value = _OTHER
    rule.on_match.action.typed_config.CopyFrom(pack(transform))
    return rules


_SHOWABLE = _showable()


def _add_metrics(manager: Any, metrics: RequestMetrics) -> None:
    """Counted where requests are logged: Envoy keeps no more series than it is allowed."""
    config = _Stats()
    scope = config.stats_scope
    scope.prefix = STATS_PREFIX
    scope.max_counters.value = scope.max_histograms.value = metrics.max_series
    counter = config.counters.add()
    counter.stat.name = "requests"
    counter.value_fixed.value = 1
    histogram = config.histograms.add()
    histogram.stat.name = "request_duration"
    histogram.unit = _MILLISECONDS
    histogram.value_format = "%DURATION%"
    for stat in (counter.stat, histogram.stat):
        for name, value in sorted(metrics.tags.items()):
            tag = stat.tags.add()
            tag.name = name
            tag.value_format = value
            tag.rules.CopyFrom(_SHOWABLE)
    added = manager.access_log.add()
    added.name = "envoy.access_loggers.stats"
    added.typed_config.CopyFrom(pack(config))


# -- traces -----------------------------------------------------------------------------------------------------------


def _set_tracing(
    options: Any, tracing: Tracing, provider: TraceProvider, backend: Backend, gateway: GatewayKey
) -> None:
    options.client_sampling.value = 0  # a stranger's header does not decide how much we trace
    options.random_sampling.value = tracing.sampling if tracing.sampling is not None else 100.0
    options.overall_sampling.value = 100
    options.spawn_upstream_span.value = True
    _add_tags(options, tracing.tags or ())
    cluster, name = cluster_name(backend), provider.service_name or f"{gateway.name}.{gateway.namespace}"
    config: Any
    if provider.otlp is not None:
        options.provider.name, config = "envoy.tracers.opentelemetry", _OpenTelemetry()
        _ask(config.grpc_service, backend)
        config.service_name = name
    elif provider.zipkin is not None:
        options.provider.name, config = "envoy.tracers.zipkin", _Zipkin()
        config.collector_cluster = cluster
        config.collector_endpoint = provider.zipkin.path
        config.collector_endpoint_version = 1  # HTTP_JSON
        config.collector_hostname = host_of(cluster)
        config.trace_id_128bit = True
        config.shared_span_context.value = False
    else:
        options.provider.name, config = "envoy.tracers.datadog", _Datadog()
        config.collector_cluster = cluster
        config.collector_hostname = host_of(cluster)
        config.service_name = name
    options.provider.typed_config.CopyFrom(pack(config))


def _add_tags(options: Any, tags: Iterable[TraceTag]) -> None:
    for tag in tags:
        added = options.custom_tags.add()
        added.tag = tag.name
        if tag.request_header is not None:
            added.request_header.name = tag.request_header.lower()
            added.request_header.default_value = tag.absent
        elif tag.environment is not None:
            added.environment.name = tag.environment
            added.environment.default_value = tag.absent
        else:
            added.literal.value = tag.value or ""
