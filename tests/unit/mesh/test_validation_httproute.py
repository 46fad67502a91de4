"""The rules of HTTPRoute: each fault is found, with its code and path, and what is right passes without a word."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate
from mesh.validations.regexes import MAX_PROGRAM_SIZE, fault

BACKEND = {"name": "reviews", "port": 80}


def route(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "edge"}], **({"rules": list(rules)} if rules else {}), **spec},
    }


def codes(raw: Any) -> list[str]:
    return [f"{problem.code} {problem.path}" for problem in validate(raw).problems]


def match(**fields: Any) -> list[str]:
    prefix = "spec.rules[0].matches[0]."
    return [code.replace(prefix, "") for code in codes(route({"matches": [fields], "backendRefs": [BACKEND]}))]


def filtered(*filters: dict[str, Any], **rule: Any) -> list[str]:
    return [code.replace("spec.rules[0].filters", "") for code in codes(route({"filters": list(filters), **rule}))]


def test_a_route_that_uses_everything_is_good() -> None:
    rule = {
        "name": "all",
        "matches": [
            {
                "path": {"type": "PathPrefix", "value": "/a"},
                "headers": [{"name": "X-A", "value": "b"}, {"name": "x-b", "type": "RegularExpression", "value": "a+"}],
                "queryParams": [{"name": "q", "value": "1"}, {"name": "Q", "value": "2"}],
                "method": "GET",
            }
        ],
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {
                    "set": [{"name": "x-a", "value": "b\tc é"}],
                    "add": [{"name": "x-b", "value": "c"}],
                    "remove": ["x-c"],
                },
            },
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["x-c"]}},
            {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": ""}}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND, "percent": 0}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND, "fraction": {"numerator": 1}}},
            {"type": "CORS", "cors": {"allowOrigins": ["https://*.example.com:8443"], "allowMethods": ["GET", "PUT"]}},
            {
                "type": "ExternalAuth",
                "externalAuth": {
                    "protocol": "HTTP",
                    "backendRef": BACKEND,
                    "http": {"path": "/a.b/c/", "allowedHeaders": ["X-A"], "allowedResponseHeaders": ["X-B"]},
                    "forwardBody": {"maxSize": 65_535},
                },
            },
        ],
        "backendRefs": [
            {**BACKEND, "weight": 1_000_000},
            {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "reviews-v2", "port": 80, "weight": 0},
        ],
        "timeouts": {"request": "0s", "backendRequest": "10s"},
        "retry": {"codes": [500, 503], "attempts": 3, "backoff": "100ms"},
    }
    assert codes(route(rule, hostnames=["a.example.com", "*.example.com"])) == []


@pytest.mark.parametrize(
    "hostname",
    [
        "A.example.com",
        "a.*.com",
        "*",
        "*a.com",
        "http://a.com",
        "a.com:80",
        "a.com/x",
        "a..com",
        ".a.com",
        "-a.com",
        "a_b.com",
        "é.com",
    ],
)
def test_a_hostname_is_lower_case_with_a_wildcard_only_as_its_first_label(hostname: str) -> None:
    assert codes(route(hostnames=[hostname])) == ["InvalidFormat spec.hostnames[0]"]


def test_hostnames_are_no_ip_addresses_and_their_labels_are_short() -> None:
    assert codes(route(hostnames=["10.0.0.1"])) == ["IPHostname spec.hostnames[0]"]
    assert codes(route(hostnames=[f"{'a' * 64}.com"])) == ["InvalidFormat spec.hostnames[0]"]
    assert codes(route(hostnames=["1.2.3.com", "a1"])) == []


@pytest.mark.parametrize("type_", ["Exact", "PathPrefix"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "//",
        "/a//b",
        "/./a",
        "/a/../b",
        "/a/..",
        "/a/.",
        "/a%2fb",
        "/a%2Fb",
        "/a#b",
        "/a b",
        "/a?b",
        "/é",
        "/%zz",
        "/\n",
    ],
)
def test_a_plain_path_is_absolute_normalized_and_encoded(type_: str, value: str) -> None:
    assert match(path={"type": type_, "value": value}) == ["InvalidPath path.value"]


def test_a_path_may_have_1024_characters() -> None:
    assert match(path={"value": "/" + "a" * 1023}) == []
    assert match(path={"value": "/" + "a" * 1024}) == ["TooLong path.value"]


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "a{1001}", "[z-a]", "*a"])
def test_regular_expressions_are_those_of_re2(pattern: str) -> None:
    assert match(path={"type": "RegularExpression", "value": pattern}) == ["InvalidRegex path.value"]
    assert match(headers=[{"name": "a", "type": "RegularExpression", "value": pattern}]) == [
        "InvalidRegex headers[0].value"
    ]
    assert match(queryParams=[{"name": "a", "type": "RegularExpression", "value": pattern}]) == [
        "InvalidRegex queryParams[0].value"
    ]


def test_a_regular_expression_has_a_bounded_program() -> None:
    assert fault("(a|b|c){20}") == ""
    assert f"at most {MAX_PROGRAM_SIZE}" in fault("((a{10}){10}){10}")
    assert match(headers=[{"name": "a", "type": "RegularExpression", "value": "a" * 1025}]) == [
        "InvalidRegex headers[0].value"
    ]


def test_header_names_are_tokens_and_count_once_whatever_their_case() -> None:
    assert match(headers=[{"name": ":path", "value": "x"}]) == ["InvalidFormat headers[0].name"]
    assert match(headers=[{"name": "a b", "value": "x"}]) == ["InvalidFormat headers[0].name"]
    assert match(headers=[{"name": "A", "value": "x"}, {"name": "a", "value": "y"}]) == [
        "DuplicateName headers[1].name"
    ]
    assert match(queryParams=[{"name": "a", "value": "x"}, {"name": "a", "value": "y"}]) == [
        "DuplicateName queryParams[1].name"
    ]


def test_values_hold_no_control_characters_and_no_space_that_never_matches() -> None:
    assert match(headers=[{"name": "a", "value": "x\r\ny: z"}]) == ["ControlCharacter headers[0].value"]
    assert match(queryParams=[{"name": "a", "value": "x\0"}]) == ["ControlCharacter queryParams[0].value"]
    assert match(headers=[{"name": "a", "value": " x"}]) == ["NeverMatches headers[0].value"]
    assert match(headers=[{"name": "a", "value": ""}]) == ["TooShort headers[0].value"]


@pytest.mark.parametrize("field", ["set", "add"])
@pytest.mark.parametrize("kind", ["Request", "Response"])
def test_header_modifiers_change_no_host_and_smuggle_nothing(kind: str, field: str) -> None:
    def modifier(*headers: dict[str, str]) -> list[str]:
        lower = kind.lower() + "HeaderModifier"
        return [
            code.replace(f"[0].{lower}.{field}", "")
            for code in filtered({"type": f"{kind}HeaderModifier", lower: {field: list(headers)}})
        ]

    assert modifier({"name": "Host", "value": "a"}) == ["HostHeader [0].name"]
    assert modifier({"name": ":authority", "value": "a"}) == ["InvalidFormat [0].name"]
    assert modifier({"name": "a", "value": "b\nc: d"}) == ["ControlCharacter [0].value"]
    assert modifier({"name": "a", "value": "b"}, {"name": "A", "value": "c"}) == ["DuplicateName [1].name"]
    assert modifier(*({"name": f"a{n}", "value": "b"} for n in range(17))) == ["TooMany "]


def test_removed_headers_are_names_too() -> None:
    def remove(*names: str) -> list[str]:
        found = filtered({"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": list(names)}})
        return [code.replace("[0].requestHeaderModifier.remove", "") for code in found]

    assert remove("host") == ["HostHeader [0]"]
    assert remove(":path") == ["InvalidFormat [0]"]
    assert remove("") == ["InvalidFormat [0]"]
    assert remove("a", "A") == ["DuplicateName [1]"]


def test_a_filter_has_the_field_of_its_type_and_no_other() -> None:
    assert filtered({"type": "URLRewrite"}) == ["MissingField [0].urlRewrite"]
    assert filtered({"type": "URLRewrite", "urlRewrite": {"hostname": "a"}, "cors": {}}) == ["NotAllowed [0].cors"]
    assert filtered({"type": "Rewrite"}) == ["UnknownValue [0].type"]


def test_filters_that_contradict_each_other_are_refused() -> None:
    rewrite = {"type": "URLRewrite", "urlRewrite": {"hostname": "a"}}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "a"}}
    assert filtered(rewrite, redirect) == ["NotAllowed "]
    assert filtered(rewrite, rewrite) == ["Duplicate "]
    assert codes(route({"filters": [redirect], "backendRefs": [BACKEND]})) == ["NotAllowed spec.rules[0].backendRefs"]


@pytest.mark.parametrize("kind", ["RequestRedirect", "URLRewrite"])
def test_a_prefix_is_replaced_only_where_one_prefix_matched(kind: str) -> None:
    field = {"RequestRedirect": "requestRedirect", "URLRewrite": "urlRewrite"}[kind]
    replace = {"type": kind, field: {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}}
    assert filtered(replace) == []
    assert filtered(replace, matches=[{"path": {"value": "/a"}}]) == []
    assert filtered(replace, matches=[{"path": {"type": "Exact", "value": "/a"}}]) == ["NotAllowed [0]"]
    assert filtered(replace, matches=[{"path": {"value": "/a"}}, {"path": {"value": "/b"}}]) == ["NotAllowed [0]"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ({"type": "ReplaceFullPath"}, "MissingField replaceFullPath"),
        (
            {"type": "ReplaceFullPath", "replacePrefixMatch": "/a", "replaceFullPath": "/"},
            "NotAllowed replacePrefixMatch",
        ),
        ({"type": "ReplaceFullPath", "replaceFullPath": "a"}, "InvalidPath replaceFullPath"),
        ({"type": "ReplaceFullPath", "replaceFullPath": "/a?b"}, "InvalidPath replaceFullPath"),
        ({"type": "ReplaceFullPath", "replaceFullPath": "/a\r\nSet-Cookie:"}, "ControlCharacter replaceFullPath"),
    ],
)
def test_a_new_path_is_a_path_of_its_type(path: dict[str, str], expected: str) -> None:
    code = filtered({"type": "URLRewrite", "urlRewrite": {"path": path}})
    assert [one.replace("[0].urlRewrite.path.", "") for one in code] == [expected]


def test_mirrors_redirects_and_cors_hold_their_limits() -> None:
    mirror = {"backendRef": BACKEND, "percent": 5, "fraction": {"numerator": 1}}
    assert filtered({"type": "RequestMirror", "requestMirror": mirror}) == ["NotAllowed [0].requestMirror"]
    mirror = {"backendRef": BACKEND, "fraction": {"numerator": 3, "denominator": 2}}
    assert filtered({"type": "RequestMirror", "requestMirror": mirror}) == [
        "OutOfRange [0].requestMirror.fraction.numerator"
    ]
    redirect = {"hostname": "*.a.com", "statusCode": 304, "port": 0, "scheme": "ftp"}
    assert filtered({"type": "RequestRedirect", "requestRedirect": redirect}) == [
        "InvalidFormat [0].requestRedirect.hostname",
        "UnknownValue [0].requestRedirect.statusCode",
        "OutOfRange [0].requestRedirect.port",
        "UnknownValue [0].requestRedirect.scheme",
    ]
    cors = {"allowOrigins": ["*", "http://a.com"], "allowMethods": ["GET", "GET"]}
    assert filtered({"type": "CORS", "cors": cors}) == [
        "NotAllowed [0].cors.allowOrigins",
        "Duplicate [0].cors.allowMethods",
    ]


def test_a_backend_has_a_port_a_weight_in_range_and_a_kind_that_is_known() -> None:
    def backend(**ref: Any) -> list[str]:
        return [code.replace("spec.rules[0].backendRefs[0]", "") for code in codes(route({"backendRefs": [ref]}))]

    assert backend(name="a") == ["MissingField .port"]
    assert backend(name="a", port=80, weight=1_000_001) == ["OutOfRange .weight"]
    assert backend(name="a", port=80, weight=-1) == ["OutOfRange .weight"]
    assert backend(name="a", port=80, weight=1.5) == ["WrongType .weight"]
    assert backend(name="a", port=True) == ["WrongType .port"]
    assert backend(name="a", kind="Bucket") == ["UnsupportedKind "]
    assert validate(route({"backendRefs": [{"name": "a", "kind": "Bucket"}]})).object is not None


def test_a_try_takes_no_longer_than_the_request() -> None:
    late = {"timeouts": {"request": "1s", "backendRequest": "1001ms"}}
    assert codes(route(late)) == ["OutOfRange spec.rules[0].timeouts.backendRequest"]


def test_tries_of_a_route_that_do_not_end_in_time_are_warned_of() -> None:
    tries = {"retry": {"attempts": 1}, "timeouts": {"request": "3s", "backendRequest": "2s"}}
    assert codes(route(tries)) == ["InvalidCombination spec.rules[0].timeouts.request"]
    assert codes(route({**tries, "retry": {}})) == ["InvalidCombination spec.rules[0].timeouts.request"]
    assert codes(route({"timeouts": tries["timeouts"]})) == []
    assert codes(route({**tries, "timeouts": {"request": "4s", "backendRequest": "2s"}})) == []
    assert codes(route({"timeouts": {"request": "1.5s"}})) == ["InvalidFormat spec.rules[0].timeouts.request"]


def test_a_parent_named_twice_names_its_listener_each_time() -> None:
    edge, http = {"name": "edge"}, {"name": "edge", "sectionName": "http"}
    assert codes(route(parentRefs=[http, {"name": "edge", "sectionName": "https"}])) == []
    assert codes(route(parentRefs=[http, http])) == ["Duplicate spec.parentRefs[1]"]
    assert codes(route(parentRefs=[http, edge])) == ["MissingField spec.parentRefs[1].sectionName"]
    assert codes(route(parentRefs=[edge, {"name": "edge", "namespace": "default"}])) == ["Duplicate spec.parentRefs[1]"]
    service = {"group": "", "kind": "Service", "name": "a"}
    assert codes(route(parentRefs=[{**service, "port": 80}, {**service, "port": 81}])) == []


def test_counts_are_limited() -> None:
    assert codes(route(*({} for _ in range(17)))) == ["TooMany spec.rules"]
    assert codes(route(*({"matches": [{}] * 64} for _ in range(2)))) == []
    assert codes(route(*({"matches": [{}] * 43} for _ in range(3)))) == ["TooMany spec.rules"]
    assert codes(route({"name": "a"}, {"name": "a"})) == ["DuplicateName spec.rules[1].name"]


def test_what_is_accepted_but_not_done_is_said() -> None:
    extension = {"type": "ExtensionRef", "extensionRef": {"group": "a.io", "kind": "B", "name": "c"}}
    assert filtered(extension) == ["Unsupported [0].extensionRef"]
    assert codes(route(parentRefs=[])) == ["MissingField spec.parentRefs"]


def test_sessions_have_names_that_cookies_and_headers_can_have_and_lifetimes_that_envoy_can_end() -> None:
    def persisting(**fields: Any) -> list[str]:
        found = codes(route({"sessionPersistence": fields, "backendRefs": [BACKEND]}))
        return [code.replace("spec.rules[0].sessionPersistence", "") for code in found]

    assert persisting() == []
    assert persisting(sessionName="mine", absoluteTimeout="1h", cookieConfig={"lifetimeType": "Permanent"}) == []
    assert persisting(cookieConfig={"lifetimeType": "Permanent"}) == ["MissingField .absoluteTimeout"]
    assert persisting(absoluteTimeout="1h") == ["NoEffect .absoluteTimeout"]
    assert persisting(sessionName="a;b") == ["InvalidFormat .sessionName"]
    assert persisting(sessionName="Content-Length", type="Header") == ["NotAllowed .sessionName"]
    assert persisting(type="Header", cookieConfig={}) == ["NotAllowed .cookieConfig"]


def test_a_filter_of_one_backend_that_would_have_to_be_skipped_is_refused() -> None:
    def of_backend(one: dict[str, Any]) -> list[str]:
        found = codes(route({"backendRefs": [{**BACKEND, "filters": [one]}]}))
        return [code.replace("spec.rules[0].backendRefs[0].", "") for code in found]

    full = {"type": "ReplaceFullPath", "replaceFullPath": "/"}
    assert of_backend({"type": "URLRewrite", "urlRewrite": {"hostname": "a"}}) == []
    assert of_backend({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["a"]}}) == []
    assert of_backend({"type": "URLRewrite", "urlRewrite": {"path": full}}) == []
    assert of_backend({"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND}}) == ["Unsupported filters[0]"]
    assert of_backend({"type": "CORS", "cors": {}}) == ["Unsupported filters[0]"]
    judged = {"protocol": "HTTP", "backendRef": BACKEND, "http": {}}
    assert of_backend({"type": "ExternalAuth", "externalAuth": judged}) == ["Unsupported filters[0]"]


def test_an_authorizer_is_asked_by_its_protocol_and_for_a_path_that_is_one() -> None:
    def judged(protocol: str = "HTTP", **fields: Any) -> list[str]:
        auth = {"protocol": protocol, "backendRef": BACKEND, **fields}
        found = codes(route({"filters": [{"type": "ExternalAuth", "externalAuth": auth}], "backendRefs": [BACKEND]}))
        return [code.replace("spec.rules[0].filters[0].externalAuth", "") for code in found]

    assert judged("GRPC", grpc={}) == judged(http={"path": "/"}) == []
    assert judged() == ["MissingField .http"]
    assert judged("GRPC") == ["MissingField .grpc"]
    assert judged(http={}, grpc={}) == ["NotAllowed .grpc"]
    assert judged("TLS", http={}) == ["UnknownValue .protocol"]
    for path in ("auth", "?x"):
        assert judged(http={"path": path})[0].endswith(" .http.path")
    for path in ("/../x", "/x/..", "/./x", "/%2e%2E/x", "/x%2fy", "/x%00"):
        assert judged(http={"path": path}) == ["InvalidPath .http.path"]
    assert judged(http={"path": "/" + "a" * 1024}) == ["TooLong .http.path"]
    assert judged(http={"allowedHeaders": ["x-a", "X-A"]}) == ["Duplicate .http.allowedHeaders[1]"]
    assert judged(http={"allowedHeaders": ["a b"]}) == ["InvalidFormat .http.allowedHeaders[0]"]
    assert judged(http={"allowedHeaders": [f"x-{number}" for number in range(65)]}) == ["TooMany .http.allowedHeaders"]
    assert judged("GRPC", grpc={"allowedHeaders": ["a\nb"]}) == ["InvalidFormat .grpc.allowedHeaders[0]"]
    for name in ("Host", "Content-Length", "Content-Type", "Transfer-Encoding", "X-Envoy-Original-Path"):
        assert judged(http={"allowedResponseHeaders": [name]}) == ["NoEffect .http.allowedResponseHeaders[0]"]
    assert judged(http={}, forwardBody={}) == ["NoEffect .forwardBody"]
    assert judged(http={}, forwardBody={"maxSize": -1}) == ["OutOfRange .forwardBody.maxSize"]
    assert judged(http={}, forwardBody={"maxSize": 65_536}) == ["OutOfRange .forwardBody.maxSize"]
