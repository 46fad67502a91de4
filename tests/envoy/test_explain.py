"""What `explain` believes of paths, headers and redirects is what a real Envoy does with our configuration."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.explain import Explanation, explain
from mesh.gateways import GatewayKey
from mesh.model import Audience
from mesh.tables import Engine
from tests.support.model import declared, objects
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import free_port, running
from xds.translate.offline import translated
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy

EDGE = GatewayKey("default", "edge")

MATCHES = (
    "path: {value: /a/b}",
    "path: {value: /a}",
    "path: {type: Exact, value: /x}",
    "path: {value: /~t}",
    "path: {value: /u%7Cv}",
    "path: {type: RegularExpression, value: /r.x}",
    "headers: [{name: h, value: a}]",
    "headers: [{name: h, value: 'a, b'}]",
    "headers: [{name: host, value: b.org}]",
    "queryParams: [{name: q, value: a b}]",
    "queryParams: [{name: q, value: a%20b}]",
    "queryParams: [{name: q, value: first}]",
)
PATHS = (
    *(
        "/%61",
        "/%61/%62",
        "/x",
        "/x/",
        "/x?",
        "/a/../x",
        "/a/./b",
        "//a//b",
        "/a//../b",
        "/a\\b",
        "/a;b",
        "/a/b;c",
        "/abc",
    ),
    *("/%7Et", "/~t", "/u|v", "/u%7cv", "/u%7Cv", "/r%2Ex", "/rAx", "/r%0ax", "/..", "/a/..", "/a/%2e%2e", "/A"),
    *("/e%2ff?q=%2F", "/a/%2e%2e%2fx", "/a%5Cb", "/%2F..%2fa"),
    *("/?q=a%20b", "/?q=a+b", "/?q=first&q=second", "/?q=second&q=first", "/?Q=first", "/?&&q=first"),
)
HEADERS: tuple[tuple[tuple[str, str], ...], ...] = ((), (("h", "a"),), (("H", "b"), ("h", "a")), (("h", "a, b"),))
REDIRECTS = (
    "scheme: https",
    "hostname: c.org",
    "port: 8443",
    "scheme: https, port: 443",
    "scheme: https, hostname: c.org, statusCode: 301",
    "path: {type: ReplaceFullPath, replaceFullPath: /new}",
    "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}",
    "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}",
)


def gateway(port: int) -> str:
    listener = f"{{name: http, port: {port}, protocol: HTTP}}"
    return f"{{kind: Gateway, metadata: {{name: edge}}, spec: {{gatewayClassName: fairlead, listeners: [{listener}]}}}}"


def route(name: str, host: str, rules: list[str]) -> str:
    """A route whose rules have no backends: Envoy itself answers, and says which rule it was."""
    marked = [
        f"{{{rule}, filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: "
        f"{{set: [{{name: x-rule, value: '{number}'}}]}}}}]}}"
        for number, rule in enumerate(rules)
    ]
    return made(name, host, marked)


def redirect(path: str, fields: str) -> str:
    """A rule that redirects what is under a path."""
    chosen = f"{{type: RequestRedirect, requestRedirect: {{{fields}}}}}"
    return f"{{matches: [{{path: {{value: {path}}}}}], filters: [{chosen}]}}"


def made(name: str, host: str, rules: list[str]) -> str:
    spec = f"{{parentRefs: [{{name: edge}}], hostnames: ['{host}'], rules: [{', '.join(rules)}]}}"
    return f"{{kind: HTTPRoute, metadata: {{name: {name}}}, spec: {spec}}}"


def ask(port: int, path: str, headers: list[tuple[str, str]]) -> http.client.HTTPResponse:
    """Send a request exactly as written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def answer(said: Explanation) -> tuple[int, str | None, str | None]:
    rule = str(said.rule) if said.route is not None and said.outcome == "respond" else None
    return said.status, rule, said.location or None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, int]]:
    port = free_port()
    redirects = [redirect(f"/r{number}", fields) for number, fields in enumerate(REDIRECTS)]
    texts = (
        gateway(port),
        route("matches", "b.org", [f"matches: [{{{match}}}]" for match in MATCHES]),
        made("redirects", "redirect.org", redirects),
    )
    engine = Engine(TABLES)
    engine.commit([declared(item) for text in texts for item in objects(text)])
    assert engine.faults == {}
    bootstrap = static_bootstrap(translated(engine, Audience("gateway", *EDGE)), admin_port=0)
    directory: Path = tmp_path_factory.mktemp("envoy")
    with running(bootstrap, directory):
        yield engine, port


def test_envoy_normalises_paths_and_matches_headers_and_parameters_as_explain_says(served: tuple[Engine, int]) -> None:
    engine, port = served
    for path, sent, host in itertools.product(PATHS, HEADERS, ("b.org", "B.org", "b.org:80", "b.org.")):
        headers = [("host", host), *sent]
        said = explain(engine, EDGE, method="GET", url=f"http://gateway:{port}{path}", headers=headers)
        got = ask(port, path, headers)
        assert (got.status, got.headers["x-rule"], got.headers["location"]) == answer(said), (path, headers, said)


def test_envoy_redirects_to_where_explain_says(served: tuple[Engine, int]) -> None:
    engine, port = served
    for number, rest in itertools.product(range(len(REDIRECTS)), ("", "/", "/more?q=1")):
        path = f"/r{number}{rest}"
        host = f"redirect.org:{port}"
        said = explain(engine, EDGE, method="GET", url=f"http://{host}{path}")
        got = ask(port, path, [("host", host)])
        assert said.outcome == "redirect"
        assert (got.status, got.headers["location"]) == (said.status, said.location), (path, REDIRECTS[number])
