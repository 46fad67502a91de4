"""What TelemetryPolicies have a gateway tell: a real Envoy, real collectors, and what they were told."""

from __future__ import annotations

import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.collector import Collector
from tests.support.routing import Server, backend_server, document, gateway, get, route, service, serving, wait_until
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

EDGE = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
RULE = "\n  - name: plain\n    backendRefs: [{name: echo, port: 80}]"


def policy(name: str = "telemetry", target: dict[str, str] | None = None, **spec: Any) -> str:
    return document("TelemetryPolicy", name, {"targetRefs": [target or EDGE], **spec})


def collector_service(port: int, protocol: str = "GRPC") -> str:
    return service("collector", port, protocol=protocol)


def to(port: int = 80) -> dict[str, Any]:
    return {"backend": {"name": "collector", "port": port}}


@pytest.mark.shows(
    "TelemetryPolicy.accessLogs",
    "file.path",
    "text",
    "json",
    "only.minStatus",
    "only.percent",
    "only.minDurationMs",
    "only.expression",
)
@pytest.mark.shows("TelemetryPolicy.targetRefs", "group", "kind", "name")
def test_access_logs_are_written_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    port, files = free_port(), [tmp_path / f"{name}.log" for name in ("all", "bad", "none", "slow", "own", "chosen")]
    chosen = "request.headers['x-team'] == 'red' && !request.path.startsWith('/health')"
    logs = [
        {"file": {"path": str(files[0])}, "text": "%REQ(:PATH)% %RESPONSE_CODE% %ROUTE_NAME%"},
        {"file": {"path": str(files[1])}, "json": {"path": "%REQ(:PATH)%"}, "only": {"minStatus": 500}},
        {"file": {"path": str(files[2])}, "only": {"percent": 0}},
        {"file": {"path": str(files[3])}, "only": {"minDurationMs": 3_600_000}},
        {"file": {"path": str(files[4])}},
        {"file": {"path": str(files[5])}, "text": "%REQ(:PATH)%", "only": {"expression": chosen}},
    ]
    text = gateway(port) + service("echo", backend.server_port) + route(RULE)
    with serving(text + policy(accessLogs=logs), tmp_path):
        assert get(port, "/a")[0] == 200
        assert get(port, "/fail/503/always")[0] == 503
        assert get(port, "/health", x_team="red")[0] == get(port, "/b", x_team="red")[0] == 200
        wait_until(lambda: files[4].read_text().count("\n") == 4)
    lines = [path.read_text().splitlines() for path in files]
    name = "HTTPRoute/default/route/plain/0"
    assert lines[0][:2] == [f"/a 200 {name}", f"/fail/503/always 503 {name}"]
    assert lines[5] == ["/b"]
    assert [json.loads(line) for line in lines[1]] == [{"path": "/fail/503/always"}]
    assert lines[2] == lines[3] == []
    assert json.loads(lines[4][0])["route"] == name


@pytest.mark.shows("TelemetryPolicy.accessLogs.grpc", "backend.name", "backend.port", "requestHeaders")
@pytest.mark.shows("TelemetryPolicy.accessLogs.otlp.backend", "name", "port")
def test_access_logs_go_to_envoys_own_service_and_to_opentelemetry(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    with Collector() as collector:
        logs = [
            {"grpc": {**to(), "logName": "edge", "requestHeaders": ["X-Team"]}},
            {"otlp": to(), "text": "asked for %REQ(:PATH)%", "json": {"status": "%RESPONSE_CODE%"}},
        ]
        text = gateway(port) + service("echo", backend.server_port) + route(RULE) + collector_service(collector.port)
        with serving(text + policy(accessLogs=logs), tmp_path):
            assert get(port, "/told", x_team="red")[0] == 200
            wait_until(lambda: bool(collector.entries and collector.logs))
    [entry], [record] = collector.entries, collector.logs
    assert (entry.request.path, entry.request.request_headers["x-team"]) == ("/told", "red")
    assert (record.body, record.attributes["status"]) == ("asked for /told", "200")


def test_a_collector_that_is_not_there_stops_nobody(tmp_path: Path, backend: Server) -> None:
    port, file = free_port(), tmp_path / "all.log"
    logs = [{"otlp": {"backend": {"name": "gone", "port": 1}}}, {"file": {"path": str(file)}, "text": "%PROTOCOL%"}]
    text = gateway(port) + service("echo", backend.server_port) + route(RULE)
    spec = {"accessLogs": logs, "tracing": {"provider": {"otlp": {"backend": {"name": "gone", "port": 1}}}}}
    with serving(text + policy(**spec), tmp_path):
        assert get(port, "/")[0] == 200
        wait_until(lambda: file.read_text() == "HTTP/1.1\n")


@pytest.mark.shows(
    "TelemetryPolicy.tracing",
    "provider.otlp.backend.name",
    "provider.otlp.backend.port",
    "sampling",
    "tags.name",
    "tags.value",
    "tags.requestHeader",
    "tags.environment",
    "tags.absent",
)
@pytest.mark.shows("TelemetryPolicy.targetRefs", "sectionName")
def test_a_share_of_the_requests_is_traced_and_routes_have_shares_of_their_own(
    tmp_path: Path, backend: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_TEST_POD", "edge-1")
    port = free_port()
    rules = "".join(
        f"\n  - name: {name}\n    matches: [{{path: {{value: /{name}}}}}]\n    backendRefs: [{{name: echo, port: 80}}]"
        for name in ("some", "all", "none")
    )
    with Collector() as collector:
        provider = {"otlp": to(), "serviceName": "shop"}
        tags = [{"name": "team", "requestHeader": "X-Team", "absent": "nobody"}, {"name": "region", "value": "eu"}]
        tags += [{"name": name, "environment": name, "absent": "none"} for name in ("FAIRLEAD_TEST_POD", "NOT_SET")]
        text = gateway(port) + service("echo", backend.server_port) + route(rules) + collector_service(collector.port)
        text += policy(tracing={"provider": provider, "sampling": 30, "tags": tags})
        own = {"sampling": 100, "tags": [{"name": "rule", "value": "all"}]}
        text += policy("all", {**ROUTE, "sectionName": "all"}, tracing=own)
        text += policy("none", {**ROUTE, "sectionName": "none"}, tracing={"sampling": 0})

        def came(path: str) -> list[dict[str, str]]:
            found = [span.attributes for span in list(collector.spans) if span.server]
            return [each for each in found if each["http.url"].endswith(path)]

        with serving(text, tmp_path), ThreadPoolExecutor(8) as pool:
            for path in ["/none"] * 20 + ["/some"] * 600:
                pool.submit(get, port, path, x_client_trace_id="forced")
            pool.shutdown(wait=True)
            assert [get(port, "/all", x_team="red")[0] for _ in range(10)] == [200] * 10
            wait_until(lambda: len(came("/all")) == 10)
        assert came("/none") == []
        assert abs(len(came("/some")) - 180) < 5 * (600 * 0.3 * 0.7) ** 0.5
        assert (came("/all")[0]["rule"], came("/all")[0]["team"]) == ("all", "red")
        assert (came("/some")[0]["team"], came("/some")[0]["region"]) == ("nobody", "eu")
        assert (came("/some")[0]["FAIRLEAD_TEST_POD"], came("/some")[0]["NOT_SET"]) == ("edge-1", "none")
    assert all("traceparent" in request["headers"] for request in backend.seen if request["path"] == "/all")


@pytest.mark.parametrize(("kind", "path"), [("zipkin", "/spans"), ("datadog", "/v0.4/traces")])
@pytest.mark.shows(
    "TelemetryPolicy.tracing.provider",
    "zipkin.backend.name",
    "zipkin.backend.port",
    "zipkin.path",
    "datadog.backend.name",
    "datadog.backend.port",
)
def test_spans_go_to_zipkin_and_datadog(tmp_path: Path, backend: Server, kind: str, path: str) -> None:
    port = free_port()
    with backend_server("collector") as collector:
        provider = {kind: {**to(), **({"path": "/spans"} if kind == "zipkin" else {})}}
        text = gateway(port) + service("echo", backend.server_port) + route(RULE)
        text += collector_service(collector.server_port, "HTTP") + policy(tracing={"provider": provider})
        with serving(text, tmp_path):
            assert [get(port, "/")[0] for _ in range(10)] == [200] * 10
            wait_until(lambda: any(request["path"] == path for request in collector.seen))
        header = {"zipkin": "x-b3-traceid", "datadog": "x-datadog-trace-id"}[kind]
        assert all(header in request["headers"] for request in backend.seen)


@pytest.mark.shows("TelemetryPolicy.requestId", "generate", "preserve", "inResponse")
def test_request_ids_are_kept_made_and_told_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(RULE)

    def seen() -> tuple[str, str]:
        _, headers, echoed = get(port, "/", x_request_id="mine")
        return echoed["headers"].get("x-request-id", ""), headers.get("x-request-id", "")

    with serving(text, tmp_path):
        assert seen()[0] not in ("", "mine")
        assert seen()[1] == ""
    with serving(text + policy(requestId={"preserve": True, "inResponse": True}), tmp_path):
        assert seen() == ("mine", "mine")
    with serving(text + policy(requestId={"generate": False}), tmp_path):
        assert "x-request-id" not in get(port, "/")[2]["headers"]


def test_values_that_a_client_makes_up_neither_grow_nor_spoil_what_is_counted(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(RULE)
    text += policy(metrics={"tags": {"tenant": "%REQ(x-tenant)%"}})
    sent = ["a", 'b"c\\', "\xe9", "long" * 33, "l" * 128]

    def counted() -> dict[str, float]:
        shown = urllib.request.urlopen(f"http://{(tmp_path / 'admin').read_text()}/stats/prometheus").read().decode()
        families = text_string_to_metric_families(shown)
        found = [
            sample for one in families for sample in one.samples if sample.name.startswith("envoy_fairlead_requests")
        ]
        return {sample.labels["tenant"]: sample.value for sample in found}

    with serving(text, tmp_path):
        for tenant in sent:
            assert get(port, "/", x_tenant=tenant)[0] == 200
        wait_until(lambda: sum(counted().values()) == len(sent))
        assert counted() == {"a": 1, 'b"c\\': 1, "(other)": 2, "l" * 128: 1}


@pytest.mark.shows("TelemetryPolicy.metrics", "tags", "maxSeries")
def test_requests_are_counted_by_tags_of_ones_own_and_by_no_more_than_allowed(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(RULE)
    text += policy(metrics={"tags": {"tenant": "%REQ(x-tenant)%"}, "maxSeries": 3})

    def counted() -> dict[str, int]:
        admin = (tmp_path / "admin").read_text()
        shown = urllib.request.urlopen(f"http://{admin}/stats/prometheus").read().decode()
        found = re.findall(r'^envoy_fairlead_requests\{.*tenant="([^"]*)".*\} (\d+)$', shown, re.MULTILINE)
        assert "envoy_fairlead_request_duration_bucket" in shown
        return {tenant: int(count) for tenant, count in found}

    with serving(text, tmp_path):
        for tenant in ("a", "a", "b", "c", "d", "e", "a"):
            assert get(port, "/", x_tenant=tenant)[0] == 200
        wait_until(lambda: counted().get("a") == 3)
        assert counted() == {"a": 3, "b": 1, "c": 1}
