"""TelemetryPolicy of `fairlead.dev/v1alpha1`: what gateways tell of their requests: access logs, traces, metrics.

It is for a Gateway or ListenerSet (or one of its listeners), or a Namespace and with it all Gateways there; in the root
namespace for the mesh. For an HTTPRoute (or a named rule) it says how much of it is traced, and with what tags.
Collectors are Services of the policy's own namespace.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import HeaderName, ObjectName, PortNumber
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import Atomic, TargetRefs

Share = Annotated[float, Meta(ge=0, le=100)]
Format = Annotated[str, Meta(min_length=1, max_length=4096)]
TagName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$(?!\n)",
        description="a name of letters, digits, '_', '.' and '-'",
        examples=["user.team"],
    ),
]
VariableName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)",
        description="a variable's name of letters, digits and '_'",
        examples=["POD_NAME"],
    ),
]
LabelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[a-z][a-z0-9_]*$(?!\n)",
        description="a label's name of small letters, digits and '_'",
        examples=["tenant"],
    ),
]


class Collector(Atomic, frozen=True, kw_only=True):
    """A port of a Service of the policy's namespace; where it is asked by gRPC, HTTP/2 is spoken to it."""

    name: ObjectName
    port: PortNumber


class AccessLogFile(Atomic, frozen=True, kw_only=True):
    """A file on the proxy's machine, opened again on `SIGUSR1` and `POST /reopen_logs`."""

    path: Annotated[str, Meta(min_length=2, max_length=1024)]


class AccessLogService(Atomic, frozen=True, kw_only=True):
    """Envoy's own gRPC service for access logs; `request_headers` go along."""

    backend: Collector
    log_name: Annotated[str, Meta(min_length=1, max_length=256)] = "fairlead"
    request_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=32)] = ()


class AccessLogOTLP(Atomic, frozen=True, kw_only=True):
    """OpenTelemetry's logs over gRPC; the fields of `json` become attributes, `text` the body."""

    backend: Collector


class AccessLogOnly(Atomic, frozen=True, kw_only=True):
    """Which requests are logged: those that satisfy all that is written here; `expression` is one of CEL."""

    min_status: Annotated[int, Meta(ge=100, le=599)] | None = None
    min_duration_ms: Annotated[int, Meta(ge=1, le=3_600_000)] | None = None
    percent: Share | None = None
    expression: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None


class AccessLog(Atomic, frozen=True, kw_only=True):
    """One place where requests are logged: exactly one of `stdout`, `file`, `grpc` and `otlp`.

    `text` or `json` say what is written, with Envoy's commands; without either it is Fairlead's JSON.
    """

    stdout: bool = False
    file: AccessLogFile | None = None
    grpc: AccessLogService | None = None
    otlp: AccessLogOTLP | None = None
    text: Format | None = None
    json: Annotated[dict[TagName, Format], Meta(min_length=1, max_length=64)] | None = None
    only: AccessLogOnly | None = None


class ZipkinCollector(Atomic, frozen=True, kw_only=True):
    """Zipkin's JSON over HTTP, to `path`."""

    backend: Collector
    path: Annotated[str, Meta(min_length=1, max_length=1024)] = "/api/v2/spans"


class OTLPCollector(Atomic, frozen=True, kw_only=True):
    """OpenTelemetry's traces over gRPC."""

    backend: Collector


class DatadogCollector(Atomic, frozen=True, kw_only=True):
    """A Datadog agent, over HTTP."""

    backend: Collector


class TraceProvider(Atomic, frozen=True, kw_only=True):
    """Where spans go, exactly one; `service_name` is who they are of, else `<gateway>.<namespace>`."""

    otlp: OTLPCollector | None = None
    zipkin: ZipkinCollector | None = None
    datadog: DatadogCollector | None = None
    service_name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class TraceTag(Atomic, frozen=True, kw_only=True):
    """A tag of every span: exactly one of a `value`, a `request_header`, and a variable of the proxy's `environment`.

    `absent` is what stands where there is no such header or variable.
    """

    name: TagName
    value: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    request_header: HeaderName | None = None
    environment: VariableName | None = None
    absent: Annotated[str, Meta(max_length=256)] = ""


class Tracing(Spec, frozen=True, kw_only=True):
    """Traces. `sampling`: so many percent of the requests that nobody before us decided about."""

    provider: TraceProvider | None = None
    sampling: Share | None = None
    tags: Annotated[tuple[TraceTag, ...], Meta(max_length=32)] | None = None


class RequestID(Spec, frozen=True, kw_only=True):
    """`X-Request-Id`. `preserve`: a client's own stays. `in_response`: the client is told it."""

    generate: bool | None = None
    preserve: bool | None = None
    in_response: bool | None = None


class RequestMetrics(Atomic, frozen=True, kw_only=True):
    """Requests and their durations counted by tags of your own, whose values are Envoy's commands.

    There are never more than `max_series` combinations of values: one that comes after is not counted. A value is plain
    text of at most 128 characters; any other counts as `(other)`.
    """

    tags: Annotated[dict[LabelName, Format], Meta(min_length=1, max_length=16)] = field(default_factory=dict)
    max_series: Annotated[int, Meta(ge=1, le=100_000)] = 1000


class TelemetrySettings(Spec, frozen=True, kw_only=True):
    """All that a TelemetryPolicy can set."""

    access_logs: Annotated[tuple[AccessLog, ...], Meta(max_length=8)] | None = None
    tracing: Tracing | None = None
    request_id: RequestID | None = None
    metrics: RequestMetrics | None = None


class TelemetryPolicySpec(TelemetrySettings, frozen=True, kw_only=True):
    """What it is for, what holds unless something narrower says otherwise, and what holds whatever it says."""

    target_refs: TargetRefs
    overrides: TelemetrySettings | None = None


class TelemetryPolicy(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` TelemetryPolicy."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["TelemetryPolicy"]
    spec: TelemetryPolicySpec


def writes_files(policy: TelemetryPolicy) -> bool:
    """Whether a policy names files of the proxy's machine, which may not be there."""
    stanzas = [policy.spec, *([policy.spec.overrides] if policy.spec.overrides is not None else [])]
    return any(log.file is not None for one in stanzas for log in one.access_logs or ())
