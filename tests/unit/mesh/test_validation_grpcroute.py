"""The rules of GRPCRoute: each fault is found, with its code and path, and what is right passes without a word."""

from __future__ import annotations

from typing import Any

from mesh.validation import validate

BACKEND = {"name": "reviews", "port": 80}


def route(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": list(rules), **spec},
    }


def codes(raw: Any) -> list[str]:
    return [f"{problem.code} {problem.path}".replace("spec.rules[0].", "") for problem in validate(raw).problems]


def method(**fields: str) -> list[str]:
    return [one.replace("matches[0].method", "") for one in codes(route({"matches": [{"method": fields}]}))]


def test_a_route_that_uses_everything_is_good() -> None:
    rule = {
        "name": "all",
        "matches": [
            {"method": {"service": "shop.v1.Reviews", "method": "Get_1"}, "headers": [{"name": "X-A", "value": "b"}]},
            {"method": {"type": "RegularExpression", "service": "shop\\..*", "method": "Get|Put"}},
            {"method": {"method": "Get"}},
        ],
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-c"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["x-c"]}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND, "percent": 5}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND}},
        ],
        "backendRefs": [
            {
                **BACKEND,
                "weight": 3,
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-c"]}}],
            }
        ],
    }
    assert codes(route(rule, hostnames=["*.example.com"])) == []


def test_services_and_methods_have_names_of_protocol_buffers_or_are_expressions_that_re2_can_read() -> None:
    assert method() == ["MissingField "]
    assert method(service="shop/Reviews") == ["InvalidFormat .service"]
    assert method(service="shop..Reviews") == ["InvalidFormat .service"]
    assert method(method="1Get") == ["InvalidFormat .method"]
    assert method(method="Get\n") == ["InvalidFormat .method"]
    assert method(service="a(", type="RegularExpression") == ["InvalidRegex .service"]
    assert method(method="(?=a)", type="RegularExpression") == ["InvalidRegex .method"]


def test_headers_filters_and_backends_are_judged_as_those_of_an_http_route() -> None:
    twice = [{"name": "x-a", "value": "b"}, {"name": "X-A", "value": "c"}]
    assert codes(route({"matches": [{"headers": twice}]})) == ["DuplicateName matches[0].headers[1].name"]
    modifier = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "Host", "value": "a"}]}}
    assert codes(route({"filters": [modifier]})) == ["HostHeader filters[0].requestHeaderModifier.set[0].name"]
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND}}
    assert codes(route({"backendRefs": [{**BACKEND, "filters": [mirror]}]})) == [
        "Unsupported backendRefs[0].filters[0]"
    ]
    assert codes(route({"backendRefs": [{"name": "reviews"}]})) == ["MissingField backendRefs[0].port"]
    assert codes(route({"filters": [{"type": "URLRewrite"}]}))[0].startswith("UnknownValue filters[0].type")


def test_rules_have_names_of_their_own_and_no_more_than_128_matches_together() -> None:
    assert codes(route({"name": "a"}, {"name": "a"})) == ["DuplicateName spec.rules[1].name"]
    assert codes(route(*({"matches": [{}] * 43} for _ in range(3)))) == ["TooMany spec.rules"]
    assert codes(route()) == ["MissingField spec.rules"]
