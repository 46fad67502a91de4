"""What routes do to requests: a real Envoy with what translation makes, real backends, real requests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.routing import Server, backend_server, gateway, get, route, service, serving, wait_until
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


def test_redirects_name_the_host_port_and_path_that_gateway_api_demands(tmp_path: Path) -> None:
    port = free_port()
    cases = {
        "/host": ("{hostname: b.example.com}", f"http://b.example.com:{port}/host/x?q=1", 302),
        "/scheme": ("{scheme: https, statusCode: 301}", "https://a.example.com:443/scheme/x?q=1", 301),
        "/both": ("{scheme: https, hostname: b.example.com}", "https://b.example.com/both/x?q=1", 302),
        "/port": ("{port: 8443, statusCode: 307}", "http://a.example.com:8443/port/x?q=1", 307),
        "/full": (
            "{path: {type: ReplaceFullPath, replaceFullPath: /new}, statusCode: 308}",
            f"http://a.example.com:{port}/new?q=1",
            308,
        ),
        "/prefix": (
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}, statusCode: 303}",
            f"http://a.example.com:{port}/new/x?q=1",
            303,
        ),
        "/strip": (
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}",
            f"http://a.example.com:{port}/x?q=1",
            302,
        ),
    }
    rules = "".join(
        f"\n  - matches: [{{path: {{value: {path}}}}}]\n"
        f"    filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]"
        for path, (redirect, _, _) in cases.items()
    )
    with serving(gateway(port) + route(rules), tmp_path):
        for path, (_, location, status) in cases.items():
            answer = get(port, f"{path}/x?q=1", host="a.example.com:9999")
            assert (answer[0], answer[1]["location"]) == (status, location)


def test_rewrites_give_the_backend_another_host_and_path(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    cases = {
        "/host": ("{hostname: inside.example.com}", "/host/x?q=1", "inside.example.com"),
        "/full": ("{path: {type: ReplaceFullPath, replaceFullPath: '/a\\1'}}", "/a\\1?q=1", "a.example.com"),
        "/prefix": (
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}}",
            "/new/x?q=1",
            "a.example.com",
        ),
        "/strip": ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}", "/x?q=1", "a.example.com"),
        "/": ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /root}}", "/root/x?q=1", "a.example.com"),
    }
    rules = "".join(
        f"\n  - matches: [{{path: {{value: {path}}}}}]\n"
        f"    filters: [{{type: URLRewrite, urlRewrite: {rewrite}}}]\n"
        "    backendRefs: [{name: echo, port: 80}]"
        for path, (rewrite, _, _) in cases.items()
    )
    text = gateway(port) + service("echo", backend.server_port) + route(rules)
    with serving(text, tmp_path):
        for path, (_, rewritten, host) in cases.items():
            status, _, echoed = get(port, f"{path.rstrip('/')}/x?q=1")
            assert (status, echoed["path"], echoed["headers"]["host"]) == (200, rewritten, host)


def test_each_backend_can_be_given_a_path_and_host_of_its_own(tmp_path: Path, backend: Server) -> None:
    port = free_port()

    def to(name: str, path: str, more: str = "") -> str:
        return f"{{name: {name}, port: 80, filters: [{{type: URLRewrite, urlRewrite: {{path: {{{path}}}{more}}}}}]}}"

    full = "type: ReplaceFullPath, replaceFullPath: '/%22]]..os.exit(1)--~%5c'"
    prefix = "type: ReplacePrefixMatch, replacePrefixMatch: "
    cases = {
        "/full": (to("echo", full, ", hostname: in.example.com"), "/full/x?q=1?", "/%22]]..os.exit(1)--~%5c?q=1?"),
        "/prefix": (to("echo", f"{prefix}/new/"), "/prefix/x?q=/prefix", "/new/x?q=/prefix"),
        "/whole": (to("echo", f"{prefix}/new"), "/whole?q=1", "/new?q=1"),
        "/strip": (to("echo", f"{prefix}/"), "/strip//x?q=1", "/x?q=1"),
        "/bare": (to("echo", f"{prefix}''"), "/bare?q=1", "/?q=1"),
        "/": (to("echo", f"{prefix}/root"), "/x?q=1", "/root/x?q=1"),
    }
    rules = "".join(
        f"\n  - {{matches: [{{path: {{value: {path}}}}}], backendRefs: [{to}]}}" for path, (to, _, _) in cases.items()
    )
    rules += f"""
  - matches: [{{path: {{value: /split}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, replaceFullPath: /of-the-rule}}}}}}]
    backendRefs: [{to("echo", f"{prefix}/one")}, {{name: two, port: 80}}]"""
    with backend_server("two") as two:
        text = gateway(port) + service("echo", backend.server_port) + service("two", two.server_port) + route(rules)
        with serving(text, tmp_path):
            for path, (_, asked, arrived) in cases.items():
                status, _, echoed = get(port, asked)
                assert (path, status, echoed["path"]) == (path, 200, arrived)
                assert echoed["headers"]["host"] == ("in.example.com" if path == "/full" else "a.example.com")
            seen = {(echoed["who"], echoed["path"]) for _ in range(40) for _, _, echoed in [get(port, "/split/x")]}
            assert seen == {("echo", "/one/x"), ("two", "/of-the-rule")}


def test_header_modifiers_are_literal_and_the_scope_header_stays_inside(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rules = """
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-set, value: "%REQ(cookie)% 100%"}], add: [{name: x-add, value: b}]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-answer, value: "%"}]}
    - {type: RequestMirror, requestMirror: {backendRef: {name: echo, port: 80}}}
    backendRefs:
    - {name: echo, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-gone]}}]}
"""
    text = gateway(port) + service("echo", backend.server_port) + route(rules, hosts='["*.example.com"]')
    with serving(text, tmp_path):
        sent = {"x-set": "old", "x-add": "a", "x-gone": "1", "x-fairlead-scope": "http-1:other"}
        sent |= {"x-forwarded-client-cert": "By=forged", "x-envoy-original-path": "/forged", "x-envoy-retry-on": "5xx"}
        status, headers, echoed = get(port, "/", **sent)
        got = echoed["headers"]
        assert (status, headers["x-answer"]) == (200, "%")
        assert (got["x-set"], got["x-add"]) == ("%REQ(cookie)% 100%", "b")
        wait_until(lambda: len(backend.seen) == 2)
        strangers = {"x-fairlead-scope", "x-forwarded-client-cert", "x-envoy-original-path", "x-envoy-retry-on"}
        assert [sorted(strangers & set(request["headers"])) for request in backend.seen] == [[], []]
        assert "x-gone" not in got


def test_missing_and_empty_backends_answer_500_and_503_for_their_share(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rules = """
  - backendRefs:
    - {name: echo, port: 80, weight: 1}
    - {name: empty, port: 80, weight: 1}
    - {name: missing, port: 80, weight: 1}
"""
    text = gateway(port) + service("echo", backend.server_port) + service("empty") + route(rules)
    with serving(text, tmp_path):
        counts = Counter(get(port, "/")[0] for _ in range(300))
        assert set(counts) == {200, 500, 503}
        assert min(counts.values()) > 50


def test_weights_of_zero_get_nothing_and_the_rest_get_their_shares(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rules = """
  - backendRefs:
    - {name: heavy, port: 80, weight: 3}
    - {name: light, port: 80, weight: 1}
    - {name: none, port: 80, weight: 0}
    - {name: missing, port: 80, weight: 0}
"""
    with backend_server("light") as light, backend_server("none") as none:
        text = service("heavy", backend.server_port) + service("light", light.server_port)
        text += service("none", none.server_port) + gateway(port) + route(rules)
        with serving(text, tmp_path):
            counts = Counter(get(port, "/")[2]["who"] for _ in range(400))
    assert set(counts) == {"echo", "light"}
    assert 50 < counts["light"] < 150  # 100 expected, five standard deviations are 43


def test_answers_of_envoy_itself_tell_what_is_wrong(tmp_path: Path) -> None:
    port = free_port()
    extension = "{type: ExtensionRef, extensionRef: {group: x.org, kind: Guard, name: strict}}"
    rules = f"""
  - matches: [{{path: {{value: /missing}}}}]
    backendRefs: [{{name: missing, port: 80}}]
  - matches: [{{path: {{value: /empty}}}}]
    backendRefs: [{{name: empty, port: 80}}]
  - matches: [{{path: {{value: /nothing}}}}]
  - matches: [{{path: {{value: /weightless}}}}]
    backendRefs: [{{name: empty, port: 80, weight: 0}}]
  - matches: [{{path: {{value: /guarded}}}}]
    filters: [{extension}]
    backendRefs: [{{name: empty, port: 80}}]
  - matches: [{{path: {{value: /refusing}}}}]
    backendRefs: [{{name: refusing, port: 80}}]
"""
    text = gateway(port) + service("empty") + service("refusing", free_port()) + route(rules)
    expected = {
        "/missing": 500, "/empty": 503, "/nothing": 500, "/weightless": 500, "/guarded": 500, "/refusing": 503, "/": 404
    }  # fmt: skip
    with serving(text, tmp_path):
        assert {path: get(port, path)[0] for path in expected} == expected


@pytest.mark.parametrize(
    "timeouts", ["{request: 200ms}", "{backendRequest: 200ms}", "{request: 10s, backendRequest: 200ms}"]
)
def test_a_request_that_takes_too_long_is_answered_504(tmp_path: Path, backend: Server, timeouts: str) -> None:
    port = free_port()
    rule = f"\n  - timeouts: {timeouts}\n    backendRefs: [{{name: echo, port: 80}}]"
    with serving(gateway(port) + service("echo", backend.server_port) + route(rule), tmp_path):
        assert get(port, "/slow")[0] == 504
        assert len(backend.seen) == 1
        assert get(port, "/")[0] == 200


def test_each_try_of_a_retried_request_has_its_own_time(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rule = """
  - timeouts: {backendRequest: 100ms}
    retry: {attempts: 2, backoff: 1ms}
    backendRefs: [{name: echo, port: 80}]
"""
    with serving(gateway(port) + service("echo", backend.server_port) + route(rule), tmp_path):
        assert get(port, "/slow")[0] == 504
        assert len(backend.seen) == 3


def test_a_retry_hides_resets_and_the_codes_it_names_and_no_others(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rule = "\n  - retry: {codes: [500, 503], attempts: 2}\n    backendRefs: [{name: echo, port: 80}]"
    paths = {"/fail/503": (200, 2), "/fail/500": (200, 2), "/fail/502": (502, 1), "/reset": (200, 2)}
    paths["/fail/503/always"] = (503, 3)
    with serving(gateway(port) + service("echo", backend.server_port) + route(rule), tmp_path):
        for path, (status, tries) in paths.items():
            assert (path, get(port, path)[0]) == (path, status)
            assert (path, sum(request["path"] == path for request in backend.seen)) == (path, tries)


def test_without_a_retry_no_request_reaches_a_backend_twice(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port)
    with serving(text + route("\n  - backendRefs: [{name: echo, port: 80}]"), tmp_path):
        assert get(port, "/fail/503")[0] == 503
        assert get(port, "/reset")[0] == 503
        assert [request["path"] for request in backend.seen] == ["/fail/503", "/reset"]


def test_mirrors_send_a_copy_of_their_share_and_change_nothing(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 80}%s}}"
    rules = f"""
  - matches: [{{path: {{value: /all}}}}]
    filters: [{mirror % ("shadow", "")}, {mirror % ("missing", "")}]
    backendRefs: [{{name: echo, port: 80}}]
  - matches: [{{path: {{value: /half}}}}]
    filters: [{mirror % ("shadow", ", fraction: {numerator: 1, denominator: 2}")}]
    backendRefs: [{{name: echo, port: 80}}]
  - matches: [{{path: {{value: /none}}}}]
    filters: [{mirror % ("shadow", ", percent: 0")}]
    backendRefs: [{{name: echo, port: 80}}]
"""
    with backend_server("shadow") as shadow:
        text = gateway(port) + service("echo", backend.server_port) + service("shadow", shadow.server_port)
        with serving(text + route(rules), tmp_path):
            answers = {
                (got[0], got[2]["who"]) for path in ("/all", "/half", "/none") for got in _times(200, port, path)
            }
            wait_until(lambda: sum(request["path"] == "/all" for request in shadow.seen) == 200)
    assert answers == {(200, "echo")}
    counts = Counter(request["path"] for request in shadow.seen)
    assert counts["/all"] == 200
    assert 60 < counts["/half"] < 140
    assert "/none" not in counts
    assert {request["headers"]["host"] for request in shadow.seen} == {"a.example.com"}


def _times(count: int, port: int, path: str) -> list[tuple[int, dict[str, str], Any]]:
    return [get(port, path) for _ in range(count)]


def test_an_endpoint_that_refuses_connections_is_hidden_by_another(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port, free_port())
    with serving(text + route("\n  - backendRefs: [{name: echo, port: 80}]"), tmp_path):
        assert Counter(get(port, "/")[0] for _ in range(50)) == {200: 50}
