from __future__ import annotations

import pytest

from mesh.backends import Backend
from mesh.explain import Explanation, GatewayNotFoundError, explain
from mesh.gateways import GatewayKey
from mesh.model import ObjectKey, ServiceKey
from tests.support.model import Model
from tests.support.secrets import secret

EDGE = GatewayKey("default", "edge")
GATEWAY = """
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: fairlead
  listeners:
  - {name: any, port: 80, protocol: HTTP}
  - {name: wild, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: high, port: 8080, protocol: HTTP, hostname: high.org}
  - {name: tls-a, port: 443, protocol: HTTPS, hostname: a.secure.com, tls: {certificateRefs: [{name: cert}]}}
  - {name: tls-w, port: 443, protocol: HTTPS, hostname: "*.secure.com", tls: {certificateRefs: [{name: cert}]}}
"""


def route(name: str, hosts: str, *rules: str, section: str = "", created: str = "") -> str:
    stamp = f", creationTimestamp: '{created}'" if created else ""
    parent = f"{{name: edge{f', sectionName: {section}' if section else ''}}}"
    return (
        f"{{kind: HTTPRoute, metadata: {{name: {name}{stamp}}}, "
        f"spec: {{parentRefs: [{parent}], hostnames: [{hosts}], rules: [{', '.join(rules)}]}}}}"
    )


def to(service: str, match: str = "", more: str = "") -> str:
    matches = f"matches: [{{{match}}}], " if match else ""
    return f"{{{matches}backendRefs: [{{name: {service}, port: 80}}]{more}}}"


@pytest.fixture
def model() -> Model:
    made = Model()
    made.apply(GATEWAY)
    made.apply(secret("cert"))
    for name in ("one", "two", "three"):
        made.discover(name, "10.0.0.1")
    return made


def ask(model: Model, url: str, method: str = "GET", **headers: str) -> Explanation:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return explain(model.engine, EDGE, method=method, url=url, headers=pairs)


def service(answer: Explanation) -> str:
    assert answer.outcome == "forward", answer
    (share,) = answer.backends
    assert share.backend is not None
    return share.backend.service.name


def test_it_names_listener_host_route_rule_match_and_backend(model: Model) -> None:
    model.apply(route("r", "a.example.com", to("one"), to("two", "path: {value: /two}", ", name: second")))
    answer = ask(model, "http://a.example.com/two/x")
    assert (answer.listener, answer.port, answer.virtual_host) == ("wild", 80, "a.example.com")
    assert (answer.route, answer.rule, answer.rule_name) == (ObjectKey("HTTPRoute", "default", "r"), 1, "second")
    assert answer.match == "path /two (prefix)"
    (share,) = answer.backends
    assert (share.backend, share.share, share.endpoints) == (Backend(ServiceKey("default", "two"), 80), 1.0, 1)


def test_matches_of_several_routes_compete_by_precedence(model: Model) -> None:
    model.apply(route("a", "a.example.com", to("one", "path: {value: /x}")))
    model.apply(route("b", "a.example.com", to("two", "path: {type: Exact, value: /x}")))
    assert service(ask(model, "http://a.example.com/x")) == "two"
    assert service(ask(model, "http://a.example.com/x/")) == "one"


def test_of_equal_matches_the_older_route_wins(model: Model) -> None:
    model.apply(route("a", "a.example.com", to("one")))
    model.apply(route("z", "a.example.com", to("two"), created="2024-01-01T00:00:00Z"))
    assert service(ask(model, "http://a.example.com/")) == "two"


def test_the_most_specific_hostname_answers_alone(model: Model) -> None:
    model.apply(route("a", "a.example.com", to("one", "path: {value: /one}")))
    model.apply(route("w", "'*.example.com'", to("two")))
    assert service(ask(model, "http://a.example.com/one")) == "one"
    assert service(ask(model, "http://b.example.com/one")) == "two"
    answer = ask(model, "http://a.example.com/other")
    assert (answer.outcome, answer.status, answer.virtual_host) == ("respond", 404, "a.example.com")
    assert {item.what for item in answer.others} >= {"HTTPRoute default/a rules[0].matches[0]", "HTTPRoute default/w"}


def test_a_listener_does_not_fall_through_to_a_wider_one(model: Model) -> None:
    model.apply(route("any", "", to("one"), section="any"))
    assert service(ask(model, "http://a.org/")) == "one"
    answer = ask(model, "http://a.example.com/")
    assert (answer.status, answer.listener) == (404, "wild")
    assert "no route on listener wild" in answer.why


def test_the_port_of_the_url_chooses_the_listener(model: Model) -> None:
    model.apply(route("r", "", to("one"), section="high"))
    assert service(ask(model, "http://high.org:8080/")) == "one"
    assert ask(model, "http://low.org:8080/").status == 404
    assert ask(model, "http://high.org:9999/").outcome == "close"


def test_a_url_without_a_port_means_the_only_one_there_is() -> None:
    model = Model()
    model.apply(GATEWAY.replace("port: 80,", "port: 10000,").replace("8080", "10000"))
    model.apply(route("r", "", to("one")))
    assert ask(model, "http://high.org/").port == 10000


def test_https_chooses_by_server_name_and_misdirected_hosts_are_told(model: Model) -> None:
    model.apply(route("a", "", to("one"), section="tls-a"))
    model.apply(route("w", "", to("two"), section="tls-w"))
    assert service(ask(model, "https://a.secure.com/")) == "one"
    assert service(ask(model, "https://b.secure.com/")) == "two"
    assert ask(model, "https://a.secure.com/", host="b.secure.com").status == 421
    assert ask(model, "https://b.secure.com/", host="a.secure.com").status == 421
    assert ask(model, "https://a.secure.com/", host="other.org").status == 404
    assert ask(model, "https://other.org/").outcome == "close"


def test_a_listener_that_is_not_served_says_why(model: Model) -> None:
    model.delete("Secret", "cert")
    answer = ask(model, "https://a.secure.com/")
    assert answer.outcome == "close"
    assert any("does not exist" in item.why for item in answer.others if item.what == "listener tls-a")


@pytest.mark.parametrize(
    ("match", "url", "method", "headers", "expected"),
    [
        ("path: {value: /foo/}", "/foo", "GET", {}, True),
        ("path: {value: /foo}", "/foobar", "GET", {}, False),
        ("path: {value: /}", "/anything", "GET", {}, True),
        ("path: {type: Exact, value: /foo}", "/foo?x=1", "GET", {}, True),
        ("path: {type: Exact, value: /foo}", "/foo/", "GET", {}, False),
        ("path: {type: RegularExpression, value: '/f[o]+'}", "/fooo", "GET", {}, True),
        ("path: {type: RegularExpression, value: '/f[o]+'}", "/fooo/x", "GET", {}, False),
        ("path: {type: RegularExpression, value: '('}", "/(", "GET", {}, False),
        ("method: POST", "/", "POST", {}, True),
        ("method: POST", "/", "GET", {}, False),
        ("path: {value: /}", "/", "CONNECT", {}, False),
        ("headers: [{name: X-A, value: b}]", "/", "GET", {"x_a": "b"}, True),
        ("headers: [{name: X-A, value: b}]", "/", "GET", {"x_a": "B"}, False),
        ("headers: [{name: X-A, value: b}]", "/", "GET", {}, False),
        ("headers: [{name: X-A, value: b}, {name: x-a, value: c}]", "/", "GET", {"x_a": "b"}, True),
        ("headers: [{type: RegularExpression, name: x-a, value: 'b.*'}]", "/", "GET", {"x_a": "bcd"}, True),
        ("headers: [{type: RegularExpression, name: x-a, value: 'b.*'}]", "/", "GET", {"x_a": "abc"}, False),
        ("queryParams: [{name: q, value: a}]", "/?q=a&q=b", "GET", {}, True),
        ("queryParams: [{name: q, value: a}]", "/?q=b&q=a", "GET", {}, False),
        ("queryParams: [{name: q, value: a}]", "/?Q=a", "GET", {}, False),
        ("queryParams: [{type: RegularExpression, name: q, value: 'a|b'}]", "/?q=b", "GET", {}, True),
    ],
)
def test_matches(model: Model, match: str, url: str, method: str, headers: dict[str, str], expected: bool) -> None:
    model.apply(route("r", "a.example.com", to("one", match)))
    answer = ask(model, f"http://a.example.com{url}", method, **headers)
    assert (answer.outcome == "forward") is expected
    if not expected:
        assert any("matches[0]" in item.what and item.why for item in answer.others)


def test_shares_follow_the_weights_and_name_what_is_wrong(model: Model) -> None:
    model.discover("empty")
    refs = (
        "{name: one, port: 80, weight: 90}, {name: empty, port: 80, weight: 5}, {name: nope, port: 80, weight: 5}, "
        "{name: two, port: 80, weight: 0}"
    )
    model.apply(route("r", "a.example.com", f"{{backendRefs: [{refs}]}}"))
    answer = ask(model, "http://a.example.com/")
    assert [share.share for share in answer.backends] == [0.9, 0.05, 0.05, 0.0]
    assert [bool(share.problem) for share in answer.backends] == [False, True, True, False]


EXTENSION = "{type: ExtensionRef, extensionRef: {group: x.org, kind: A, name: a}}"


@pytest.mark.parametrize(
    "rule",
    [
        "{}",
        "{backendRefs: [{name: nope, port: 80}]}",
        "{backendRefs: [{name: one, port: 80, weight: 0}]}",
        "{backendRefs: [{name: one, port: 80, weight: 0}, {name: nope, port: 80}]}",
        f"{{filters: [{EXTENSION}], backendRefs: [{{name: one, port: 80}}]}}",
        f"{{filters: [{EXTENSION}, {{type: RequestRedirect, requestRedirect: {{port: 81}}}}]}}",
        "{backendRefs: [{name: one, port: 80, filters: [{type: CORS, cors: {}}]}]}",
    ],
)
def test_a_rule_without_a_valid_backend_answers_500(model: Model, rule: str) -> None:
    model.apply(route("r", "a.example.com", rule))
    answer = ask(model, "http://a.example.com/")
    assert (answer.outcome, answer.status, answer.location) == ("respond", 500, "")


@pytest.mark.parametrize(
    ("redirect", "url", "expected"),
    [
        ("scheme: https", "http://a.example.com/x?q=1", "https://a.example.com/x?q=1"),
        ("hostname: b.org", "http://a.example.com/x", "http://b.org/x"),
        ("port: 8443, scheme: https", "http://a.example.com/", "https://a.example.com:8443/"),
        (
            "path: {type: ReplaceFullPath, replaceFullPath: /new}",
            "http://a.example.com/x/y",
            "http://a.example.com/new",
        ),
        (
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /n}",
            "http://a.example.com/x/y",
            "http://a.example.com/n/y",
        ),
        (
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /n/}",
            "http://a.example.com/x",
            "http://a.example.com/n",
        ),
        (
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /n}",
            "http://a.example.com/x/",
            "http://a.example.com/n/",
        ),
        (
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}",
            "http://a.example.com/x/y",
            "http://a.example.com/y",
        ),
        ("path: {type: ReplacePrefixMatch, replacePrefixMatch: /}", "http://a.example.com/x", "http://a.example.com/"),
    ],
)
def test_a_redirect_tells_where_to(model: Model, redirect: str, url: str, expected: str) -> None:
    rule = (
        f"{{matches: [{{path: {{value: /x}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}"
    )
    model.apply(route("r", "a.example.com", rule, rule.replace("value: /x", "value: /")))
    answer = ask(model, url)
    assert (answer.outcome, answer.status) == ("redirect", 302)
    assert answer.location == expected


def test_a_redirect_keeps_the_port_of_an_unusual_listener(model: Model) -> None:
    model.apply(route("r", "", "{filters: [{type: RequestRedirect, requestRedirect: {hostname: b.org}}]}"))
    assert ask(model, "http://high.org:8080/").location == "http://b.org:8080/"


def test_an_unknown_gateway_and_a_bad_url_are_errors(model: Model) -> None:
    with pytest.raises(GatewayNotFoundError, match="default/nope"):
        explain(model.engine, GatewayKey("default", "nope"), method="GET", url="http://a/")
    with pytest.raises(ValueError, match="is not a URL"):
        ask(model, "nonsense")


def test_a_path_is_matched_as_envoy_normalises_it(model: Model) -> None:
    model.apply(route("r", "a.example.com", to("one", "path: {value: /admin}"), to("two")))
    assert service(ask(model, "http://a.example.com/x/../admin")) == "one"
    assert service(ask(model, "http://a.example.com//admin")) == "one"
    assert service(ask(model, "http://A.EXAMPLE.com/%61dmin")) == "one"


def test_escaped_slashes_are_redirected_before_any_route_is_looked_for(model: Model) -> None:
    answer = ask(model, "http://nobody.example.com/a/%2e%2e%2Fx?q=%2F")
    assert (answer.outcome, answer.status, answer.location) == ("redirect", 307, "/x?q=%2F")
    assert ask(model, "http://nobody.example.com:9999/a%5Cb").outcome == "close"


def test_tls_and_https_listeners_of_one_port_share_its_server_names(model: Model) -> None:
    model.apply(
        """
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: fairlead
  listeners:
  - {name: web, port: 443, protocol: HTTPS, hostname: "*.secure.com", tls: {certificateRefs: [{name: cert}]}}
  - {name: through, port: 443, protocol: TLS, hostname: raw.secure.com, tls: {mode: Passthrough}}
  - {name: rest, port: 443, protocol: TLS, tls: {mode: Passthrough}}
"""
    )
    model.apply(route("web", '"*.secure.com"', to("one")))
    for name, host, backend in (("raw", "raw.secure.com", "two"), ("org", "a.org", "three")):
        refs = f"[{{backendRefs: [{{name: {backend}, port: 80}}]}}]"
        model.apply(
            f"{{kind: TLSRoute, metadata: {{name: {name}}}, "
            f"spec: {{parentRefs: [{{name: edge}}], hostnames: [{host}], rules: {refs}}}}}"
        )
    assert service(ask(model, "https://a.secure.com/")) == "one"
    answer = ask(model, "https://raw.secure.com/%2Fany")
    assert (service(answer), answer.listener, answer.route) == (
        "two",
        "through",
        ObjectKey("TLSRoute", "default", "raw"),
    )
    assert service(ask(model, "https://a.org/")) == "three"
    assert ask(model, "https://b.org/").outcome == "close"
    # On a connection for the HTTPS listener, the host of a TLS listener is misdirected.
    misdirected = ask(model, "https://a.secure.com/", host="raw.secure.com")
    assert (misdirected.outcome, misdirected.status) == ("respond", 421)


def test_a_destination_outside_counts_its_endpoints(model: Model) -> None:
    model.apply("{kind: Backend, metadata: {name: shop}, spec: {endpoints: [{ip: {address: 203.0.113.7, port: 80}}]}}")
    ref = "{group: fairlead.dev, kind: Backend, name: shop}"
    model.apply(route("outside", "outside.example.com", f"{{backendRefs: [{ref}]}}"))
    answer = ask(model, "http://outside.example.com/")
    assert [(share.ref, share.endpoints, share.problem) for share in answer.backends] == [
        ("Backend default/shop", 1, "")
    ]


def test_a_rule_whose_authorizer_cannot_be_had_answers_500(model: Model) -> None:
    asked = "externalAuth: {protocol: HTTP, http: {}, backendRef: {name: NAME, port: 80}}"
    rule = to("one", more=f", filters: [{{type: ExternalAuth, {asked}}}]")
    model.apply(route("judged", "judged.com", rule.replace("NAME", "two")))
    assert service(ask(model, "http://judged.com/")) == "one"
    model.apply(route("judged", "judged.com", rule.replace("NAME", "nobody")))
    answer = ask(model, "http://judged.com/")
    assert (answer.outcome, answer.status) == ("respond", 500)
    assert "no authorizer: Service default/nobody does not exist" in answer.why


def test_the_endpoints_of_a_subset_are_counted_with_those_that_take_over(model: Model) -> None:
    ends = ", ".join(f"{{address: 10.0.0.{at}, labels: {{is: {name}}}}}" for at, name in enumerate("abb", 1))
    model.apply(f"{{kind: Service, metadata: {{name: own}}, spec: {{ports: [{{port: 80}}], endpoints: [{ends}]}}}}")
    model.apply(route("r", "a.org", "{backendRefs: [{group: fairlead.dev, kind: ServiceSubset, name: s, port: 80}]}"))

    def counted(spec: str) -> tuple[int, str]:
        model.apply(f"{{kind: ServiceSubset, metadata: {{name: s}}, spec: {{service: own, {spec}}}}}")
        (share,) = ask(model, "http://a.org/").backends
        return share.endpoints, share.problem

    nobody = (0, "It has no endpoints: requests answer 503.")
    assert counted("labels: {is: a}") == (1, "")
    assert counted("labels: {is: c}, fallback: [{labels: {is: d}}]") == nobody
    assert counted("labels: {is: a}, fallback: [{labels: {is: b}}]") == (3, "")
    assert counted("labels: {is: c}") == nobody
    targets = "targetRefs: [{group: fairlead.dev, kind: ServiceSubset, name: s}]"
    balancer = "loadBalancer: {subsetFallback: AnyEndpoint}"
    model.apply(f"{{kind: TrafficPolicy, metadata: {{name: p}}, spec: {{{targets}, {balancer}}}}}")
    assert counted("labels: {is: c}") == (3, "")


def test_those_that_take_over_are_told_and_a_service_without_endpoints_has_no_problem_while_they_have_some(
    model: Model,
) -> None:
    model.discover("empty")
    model.apply(route("empty", "empty.org", to("empty")))
    policy = "{kind: TrafficPolicy, metadata: {name: p}, spec: {targetRefs: [{kind: Service, name: empty}], failover: "

    def told(url: str = "http://empty.org/") -> tuple[tuple[str, ...], str]:
        (share,) = ask(model, url).backends
        return share.successors, share.problem

    nobody = "It has no endpoints: requests answer 503."
    assert told() == ((), nobody)
    model.apply(f"{policy}{{backendRefs: [{{name: gone}}, {{name: two}}]}}}}}}")
    assert told() == (("Service default/two:80",), "")
    affinity = "sessionAffinity: {cookie: {name: c}}"
    target = "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: empty}]"
    model.apply(f"{{kind: RoutePolicy, metadata: {{name: p}}, spec: {{{target}, {affinity}}}}}")
    assert told() == ((), nobody)
    model.delete("RoutePolicy", "p")
    model.apply(f"{policy}{{backendRefs: [{{name: gone}}]}}}}}}")
    assert told() == ((), nobody)
