from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate

HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
HTTPS = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}}


def gateway(*listeners: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "default"},
        "spec": {"gatewayClassName": "fairlead", "listeners": list(listeners), **spec},
    }


def codes(raw: Any) -> list[str]:
    return [f"{problem.code} {problem.path}".replace("spec.listeners", "") for problem in validate(raw).problems]


def test_a_gateway_with_http_and_https_is_good() -> None:
    selector = {"matchExpressions": [{"key": "a.io/team", "operator": "In", "values": ["red"]}]}
    allowed = {"namespaces": {"from": "Selector", "selector": selector}, "kinds": [{"kind": "HTTPRoute"}]}
    addresses = [{"value": "127.0.0.1"}, {"type": "IPAddress", "value": "::1"}, {"type": "IPAddress"}]
    raw = gateway({**HTTP, "allowedRoutes": allowed}, {**HTTPS, "hostname": "*.example.com"}, addresses=addresses)
    assert codes(raw) == []


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        ({"port": 0}, "OutOfRange [0].port"),
        ({"port": 65536}, "OutOfRange [0].port"),
        ({"name": "A"}, "InvalidFormat [0].name"),
        ({"hostname": "*.*.com"}, "InvalidFormat [0].hostname"),
        ({"hostname": "10.0.0.1"}, "IPHostname [0].hostname"),
        ({"tls": {"certificateRefs": [{"name": "c"}]}}, "NotAllowed [0].tls"),
        ({"protocol": "HTTPS"}, "MissingCertificate [0].tls"),
        ({"protocol": "HTTPS", "tls": {}}, "MissingField [0].tls.certificateRefs"),
        ({"protocol": "TLS"}, "MissingField [0].tls"),
        ({"protocol": "HTTPS", "tls": {"mode": "Passthrough"}}, "NotAllowed [0].tls.mode"),
        ({"protocol": "TCP"}, ""),
        ({"protocol": "TCP", "hostname": "a.com"}, "NotAllowed [0].hostname"),
        ({"protocol": "http"}, "UnsupportedProtocol [0].protocol"),
        ({"protocol": "-"}, "InvalidFormat [0].protocol"),
        ({"allowedRoutes": {"namespaces": {"from": "Selector"}}}, "MissingField [0].allowedRoutes.namespaces.selector"),
        ({"allowedRoutes": {"namespaces": {"from": "same"}}}, "UnknownValue [0].allowedRoutes.namespaces.from"),
        ({"allowedRoutes": {"kinds": [{"kind": "MQTTRoute"}]}}, "UnsupportedKind [0].allowedRoutes.kinds[0]"),
    ],
)
def test_a_listener_is_judged(listener: dict[str, Any], expected: str) -> None:
    assert "|".join(codes(gateway({**HTTP, **listener}))) == expected


def test_selector_operators_take_values_or_not() -> None:
    def selector(**requirement: Any) -> list[str]:
        namespaces = {"from": "Selector", "selector": {"matchExpressions": [{"key": "a", **requirement}]}}
        found = codes(gateway({**HTTP, "allowedRoutes": {"namespaces": namespaces}}))
        return [code.replace("[0].allowedRoutes.namespaces.selector.matchExpressions[0].", "") for code in found]

    assert selector(operator="In") == ["MissingField values"]
    assert selector(operator="Exists", values=["a"]) == ["NotAllowed values"]
    assert selector(operator="Near") == ["UnknownValue operator"]


def test_listeners_differ_in_name_and_in_port_protocol_or_hostname() -> None:
    assert codes(gateway(HTTP, {**HTTP, "port": 81})) == ["DuplicateName [1].name"]
    assert codes(gateway(HTTP, {**HTTP, "name": "b"})) == ["DuplicateListener [1]"]
    assert codes(gateway(HTTP, {**HTTP, "name": "b", "hostname": "a.com"})) == []


def test_a_gateway_has_1_to_64_listeners() -> None:
    assert codes(gateway()) == ["TooFew "]
    assert codes(gateway(*({**HTTP, "name": f"a{port}", "port": port} for port in range(1, 66)))) == ["TooMany "]


def test_addresses_are_distinct_ip_addresses() -> None:
    assert codes(gateway(HTTP, addresses=[{"value": "localhost"}])) == ["InvalidFormat spec.addresses[0].value"]
    assert codes(gateway(HTTP, addresses=[{"value": "10.0.0.1"}] * 2)) == ["Duplicate spec.addresses[1]"]
    hostname = [{"type": "Hostname", "value": "a.example.com"}]
    assert codes(gateway(HTTP, addresses=hostname)) == ["UnsupportedAddress spec.addresses[0].type"]
    assert codes(gateway(HTTP, addresses=[{"type": "Street", "value": "a"}])) == ["UnknownValue spec.addresses[0].type"]


def test_client_certificates_are_configured_once_for_each_port() -> None:
    ca = {"group": "", "kind": "ConfigMap", "name": "ca"}
    config = {"validation": {"caCertificateRefs": [ca]}}
    twice = [{"port": 443, "tls": config}] * 2
    assert codes(gateway(HTTPS, tls={"frontend": {"default": config}})) == []
    assert codes(gateway(HTTPS, tls={"frontend": {"default": config, "perPort": twice}})) == [
        "Duplicate spec.tls.frontend.perPort[1].port"
    ]


def test_what_is_accepted_but_not_done_is_said() -> None:
    parameters = {"parametersRef": {"group": "a.io", "kind": "B", "name": "c"}}
    assert codes(gateway(HTTP, infrastructure=parameters)) == ["Unsupported spec.infrastructure.parametersRef"]
    refs = {"certificateRefs": [{"name": "c", "kind": "Vault", "group": "a.io"}]}
    assert codes(gateway({**HTTPS, "tls": refs})) == ["UnsupportedKind [0].tls.certificateRefs[0]"]
