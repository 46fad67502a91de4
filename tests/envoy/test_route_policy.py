"""What RoutePolicies do to requests: a real Envoy with what translation makes, real backends, real requests."""

from __future__ import annotations

import gzip
import http.client
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mesh.explain import explain
from mesh.gateways import GatewayKey
from mesh.tables import Engine
from tests.support.model import declared, objects
from tests.support.routing import EDGE, Server, backend_server, document, gateway, get, route, service, serving
from tests.support.static_envoy import free_port
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy

LONG = "/" + "a" * 200


def policy(rule: str = "", **spec: Any) -> str:
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
    return document(
        "RoutePolicy",
        rule or "policy",
        {"targetRefs": [{**target, **({"sectionName": rule} if rule else {})}], **spec},
    )


def rules(*names: str) -> str:
    """A rule for each name, chosen by the header `rule`."""
    return "".join(
        f"\n  - name: {name}\n    matches: [{{headers: [{{name: rule, value: {name}}}]}}]\n"
        "    backendRefs: [{name: echo, port: 80}]"
        for name in names
    )


def raw(
    port: int, path: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """An answer as it is; underscores in header names stand for dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body or None, headers={"host": "a.example.com", **sent})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def counted(directory: Path, name: str) -> int:
    """What the Envoy of a directory counts under names that end so."""
    with urllib.request.urlopen(f"http://{(directory / 'admin').read_text()}/stats?usedonly", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(line.rpartition(":")[2]) for line in lines if f".{name}:" in line)


@pytest.mark.shows("RoutePolicy.faultInjection", "delay.fixed", "delay.percent", "abort.httpStatus", "abort.percent")
def test_a_share_of_the_requests_is_delayed_and_no_other(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("slow", "plain"))
    fault = {"delay": {"fixed": "200ms", "percent": 30}}

    def took(rule: str) -> float:
        began = time.monotonic()
        assert get(port, "/", rule=rule)[0] == 200
        return time.monotonic() - began

    with serving(text + policy("slow", faultInjection=fault), tmp_path), ThreadPoolExecutor(40) as pool:
        slow = sum(seconds >= 0.19 for seconds in pool.map(took, ["slow"] * 1000))
        assert get(port, "/", rule="plain")[0] == 200
        delayed = counted(tmp_path, "fault.delays_injected")
    sigma = (1000 * 0.3 * 0.7) ** 0.5
    # On a busy machine one that merely waited its turn is slow too, so Envoy counts those that it delayed.
    # Its timers may go off a little early.
    assert abs(delayed - 300) < 5 * sigma
    assert slow >= delayed
    with serving(text + policy("slow", faultInjection={"abort": {"httpStatus": 503, "percent": 30}}), tmp_path):
        with ThreadPoolExecutor(8) as pool:
            aborted = sum(status == 503 for status in pool.map(lambda _: get(port, "/", rule="slow")[0], range(1000)))
        assert get(port, "/", rule="plain")[0] == 200
    assert abs(aborted - 300) < 5 * sigma


@pytest.mark.shows("RoutePolicy.faultInjection", "abort.grpcStatus", "abort.fromHeader", "headers.name")
def test_faults_can_be_asked_for_by_header(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("tested", "asked"))
    text += policy("tested", faultInjection={"abort": {"grpcStatus": 14}, "headers": [{"name": "x-fault"}]})
    text += policy("asked", faultInjection={"abort": {"fromHeader": True}})
    with serving(text, tmp_path):
        assert get(port, "/", rule="tested")[0] == 200
        assert get(port, "/", rule="tested", x_fault="1", content_type="application/grpc")[1]["grpc-status"] == "14"
        assert get(port, "/", rule="asked")[0] == 200
        assert get(port, "/", rule="asked", x_envoy_fault_abort_request="418")[0] == 418
        for bodiless in ("204", "205", "304", "0204", "+204", "204, 503"):
            assert get(port, "/", rule="asked", x_envoy_fault_abort_request=bodiless)[0] == 200


@pytest.mark.shows("RoutePolicy.directResponse", "status", "body", "contentType")
@pytest.mark.shows("RoutePolicy.redirect", "pattern", "substitution", "statusCode")
@pytest.mark.shows("RoutePolicy.targetRefs", "group", "kind", "name", "sectionName")
def test_the_proxy_answers_by_itself_or_sends_elsewhere(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("answered", "sent", "plain"))
    text += policy("answered", directResponse={"status": 203, "body": "100% ours", "contentType": "text/html"})
    text += policy("sent", redirect={"pattern": "^/old/(.*)$", "substitution": r"/new/\1", "statusCode": 308})
    with serving(text, tmp_path):
        status, headers, body = raw(port, "/", rule="answered")
        assert (status, headers["content-type"], body) == (203, "text/html", b"100% ours")
        status, headers, _ = raw(port, "/old/x?q=1", rule="sent")
        assert (status, headers["location"]) == (308, "http://a.example.com/new/x?q=1")
        assert {get(port, path, rule="sent")[0] for path in ("/", "/other", "/a/old/x", "/?/old/x")} == {200}
        assert get(port, "/", rule="plain")[0] == 200
    assert len(backend.seen) == 5


def test_what_is_sent_elsewhere_by_expression_is_of_the_rule_too(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    matches = {
        "prefix": "{path: {value: /p.x}}",
        "exact": "{path: {type: Exact, value: /e/old}}",
        "never": "{path: {type: Exact, value: /e/new}}",
        "regex": "{path: {type: RegularExpression, value: '/r/[a-z]+(/.*)?'}}",
    }
    text = gateway(port) + service("echo", backend.server_port)
    text += route(
        "".join(
            f"\n  - {{name: {name}, matches: [{match}], backendRefs: [{{name: echo, port: 80}}]}}"
            for name, match in matches.items()
        )
    )
    text += policy(redirect={"pattern": "/old", "substitution": "/there"})
    sent = {
        "/p.x/old": 302,
        "/p.x/old?q": 302,
        "/p.x/a/old/b?q=/old": 302,
        "/p.x?q=/old": 200,
        "/p.x": 200,
        "/p.xx/old": 404,
        "/p.x?/old": 200,
        "/pax/old": 404,
        "/e/old?q=1": 302,
        "/e/new?q=/old": 200,
        "/r/a/old?b": 302,
        "/r/a/b": 200,
        "/r/1/old": 404,
        "/r/1?/a/old": 404,
    }
    with serving(text, tmp_path):
        assert {path: get(port, path)[0] for path in sent} == sent


@pytest.mark.shows("RoutePolicy.rewrite", "path.pattern", "path.substitution", "host.fromHeader")
def test_paths_are_rewritten_by_expression_and_hosts_by_a_header(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("rewritten"))
    path = {"pattern": "^/([^/]+)/([^/]+)$", "substitution": r"/\2/\1"}
    with serving(text + policy(rewrite={"path": path, "host": {"fromHeader": "X-Tenant"}}), tmp_path):
        _, _, echoed = get(port, "/a/b?q=1", rule="rewritten", x_tenant="tenant.example.com")
        assert (echoed["path"], echoed["headers"]["host"]) == ("/b/a?q=1", "tenant.example.com")
        _, _, echoed = get(port, "/a", rule="rewritten")
        assert (echoed["path"], echoed["headers"]["host"]) == ("/a", "a.example.com")


@pytest.mark.shows("RoutePolicy.matchCookies", "name", "value")
def test_a_rule_is_for_requests_with_cookies_which_count_as_matches_of_headers(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    matches = {"all": "{}", "beta": "{}", "team": "{}", "header": "{headers: [{name: x-a, value: b}]}"}
    text = gateway(port) + service("echo", backend.server_port)
    text += route(
        "".join(
            f"\n  - name: {name}\n    matches: [{match}]\n    backendRefs: [{{name: echo, port: 80}}]\n    filters:\n"
            "    - type: ResponseHeaderModifier\n"
            f"      responseHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}"
            for name, match in matches.items()
        )
    )
    beta = {"name": "beta", "value": "y.s"}
    text += policy("beta", matchCookies=[beta]) + policy("team", matchCookies=[beta, {"name": "team"}])
    told = {
        "a=b": "all",
        "beta=y.s": "beta",
        "a=b; beta=y.s": "beta",
        "beta=y.s;a=b": "beta",
        "beta=yes": "all",
        "beta=y.s2": "all",
        "alphabeta=y.s": "all",
        "a=beta=y.s": "all",
        "team=red": "all",
        "team=; beta=y.s": "team",
        "beta=y.s; a=b; team=red": "team",
    }
    with serving(text, tmp_path):
        assert {cookie: get(port, "/", cookie=cookie)[1]["x-rule"] for cookie in told} == told
        assert get(port, "/")[1]["x-rule"] == "all"
        both = {"x_a": "b", "cookie": "beta=y.s"}
        assert get(port, "/", **both)[1]["x-rule"] == "beta"  # as many matches, and the first rule counts
    engine = Engine(TABLES)
    engine.commit([declared(each) for each in objects(text.rstrip().removesuffix("---"))])
    for cookie, rule in told.items():
        url = f"http://a.example.com:{port}/"
        said = explain(engine, GatewayKey("default", "edge"), method="GET", url=url, headers=[("cookie", cookie)])
        assert said.rule_name == rule, cookie


@pytest.mark.shows("RoutePolicy.rewrite.host", "fromPath.pattern", "fromPath.substitution", "fromBackend")
def test_hosts_are_taken_from_the_path_or_from_the_backend(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    named = {"endpoints": [{"fqdn": {"hostname": "localhost", "port": backend.server_port}}]}
    text = gateway(port) + service("echo", backend.server_port) + document("Backend", "named", named)
    outside = "[{group: fairlead.dev, kind: Backend, name: named}]"
    text += route(
        "\n  - {name: tenants, backendRefs: [{name: echo, port: 80}]}"
        f"\n  - {{name: out, matches: [{{path: {{value: /out}}}}], backendRefs: {outside}}}"
        "\n  - {name: in, matches: [{path: {value: /in}}], backendRefs: [{name: echo, port: 80}]}"
    )
    tenant = {"pattern": "/tenant/([a-z]+)(?:/.*)?$", "substitution": r"\1.example.org:80"}
    text += policy("tenants", rewrite={"host": {"fromPath": tenant}})
    text += policy("out", rewrite={"host": {"fromBackend": True}})
    text += policy("in", rewrite={"host": {"fromBackend": True}})
    hosts = {
        "/tenant/b/x?c=/d": "b.example.org:80",
        "/tenant/b": "b.example.org:80",
        "/tenant/B/x": "a.example.com",
        "/tenant?/x/tenant/b": "a.example.com",
        "/x/tenant/b": "a.example.com",
        "/": "a.example.com",
        "/out": "localhost",
        "/in": "a.example.com",
    }
    with serving(text, tmp_path):
        assert {path: get(port, path)[2]["headers"]["host"] for path in hosts} == hosts


@pytest.mark.shows("RoutePolicy.responseOverrides", "statuses", "status", "body", "contentType")
def test_answers_are_replaced_by_their_status(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("overridden"))
    overrides = [
        {"statuses": ["5xx"], "body": "sorry, 100% our fault", "contentType": "text/html"},
        {"statuses": ["503", "404"], "status": 200, "body": "%PROTOCOL%"},
    ]
    with serving(text + policy(responseOverrides=overrides), tmp_path):
        status, headers, body = raw(port, "/fail/500/always", rule="overridden")
        assert (status, headers["content-type"], body) == (500, "text/html", b"sorry, 100% our fault")
        status, headers, body = raw(port, "/fail/503/always", rule="overridden")
        assert (status, headers["content-type"], body) == (200, "text/plain", b"%PROTOCOL%")
        assert b"overridden" in raw(port, "/", rule="overridden")[2]


@pytest.mark.shows("RoutePolicy.compression", "algorithms")
def test_answers_are_compressed_as_the_client_likes_it(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("small", "new", "plain"))
    text += policy("new", compression={"algorithms": ["zstd"]})
    with serving(text + policy("small", compression={"algorithms": ["gzip", "brotli", "zstd"]}), tmp_path):
        browsers = {"accept_encoding": "gzip, deflate, br, zstd"}
        assert raw(port, LONG, rule="new", **browsers)[1]["content-encoding"] == "zstd"
        assert "content-encoding" not in raw(port, LONG, rule="new", accept_encoding="gzip, br")[1]
        for accepted, encoding in (("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("br;q=0.5, gzip;q=1", "gzip")):
            _, headers, body = raw(port, LONG, rule="small", accept_encoding=accepted)
            assert headers["content-encoding"] == encoding
            if encoding == "gzip":
                assert LONG.encode() in gzip.decompress(body)
        assert "content-encoding" not in raw(port, LONG, rule="small")[1]
        assert "content-encoding" not in raw(port, LONG, rule="plain", accept_encoding="gzip")[1]


@pytest.mark.shows("RoutePolicy.requestBuffer", "maxBytes")
def test_a_request_that_is_too_large_never_reaches_the_backend(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("buffered"))
    with serving(text + policy(requestBuffer={"maxBytes": 10}), tmp_path):
        assert raw(port, "/", "POST", b"x" * 11, rule="buffered")[0] == 413
        upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_key": "x" * 16}
        assert raw(port, "/", rule="buffered", **upgrade)[0] == 403  # and does not wait for ever to be whole
        assert backend.seen == []
        assert raw(port, "/", "POST", b"x" * 10, rule="buffered")[0] == 200


@pytest.mark.shows("RoutePolicy.headers.request", "set.name", "set.value", "remove")
@pytest.mark.shows("RoutePolicy.headers.response", "add.name", "add.value", "remove")
def test_headers_are_changed_and_commands_in_them_filled_in(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("changed"))
    headers = {
        "request": {"set": [{"name": "x-path", "value": "%REQ(:path)% 100%%"}], "remove": ["x-secret"]},
        "response": {"add": [{"name": "x-proto", "value": "%PROTOCOL%"}], "remove": ["x-envoy-upstream-service-time"]},
    }
    with serving(text + policy(headers=headers), tmp_path):
        _, answered, echoed = get(port, "/here", rule="changed", x_secret="s")
    assert echoed["headers"]["x-path"] == "/here 100%"
    assert "x-secret" not in echoed["headers"]
    assert answered["x-proto"] == "HTTP/1.1"
    assert "x-envoy-upstream-service-time" not in answered


@pytest.mark.shows("RoutePolicy.sessionAffinity", "cookie.name", "header")
def test_a_session_stays_at_its_endpoint(tmp_path: Path) -> None:
    port = free_port()
    with backend_server("one") as one, backend_server("two") as two:
        text = gateway(port) + service("echo", one.server_port, two.server_port) + route(rules("cookie", "header"))
        text += policy("cookie", sessionAffinity={"cookie": {"name": "sticky", "ttl": "1h"}})
        text += policy("header", sessionAffinity={"header": "x-session"})
        with serving(text, tmp_path):
            _, headers, first = get(port, "/", rule="cookie")
            cookie = headers["set-cookie"].partition(";")[0]
            assert cookie.startswith("sticky=")
            assert {get(port, "/", rule="cookie", cookie=cookie)[2]["who"] for _ in range(20)} == {first["who"]}
            assert {get(port, "/", rule="cookie")[2]["who"] for _ in range(40)} == {"one", "two"}
            _, headers, first = get(port, "/", rule="header")
            session = headers["x-session"]
            assert {get(port, "/", rule="header", x_session=session)[2]["who"] for _ in range(20)} == {first["who"]}


@pytest.mark.shows("RoutePolicy", "webSocket")
def test_a_route_can_refuse_websockets(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("plain", "refused"))
    asked = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_key": "x" * 16}
    with serving(text + policy("refused", webSocket=False), tmp_path):
        assert raw(port, "/", rule="refused", **asked)[0] == 403
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {name.replace("_", "-"): value for name, value in asked.items()}
        connection.request("GET", "/", headers={"host": "a.example.com", "rule": "plain", **headers})
        sock = connection.sock
        assert sock.recv(4096).startswith(b"HTTP/1.1 101")
        connection.close()


@pytest.mark.parametrize("sotw", [False, True], ids=["delta", "sotw"])
@pytest.mark.parametrize("hosts", ['["*.example.com", a.example.org]', "[]"], ids=["wildcard", "any"])
def test_what_a_route_asks_for_is_done_however_its_host_is_found(
    tmp_path: Path, backend: Server, hosts: str, *, sotw: bool
) -> None:
    port = free_port()
    session = "\n    sessionPersistence: {sessionName: mine}"
    text = (
        gateway(port)
        + service("echo", backend.server_port)
        + route(rules("all", "faulty", "kept") + session, hosts=hosts)
    )
    text += policy(
        "all",
        compression={"algorithms": ["gzip", "brotli"]},
        responseOverrides=[{"statuses": ["503"], "body": "sorry"}],
        requestBuffer={"maxBytes": 10},
        sessionAffinity={"cookie": {"name": "theirs"}},
    )
    text += policy("faulty", faultInjection={"abort": {"httpStatus": 418}})
    with serving(text, tmp_path, EDGE._replace(sotw=sotw)):
        for host in ("a.example.com", "A.Example.Com", "a.example.com:8080", "a.example.org", "A.example.org"):
            asked = {"host": host, "rule": "all"}
            _, headers, _ = raw(port, LONG, accept_encoding="br", **asked)
            assert (host, headers["content-encoding"]) == (host, "br")
            assert "theirs" in headers["set-cookie"]
            assert raw(port, "/fail/503/always", **asked)[2] == b"sorry"
            assert raw(port, "/", "POST", b"x" * 11, **asked)[0] == 413
            assert raw(port, "/", host=host, rule="faulty")[0] == 418
            assert "mine" in raw(port, "/", host=host, rule="kept")[1]["set-cookie"]
