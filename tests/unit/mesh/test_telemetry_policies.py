"""TelemetryPolicies: what a listener tells whom, how much of a route is traced, and what their authors are told."""

from __future__ import annotations

from typing import Any

from mesh.backends import Backend
from mesh.gateways import GatewayKey
from mesh.model import ObjectKey, ServiceKey
from mesh.statuses import STATUSES
from mesh.telemetry_policies import (
    NO_TELEMETRY,
    ROUTE_TELEMETRY,
    TELEMETRY_RULES,
    TelemetryRules,
    effective_telemetry,
)
from tests.support.model import Model
from tests.support.routing import document, route, service

GATEWAY_API = "gateway.networking.k8s.io"
EDGE = GatewayKey("default", "edge")
GATEWAY = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}
ROUTE = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": "route"}
NAMESPACE = {"kind": "Namespace", "name": "default"}
LISTENERS = [
    {"name": "one", "port": 80, "protocol": "HTTP"},
    {"name": "two", "port": 80, "protocol": "HTTP", "hostname": "b.example.com"},
    {"name": "other", "port": 81, "protocol": "HTTP"},
]
RULES = """
  - name: seldom
    backendRefs: [{name: otel, port: 80}]
  - backendRefs: [{name: otel, port: 80}]
"""


def policy(name: str, target: dict[str, str], **spec: Any) -> str:
    return document("TelemetryPolicy", name, {"targetRefs": [target], **spec})


def otlp(port: int = 80, name: str = "otel") -> dict[str, Any]:
    return {"otlp": {"backend": {"name": name, "port": port}}}


def model(*policies: str) -> Model:
    made = Model()
    gateway = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": LISTENERS})
    text = "".join((gateway, service("otel", 4317), route(RULES, hosts="[]"), *policies))
    made.apply(text.rstrip().removesuffix("---"))
    return made


def rules(made: Model) -> TelemetryRules:
    return made.engine.get(TELEMETRY_RULES, EDGE) or NO_TELEMETRY


def sampling(made: Model) -> dict[str, float | None]:
    """How much is traced, of each listener and each rule that says so itself."""
    found: dict[str, float | None] = {}
    for listener in LISTENERS:
        tracing = rules(made).of_listener(str(listener["name"])).settings.tracing
        found[str(listener["name"])] = tracing.sampling if tracing is not None else None
    row = made.engine.get(ROUTE_TELEMETRY, ObjectKey("HTTPRoute", "default", "route"))
    for rule in ("seldom", None):
        effective = row.of_rule(rule) if row is not None else None
        found[rule or "rest"] = effective.settings.tracing.sampling if effective is not None else None
    return found


def told(made: Model, name: str) -> dict[str, tuple[bool, str]]:
    status = made.engine.get(STATUSES, ObjectKey("TelemetryPolicy", "default", name))
    assert status is not None
    return {each.type: (each.status, each.message) for each in status.conditions}


def test_a_collector_is_a_service_of_the_policys_namespace_and_asked_by_http2_where_it_is_grpc() -> None:
    collector = Backend(ServiceKey("default", "otel"), 80, http2=True)
    zipkin = {"zipkin": {"backend": {"name": "otel", "port": 80}}}
    made = model(policy("p", GATEWAY, accessLogs=[{"stdout": True}, otlp()], tracing={"provider": zipkin}))
    listener = rules(made).of_listener("one")
    assert listener.logs == (None, collector)
    assert listener.traces == Backend(ServiceKey("default", "otel"), 80)
    assert rules(made).backends == (listener.traces, collector)
    assert told(made, "p")["Accepted"] == (True, "")


def test_a_collector_that_is_not_there_is_left_out_and_told() -> None:
    made = model(policy("p", GATEWAY, accessLogs=[otlp(81)], tracing={"provider": otlp(name="gone")}))
    assert rules(made).backends == ()
    said = told(made, "p")["ResolvedRefs"][1]
    assert "Service default/otel has no port 81; it has: 80." in said
    assert "Service default/gone does not exist." in said
    made.apply(service("gone", 4317).rstrip().removesuffix("---"))
    assert rules(made).backends == (Backend(ServiceKey("default", "gone"), 80, http2=True),)


def test_a_listeners_word_wins_over_its_gateways_and_a_port_shares_it() -> None:
    wide = policy("n", NAMESPACE, tracing={"sampling": 1})
    gateway = policy("g", GATEWAY, tracing={"sampling": 2})
    listener = policy("l", {**GATEWAY, "sectionName": "two"}, tracing={"sampling": 3})
    assert sampling(model(wide)) == {"one": 1, "two": 1, "other": 1, "seldom": None, "rest": None}
    assert sampling(model(wide, gateway, listener)) == {"one": 3, "two": 3, "other": 2, "seldom": None, "rest": None}
    made = model(listener, policy("late", {**GATEWAY, "sectionName": "one"}, tracing={"sampling": 4}))
    found = sampling(made)
    assert found["one"] == found["two"]
    assert {told(made, name)["Accepted"][0] for name in ("l", "late")} == {True, False}


def test_a_route_and_a_rule_say_themselves_how_much_of_them_is_traced() -> None:
    whole = policy("r", ROUTE, tracing={"sampling": 5})
    rule = policy("s", {**ROUTE, "sectionName": "seldom"}, tracing={"sampling": 6})
    made = model(policy("g", GATEWAY, tracing={"sampling": 2}), whole, rule)
    assert sampling(made) == {"one": 2, "two": 2, "other": 2, "seldom": 6, "rest": 5}
    shown = effective_telemetry(made.engine.rows(TELEMETRY_RULES).items(), made.engine.rows(ROUTE_TELEMETRY).items())
    assert [(each.kind, each.section) for each in shown] == [
        ("Gateway", ""),
        ("HTTPRoute", ""),
        ("HTTPRoute", "seldom"),
    ]
    assert not told(model(policy("x", {**ROUTE, "name": "gone"}, tracing={"sampling": 1})), "x")["ResolvedRefs"][0]
