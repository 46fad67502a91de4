"""TelemetryPolicy: nonsense is refused with its path and the way out."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate

GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}
ROUTE = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": "reviews"}
TO = {"backend": {"name": "otel", "port": 4317}}


def errors(**spec: Any) -> list[str]:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "TelemetryPolicy",
        "metadata": {"name": "x"},
        "spec": {"targetRefs": [GATEWAY], **spec},
    }
    problems = [problem for problem in validate(raw).problems if problem.level == "error"]
    assert all(problem.fix for problem in problems)
    return [f"{problem.code} {problem.path}" for problem in problems]


def log(**spec: Any) -> dict[str, Any]:
    return {"accessLogs": [spec]}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"targetRefs": [{"kind": "Service", "name": "x"}]}, "UnsupportedKind spec.targetRefs[0]"),
        (log(), "InvalidCombination spec.accessLogs[0]"),
        (log(stdout=True, otlp=TO), "InvalidCombination spec.accessLogs[0]"),
        (log(stdout=True, text="a", json={"a": "b"}), "InvalidCombination spec.accessLogs[0].text"),
        (log(stdout=True, text="%NONSENSE%"), "UnknownValue spec.accessLogs[0].text"),
        (log(stdout=True, json={"a": "50%"}), "InvalidFormat spec.accessLogs[0].json.a"),
        (log(stdout=True, json={}), "TooFew spec.accessLogs[0].json"),
        (log(stdout=True, only={}), "MissingField spec.accessLogs[0].only"),
        (log(stdout=True, only={"minStatus": 600}), "OutOfRange spec.accessLogs[0].only.minStatus"),
        (log(stdout=True, only={"percent": 101}), "OutOfRange spec.accessLogs[0].only.percent"),
        (log(stdout=True, only={"expression": "response.cod > 1"}), "InvalidFormat spec.accessLogs[0].only.expression"),
        (log(stdout=True, only={"expression": ""}), "TooShort spec.accessLogs[0].only.expression"),
        (log(file={"path": "edge.log"}), "InvalidFormat spec.accessLogs[0].file.path"),
        (log(grpc=TO, text="a"), "NotAllowed spec.accessLogs[0].text"),
        (log(otlp={}), "MissingField spec.accessLogs[0].otlp.backend"),
        (log(otlp={"backend": {"name": "x", "port": 0}}), "OutOfRange spec.accessLogs[0].otlp.backend.port"),
        ({"accessLogs": [{"stdout": True}] * 9}, "TooMany spec.accessLogs"),
        ({"tracing": {"provider": {}}}, "InvalidCombination spec.tracing.provider"),
        ({"tracing": {"provider": {"otlp": TO, "zipkin": TO}}}, "InvalidCombination spec.tracing.provider"),
        (
            {"tracing": {"provider": {"zipkin": {**TO, "path": "spans"}}}},
            "InvalidFormat spec.tracing.provider.zipkin.path",
        ),
        ({"tracing": {"sampling": -1}}, "OutOfRange spec.tracing.sampling"),
        (
            {"tracing": {"tags": [{"name": "a", "requestHeader": "x-a", "environment": "A"}]}},
            "InvalidCombination spec.tracing.tags[0]",
        ),
        (
            {"tracing": {"tags": [{"name": "a", "environment": "A=B"}]}},
            "InvalidFormat spec.tracing.tags[0].environment",
        ),
        ({"tracing": {"tags": [{"name": "a"}]}}, "InvalidCombination spec.tracing.tags[0]"),
        (
            {"tracing": {"tags": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}},
            "Duplicate spec.tracing.tags[1].name",
        ),
        ({"metrics": {}}, "MissingField spec.metrics.tags"),
        ({"metrics": {"tags": {"A-b": "x"}}}, "InvalidFormat spec.metrics.tags.A-b"),
        ({"metrics": {"tags": {"le": "%REQ(x-tenant)%"}}}, "NotAllowed spec.metrics.tags.le"),
        ({"metrics": {"tags": {"a": "%WHAT%"}}}, "UnknownValue spec.metrics.tags.a"),
        ({"metrics": {"tags": {"a": "x"}, "maxSeries": 0}}, "OutOfRange spec.metrics.maxSeries"),
        ({"targetRefs": [ROUTE], **log(stdout=True)}, "NotAllowed spec.accessLogs"),
        ({"targetRefs": [ROUTE], "requestId": {"preserve": True}}, "NotAllowed spec.requestId"),
        ({"targetRefs": [ROUTE], "tracing": {"provider": {"otlp": TO}}}, "NotAllowed spec.tracing.provider"),
        (
            {"targetRefs": [ROUTE], "tracing": {"tags": [{"name": "a", "value": "1"}]}},
            "MissingField spec.tracing.sampling",
        ),
    ],
)
def test_nonsense_is_refused_with_its_path(spec: dict[str, Any], problem: str) -> None:
    assert problem in errors(**spec)


def test_what_is_known_when_a_request_is_over_can_be_logged() -> None:
    assert errors(**log(stdout=True, text="%DURATION% %BYTES_SENT% %TRACE_ID%")) == []
