"""The finer fields of RoutePolicies, TelemetryPolicies and ClientPolicies: what each changes at a real Envoy."""

from __future__ import annotations

import base64
import http.client
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.envoy.test_route_policy import counted, policy, rules
from tests.envoy.test_route_policy import raw as ask
from tests.envoy.test_telemetry import policy as telemetry
from tests.support.collector import Collector
from tests.support.descriptors import CART, cart_base64, cart_server
from tests.support.edge import Edge, answered, raw, status
from tests.support.ext_proc import processor
from tests.support.routing import Server, backend_server, document, gateway, get, route, service, serving, wait_until
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}


@pytest.mark.shows("RoutePolicy.faultInjection", "delay.fromHeader", "headers.value", "maxActive")
def test_delays_are_asked_for_by_header_and_faults_bounded_in_number(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("asked", "valued", "few"))
    text += policy("asked", faultInjection={"delay": {"fromHeader": True}})
    abort = {"abort": {"httpStatus": 418}}
    text += policy("valued", faultInjection={**abort, "headers": [{"name": "x-fault", "value": "yes"}]})
    text += policy("few", faultInjection={"delay": {"fixed": "1h"}, "maxActive": 1})
    with serving(text, tmp_path):
        began = time.monotonic()
        assert get(port, "/", rule="asked", x_envoy_fault_delay_request="300")[0] == 200
        assert get(port, "/", rule="asked", x_envoy_fault_delay_request="3600001")[0] == 200
        assert time.monotonic() - began >= 0.29  # Envoy's timers may go off a little early
        assert [get(port, "/", rule="valued", x_fault=value)[0] for value in ("yes", "no")] == [418, 200]
        held = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        held.request("GET", "/", headers={"host": "a.example.com", "rule": "few"})  # and waits for an hour
        try:
            wait_until(lambda: counted(tmp_path, "fault.active_faults") == 1)
            assert get(port, "/", rule="few")[0] == 200
        finally:
            held.close()


@pytest.mark.shows("RoutePolicy.headers.request", "add.name", "add.value")
@pytest.mark.shows("RoutePolicy", "overrides")
def test_headers_are_added_to_those_that_are_there_and_overrides_of_a_gateway_win(
    tmp_path: Path, backend: Server
) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("added"))
    added = {"request": {"add": [{"name": "x-added", "value": "ours"}]}}
    text += policy("added", headers=added, compression={"algorithms": ["gzip"]})
    for wide, encoding in (({"compression": {"algorithms": ["brotli"]}}, "gzip"), ({}, "br")):
        overriding = {} if wide else {"overrides": {"compression": {"algorithms": ["brotli"]}}}
        more = document("RoutePolicy", "wide", {"targetRefs": [GATEWAY], **wide, **overriding})
        with serving(text + more, tmp_path):
            _, answer, _ = ask(port, "/" + "a" * 200, rule="added", accept_encoding="gzip, br", x_added="theirs")
            assert answer["content-encoding"] == encoding
    assert {request["headers"]["x-added"] for request in backend.seen} <= {"theirs, ours", "theirs,ours", "ours"}
    assert any("ours" in request["headers"]["x-added"] for request in backend.seen)


@pytest.mark.shows("RoutePolicy.sessionAffinity", "cookie.path", "cookie.ttl", "strict")
def test_a_session_has_a_cookie_as_told_and_may_insist_on_its_endpoint(tmp_path: Path) -> None:
    with backend_server("one") as one, backend_server("two") as two:
        port = free_port()
        text = gateway(port) + service("echo", one.server_port, two.server_port) + route(rules("firm", "soft"))
        cookie = {"cookie": {"name": "sticky", "ttl": "1h", "path": "/shop"}}
        text += policy("firm", sessionAffinity={**cookie, "strict": True})
        text += policy("soft", sessionAffinity=cookie)
        gone = base64.b64encode(b"127.0.0.1:1").decode()
        with serving(text, tmp_path):
            given = get(port, "/shop", rule="firm")[1]["set-cookie"]
            assert "Max-Age=3600" in given
            assert "Path=/shop" in given
            assert "set-cookie" not in get(port, "/elsewhere", rule="firm")[1]
            asked = {"cookie": f"sticky={gone}"}
            assert [get(port, "/shop", rule=rule, **asked)[0] for rule in ("firm", "soft")] == [503, 200]


@pytest.mark.shows("RoutePolicy.grpcJSON", "convertStatus", "ignoreUnknownQueryParameters", "printDefaults")
@pytest.mark.shows("RoutePolicy", "grpcWeb")
def test_grpc_is_told_as_json_with_the_details_that_are_wanted(tmp_path: Path) -> None:
    port = free_port()
    with cart_server() as backend:
        text = gateway(port) + service("echo", backend, protocol="GRPC")
        text += route(rules("plain", "curious", "whole", "bare", "web", "no-web"))
        base = {"descriptor": {"inline": cart_base64()}, "services": [CART]}
        text += policy("plain", grpcJSON=base)
        text += policy("curious", grpcJSON={**base, "ignoreUnknownQueryParameters": True})
        text += policy("whole", grpcJSON={**base, "printDefaults": True, "autoMapping": True})
        text += policy("bare", grpcJSON={**base, "convertStatus": False})
        text += policy("no-web", grpcWeb=False)
        with serving(text, tmp_path):
            found = {rule: ask(port, "/v1/items/7?unknown=1", rule=rule)[0] for rule in ("plain", "curious")}
            assert (found["plain"] != 200, found["curious"]) == (True, 200)
            told = {rule: ask(port, "/v1/items/secret", rule=rule) for rule in ("plain", "bare")}
            assert json.loads(told["plain"][2])["message"] == "not you"
            assert told["bare"][2] == b""
            path = f"/{CART}/Put"
            _, _, body = ask(port, path, "POST", b"{}", rule="whole", content_type="application/json")
            assert json.loads(body)["id"] == ""
            framed = b"\x00\x00\x00\x00\x00"
            kinds = {
                rule: ask(port, path, "POST", framed, rule=rule, content_type="application/grpc-web")
                for rule in ("web", "no-web")
            }
            assert kinds["web"][1]["content-type"].startswith("application/grpc-web")
            assert b"grpc-status:0" in kinds["web"][2]
            assert b"grpc-status:0" not in kinds["no-web"][2]


@pytest.mark.shows("RoutePolicy.extensions.extProc", "requestHeaders", "requestBody", "responseBody")
def test_a_processor_sees_what_it_is_to_see_and_nothing_else(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    with processor() as beside:
        text = gateway(port) + service("echo", backend.server_port) + service("beside", beside.port)
        modes: dict[str, dict[str, Any]] = {
            "nothing": {"requestHeaders": False, "responseHeaders": True},
            "headers": {},
            "body": {"requestHeaders": False, "requestBody": "Buffered"},
            "answer": {"requestHeaders": False, "responseBody": "Buffered"},
        }
        text += route(rules(*modes))
        for name, mode in modes.items():
            asked = {"backend": {"name": "beside", "port": 80}, "messageTimeout": "5s", **mode}
            text += policy(name, extensions=[{"extProc": asked}])
        with serving(text, tmp_path):
            for name in modes:
                assert ask(port, "/here", "POST", b"small", rule=name)[0] == 200, name
        kinds = {name: sorted(beside.kinds[at]) for at, name in enumerate(modes)}
    assert kinds == {
        "nothing": ["response_headers"],
        "headers": ["request_headers"],
        "body": ["request_body"],
        "answer": ["response_body"],
    }
    assert "x-processed" in backend.seen[1]["headers"]
    assert "x-processed" not in backend.seen[0]["headers"]


@pytest.mark.shows("TelemetryPolicy.accessLogs", "stdout", "grpc.logName")
@pytest.mark.shows("TelemetryPolicy.tracing.provider", "serviceName")
@pytest.mark.shows("TelemetryPolicy", "overrides")
def test_logs_and_spans_say_whose_they_are_and_a_namespace_may_insist(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    with Collector() as collector:
        to = {"backend": {"name": "collector", "port": 80}}
        logs = [{"stdout": True, "text": "out %PROTOCOL%\n"}, {"grpc": {**to, "logName": "of-the-edge"}}]
        text = (
            gateway(port) + service("echo", backend.server_port) + service("collector", collector.port, protocol="GRPC")
        )
        text += route("\n  - backendRefs: [{name: echo, port: 80}]")
        provider = {"otlp": to, "serviceName": "of-the-shop"}
        text += telemetry(accessLogs=logs, tracing={"provider": provider, "sampling": 0})
        namespace = {"kind": "Namespace", "name": "default"}
        text += telemetry("wide", namespace, overrides={"tracing": {"sampling": 100}})
        with serving(text, tmp_path):
            assert get(port, "/")[0] == 200
            wait_until(lambda: bool(collector.entries and collector.spans))
        assert "out HTTP/1.1" in (tmp_path / "envoy.log").read_text()
        assert collector.log_names == {"of-the-edge"}
        assert collector.services == {"of-the-shop"}


@pytest.mark.shows("ClientPolicy", "overrides")
def test_overrides_for_a_gateway_hold_whatever_a_policy_for_a_listener_says(tmp_path: Path, backend: Server) -> None:
    edge = Edge(backend.server_port, loose={"headers": {"underscores": "Allow"}, "http1": {"absoluteUrl": True}})
    insisting = {"http1": {"absoluteUrl": False}, "overrides": {"headers": {"underscores": "Reject"}}}
    text = edge.text + document("ClientPolicy", "wide", {"targetRefs": [GATEWAY], **insisting})
    host = "a.example.com"
    with serving(text, tmp_path):
        port = edge.ports["loose"]
        odd = f"GET / HTTP/1.1\r\nhost: {host}\r\nx_odd: 1\r\nconnection: close\r\n\r\n".encode()
        assert status(raw(port, odd)) == 400
        assert answered(port, f"GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
