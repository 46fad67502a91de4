"""ClientPolicies: what holds for a listener, what listeners of a port share, and what their authors are told."""

from __future__ import annotations

from typing import Any

from mesh.client_policies import CLIENT_RULES, NO_RULES, effective_client_policies
from mesh.gateways import GatewayKey
from mesh.model import ObjectKey
from mesh.statuses import STATUSES
from tests.support.model import Model
from tests.support.routing import document
from tests.support.secrets import secret

EDGE = GatewayKey("default", "edge")
TLS = {"tls": {"certificateRefs": [{"name": "cert"}]}}
LISTENERS = [
    {"name": "http", "port": 80, "protocol": "HTTP"},
    {"name": "http-a", "port": 80, "protocol": "HTTP", "hostname": "a.example.com"},
    {"name": "https", "port": 443, "protocol": "HTTPS", **TLS},
    {"name": "https-a", "port": 443, "protocol": "HTTPS", "hostname": "a.example.com", **TLS},
]


def policy(name: str, section: str = "", **spec: Any) -> str:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
    return document(
        "ClientPolicy", name, {"targetRefs": [target | ({"sectionName": section} if section else {})], **spec}
    )


def model(*policies: str) -> Model:
    made = Model()
    gateway = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": LISTENERS})
    made.apply("".join((gateway, secret("cert") + "\n---\n", *policies)).rstrip().removesuffix("---"))
    return made


def limits(made: Model) -> dict[str, int | None]:
    """The limit of connections of each listener."""
    rules = made.engine.get(CLIENT_RULES, EDGE) or NO_RULES
    settings = {each["name"]: rules.of_listener(str(each["name"])) for each in LISTENERS}
    return {str(name): found.connections.limit if found.connections else None for name, found in settings.items()}


def told(made: Model, name: str) -> dict[str, tuple[bool, str]]:
    status = made.engine.get(STATUSES, ObjectKey("ClientPolicy", "default", name))
    assert status is not None
    return {each.type: (each.status, each.message) for each in status.conditions}


def test_a_listeners_policy_wins_over_its_gateways_and_that_over_its_namespaces() -> None:
    assert limits(model()) == dict.fromkeys(("http", "http-a", "https", "https-a"))
    namespace = document(
        "ClientPolicy", "n", {"targetRefs": [{"kind": "Namespace", "name": "default"}], "connections": {"limit": 1}}
    )
    assert limits(model(namespace)) == {"http": 1, "http-a": 1, "https": 1, "https-a": 1}
    gateway = policy("g", connections={"limit": 2})
    assert limits(model(namespace, gateway)) == {"http": 2, "http-a": 2, "https": 2, "https-a": 2}
    listener = policy("l", "https", connections={"limit": 3})
    assert limits(model(namespace, gateway, listener)) == {"http": 2, "http-a": 2, "https": 3, "https-a": 2}
    fixed = policy("o", overrides={"connections": {"limit": 4}})
    assert limits(model(namespace, gateway, listener, fixed)) == dict.fromkeys(limits(model()), 4)


def test_http_listeners_of_a_port_share_what_one_of_them_is_told() -> None:
    made = model(policy("a", "http-a", connections={"limit": 5}))
    assert limits(made) == {"http": 5, "http-a": 5, "https": None, "https-a": None}
    made = model(policy("a", "http-a", connections={"limit": 5}), policy("b", "http", connections={"limit": 6}))
    assert limits(made)["http"] == limits(made)["http-a"] == 5
    assert told(made, "b")["Conflicted"] == (
        True,
        "Older policies for the same target set these fields: connections.limit (ClientPolicy default/a).",
    )
    assert not told(made, "b")["Accepted"][0]


def test_who_allows_broken_versions_of_tls_is_told_so() -> None:
    made = model(
        policy("old", "https", tls={"minVersion": "1.0"}),
        policy("fixed", overrides={"tls": {"minVersion": "1.1", "maxVersion": "1.3"}}),
        policy("new", "https-a", tls={"minVersion": "1.2"}),
    )
    said = "minVersion allows TLS {}, which is broken (RFC 8996)."
    assert told(made, "old")["Accepted"] == (True, f"spec.tls.{said.format('1.0')}")
    assert told(made, "fixed")["Accepted"] == (True, f"spec.overrides.tls.{said.format('1.1')}")
    assert told(made, "new")["Accepted"] == (True, "")


def test_https_listeners_share_only_what_belongs_to_the_port() -> None:
    made = model(
        policy("a", "https", connections={"limit": 5, "bufferLimit": 4096}, proxyProtocol={}),
        policy("b", "https-a", connections={"limit": 6, "bufferLimit": 8192}),
    )
    assert (limits(made)["https"], limits(made)["https-a"]) == (5, 6)
    rules = made.engine.get(CLIENT_RULES, EDGE) or NO_RULES
    port = rules.of_port(443)
    assert port.proxy_protocol is not None
    assert port.connections is not None
    assert port.connections.buffer_limit == 4096
    assert "connections.bufferLimit (ClientPolicy default/a)" in told(made, "b")["Conflicted"][1]
    assert "connections.limit" not in told(made, "b")["Conflicted"][1]
    assert told(made, "b")["Accepted"][0]


def test_a_target_that_is_not_there_is_told() -> None:
    made = model(policy("gone", "nope", connections={"limit": 1}))
    resolved, said = told(made, "gone")["ResolvedRefs"]
    assert not resolved
    assert "has no listener nope; it has: http, http-a, https, https-a" in said
    assert not told(made, "gone")["Accepted"][0]


def test_what_holds_is_shown_for_the_gateway_and_for_listeners_that_differ() -> None:
    made = model(policy("g", connections={"limit": 2}), policy("l", "https", tls={"minVersion": "1.3"}))
    shown = effective_client_policies(made.engine.rows(CLIENT_RULES).items())
    assert [(each.section, [str(origin.path) for origin in each.effective.origins]) for each in shown] == [
        ("", ["connections.limit"]),
        ("https", ["tls.minVersion", "connections.limit"]),
    ]
