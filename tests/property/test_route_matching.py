"""Route matching: a real Envoy with what translation makes answers every request as two oracles say.

One is `explain`, which shares the order of matches with translation; the other (`tests/support/matching_oracle`) shares
nothing with either and was written from the specification. Rules have no backends, so a request that matches is
answered 500 by Envoy itself, with a header that names the rule. The oracles know nothing of scopes: what they say is
what RDS would answer, and what is answered over SotW, by RDS.
"""

from __future__ import annotations

import http.client
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mesh.explain import Explanation, explain
from mesh.gateways import GatewayKey
from mesh.model import AUDIENCES, DECLARED, Audience, Connected, Declared, DeclaredKey
from mesh.tables import Change, Engine
from mesh.validation import validate
from tests.support.matching_oracle import Asked, WrittenRoute, rule_of
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import free_port, running
from xds.translate.offline import translated
from xds.translate.tables import TABLES

GATEWAY_API = "gateway.networking.k8s.io/v1"
EDGE = GatewayKey("default", "edge")

LISTENER_HOSTS = (None, "*.example.com", "*.a.example.com", "x.a.example.com", "*.org")
ROUTE_HOSTS = ("*.example.com", "*.a.example.com", "x.a.example.com", "y.example.com", "example.com", "b.org", "*.com")
HOSTS = (
    "example.com",
    "y.example.com",
    "Y.Example.COM",
    "x.a.example.com:8080",
    "X.a.example.com:99",
    "deep.z.a.example.com",
    "z.com",
    "b.org",
    "B.org:1",
    "c.org",
    "nowhere",
    "[::1]",
    "[::1]:80",
    "x:y.example.com:80",
    "-mixed-case",
)
PATHS = ("/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/A", "/n/12", "/a?q=1", "/a?q=2&q=1", "/a/b?r=77")
ESCAPED = ("/a%2Fb", "/%2fa?q=%2F", "/n%5C12")

path_matches = st.sampled_from(
    [
        {"type": "Exact", "value": "/a"},
        {"type": "Exact", "value": "/a/b"},
        {"type": "PathPrefix", "value": "/"},
        {"type": "PathPrefix", "value": "/a"},
        {"type": "PathPrefix", "value": "/a/b"},
        {"type": "PathPrefix", "value": "/a/"},
        {"type": "RegularExpression", "value": "/n/[0-9]+"},
        {"type": "RegularExpression", "value": "/a.*"},
    ]
)
header_matches = st.lists(
    st.sampled_from(
        [
            {"name": "X-One", "value": "1"},
            {"name": "x-two", "type": "RegularExpression", "value": "a|b"},
        ]
    ),
    unique_by=lambda match: match["name"],
    max_size=2,
)
query_matches = st.lists(
    st.sampled_from([{"name": "q", "value": "1"}, {"name": "r", "type": "RegularExpression", "value": "[0-9]+"}]),
    unique_by=lambda match: match["name"],
    max_size=1,
)
matches = st.fixed_dictionaries(
    {"path": path_matches, "headers": header_matches, "queryParams": query_matches},
    optional={"method": st.sampled_from(["GET", "POST"])},
)
rules = st.lists(st.lists(matches, max_size=2), min_size=1, max_size=2)
routes = st.lists(
    st.tuples(
        st.lists(st.sampled_from(ROUTE_HOSTS), unique=True, max_size=2),
        rules,
        st.integers(0, 2),
        st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", None]),
    ),
    min_size=1,
    max_size=5,
)
listeners = st.lists(st.sampled_from(LISTENER_HOSTS), unique=True, min_size=1, max_size=3)


_OLD = "2026-01-01T00:00:00Z"
_ONE_PATH = {"path": {"type": "PathPrefix", "value": "/a"}}
_LONG_PATH = {"path": {"type": "PathPrefix", "value": "/a/b"}}


@pytest.mark.envoy
@pytest.mark.parametrize("sotw", [False, True], ids=["delta", "sotw"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(listeners, routes)
@example([None], [(["*.example.com"], [[]], 0, None), (["y.example.com", "b.org"], [[]], 0, None)])
@example([None], [(["y.example.com"], [[]], 0, None), (["b.org"], [[]], 0, None)])
@example([None, "*.example.com"], [(["*.com"], [[]], 0, None), (["b.org"], [[]], 0, None)])
@example([None], [([], [[]], 0, None), (["y.example.com"], [[_ONE_PATH]], 0, None)])
@example(
    ["x.a.example.com"], [(["*.a.example.com"], [[_LONG_PATH]], 0, _OLD), (["x.a.example.com"], [[_ONE_PATH]], 0, None)]
)
@example(
    ["*.a.example.com"],
    [(["*.com"], [[_LONG_PATH]], 0, _OLD), ([], [[_LONG_PATH]], 0, _OLD), (["*.example.com"], [[]], 0, None)],
)
def test_envoy_answers_as_the_oracle_says(sotw: bool, listeners: list[str | None], routes: list[Any]) -> None:
    port = free_port()
    engine = Engine(TABLES)
    audience = Audience("gateway", *EDGE, sotw=sotw)
    declared = [_declared(each) for each in _objects(port, listeners, routes)]
    engine.commit([*declared, Change(AUDIENCES, audience, Connected())])
    assert engine.faults == {}
    resources = translated(engine, audience)
    bootstrap = static_bootstrap(resources, admin_port=0)
    with tempfile.TemporaryDirectory() as directory, running(bootstrap, Path(directory)):
        _compare(engine, port, listeners, routes)


def _compare(engine: Engine, port: int, listeners: list[str | None], routes: list[Any]) -> None:
    written = [
        WrittenRoute(f"r{number}", hosts, rules, listener if listener < len(listeners) else None, created)
        for number, (hosts, rules, listener, created) in enumerate(routes)
    ]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = ({}, {"x-one": "1"}, {"x-one": "1", "x-two": "b"})
    asked = itertools.product(("GET", "POST"), HOSTS, PATHS + ESCAPED, headers)
    for number, (method, host, path, sent) in enumerate(asked):
        if number % 4:  # a quarter of them is enough, and every example has other routes
            continue
        sent = {"host": host, "x-fairlead-scope": "http-1:b.org", "content-length": "0", **sent}
        said = explain(engine, EDGE, method=method, url=f"http://gateway:{port}{path}", headers=tuple(sent.items()))
        connection.request(method, path, headers=sent)
        response = connection.getresponse()
        response.read()
        got = (response.status, response.headers["x-rule"], response.headers["location"])
        assert got == _expected(said), (method, host, path, sent, said)
        if path not in ESCAPED:
            assert got[1] == rule_of(listeners, written, Asked(method, host, path, sent)), (method, host, path, sent)
    connection.close()


def _expected(said: Explanation) -> tuple[int, str | None, str | None]:
    if said.route is None:
        return said.status, None, said.location or None
    return 500, f"{said.route.name}/{said.rule}", None


def _objects(port: int, hostnames: list[str | None], routes: list[Any]) -> Iterator[dict[str, Any]]:
    yield {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": EDGE.name, "namespace": EDGE.namespace},
        "spec": {
            "gatewayClassName": "fairlead",
            "listeners": [
                {"name": f"l{number}", "port": port, "protocol": "HTTP", **({"hostname": host} if host else {})}
                for number, host in enumerate(hostnames)
            ],
        },
    }
    for number, (hosts, rules, listener, created) in enumerate(routes):
        name = f"r{number}"
        parent = {"name": EDGE.name}
        if listener < len(hostnames):
            parent["sectionName"] = f"l{listener}"
        yield {
            "apiVersion": GATEWAY_API,
            "kind": "HTTPRoute",
            "metadata": {
                "name": name,
                "namespace": EDGE.namespace,
                **({"creationTimestamp": created} if created else {}),
            },
            "spec": {
                "parentRefs": [parent],
                "hostnames": hosts,
                "rules": [
                    {"matches": matches, "filters": [_marked(f"{name}/{index}")]} for index, matches in enumerate(rules)
                ],
            },
        }


def _marked(rule: str) -> dict[str, Any]:
    modifier = {"set": [{"name": "x-rule", "value": rule}]}
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}


def _declared(document: dict[str, Any]) -> Change:
    checked = validate(document)
    assert checked.object is not None, checked.problems
    metadata = checked.object.metadata
    key = DeclaredKey(checked.object.kind, metadata.namespace, metadata.name, "files")
    return Change(DECLARED, key, Declared(checked.object))
