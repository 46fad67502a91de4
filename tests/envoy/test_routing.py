"""What routes do to requests: a real Envoy with what translation makes, real backends, real requests."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change, Engine
from tests.support.model import declared, objects
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import free_port, running
from xds.translate.offline import translated
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy

EDGE = Audience("gateway", "default", "edge")

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: fairlead
  listeners: [{{name: http, port: {port}, protocol: HTTP}}]
---
"""


class Backend(http.server.BaseHTTPRequestHandler):
    """Echoes the request as JSON; `/slow` takes a second, `/flaky` fails every other time."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, Any]]

    def do_GET(self) -> None:
        request = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}
        self.seen.append(request)
        if self.path.startswith("/slow"):
            time.sleep(1)
        status = 503 if self.path.startswith("/flaky") and len(self.seen) % 2 else 200
        body = json.dumps(request).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A backend on a port of its own."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), type("Handler", (Backend,), {"seen": self.seen}))


@pytest.fixture
def backend() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def service(name: str, *ports: int) -> str:
    endpoints = "".join(f"\n  - {{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in ports) or " []"
    return f"""
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: {name}}}
spec:
  ports: [{{name: http, port: 80}}]
  endpoints:{endpoints}
---
"""


def route(rules: str, *, hosts: str = "[a.example.com]", name: str = "route") -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: {hosts}
  rules:{rules}
---
"""


@contextlib.contextmanager
def serving(text: str, directory: Path, audience: Audience = EDGE) -> Iterator[None]:
    engine = Engine(TABLES)
    changes = [declared(each) for each in objects(text.rstrip().removesuffix("---"))]
    engine.commit([*changes, Change(AUDIENCES, audience, Connected())])
    assert engine.faults == {}
    with running(static_bootstrap(translated(engine, audience), admin_port=0), directory):
        yield


def get(port: int, path: str, host: str = "a.example.com", **headers: str) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"host": host, **headers})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    echoed = json.loads(body) if body.startswith(b"{") else None
    return response.status, {name.lower(): value for name, value in response.getheaders()}, echoed


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
    with serving(GATEWAY.format(port=port) + route(rules), tmp_path):
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
    text = GATEWAY.format(port=port) + service("echo", backend.server_port) + route(rules)
    with serving(text, tmp_path):
        for path, (_, rewritten, host) in cases.items():
            status, _, echoed = get(port, f"{path.rstrip('/')}/x?q=1")
            assert (status, echoed["path"], echoed["headers"]["host"]) == (200, rewritten, host)


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
    text = GATEWAY.format(port=port) + service("echo", backend.server_port) + route(rules, hosts='["*.example.com"]')
    with serving(text, tmp_path):
        sent = {"x-set": "old", "x-add": "a", "x-gone": "1", "x-fairlead-scope": "http-1:other"}
        sent |= {"x-forwarded-client-cert": "By=forged", "x-envoy-original-path": "/forged", "x-envoy-retry-on": "5xx"}
        status, headers, echoed = get(port, "/", **sent)
        got = echoed["headers"]
        assert (status, headers["x-answer"]) == (200, "%")
        assert (got["x-set"], got["x-add"]) == ("%REQ(cookie)% 100%", "b")
        deadline = time.monotonic() + 10
        while len(backend.seen) < 2:
            assert time.monotonic() < deadline, "the mirrored request did not arrive"
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
    text = GATEWAY.format(port=port) + service("echo", backend.server_port) + service("empty") + route(rules)
    with serving(text, tmp_path):
        counts = Counter(get(port, "/")[0] for _ in range(300))
        assert set(counts) == {200, 500, 503}
        assert min(counts.values()) > 50


def test_timeouts_end_requests_and_retries_hide_failures(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rules = """
  - matches: [{path: {value: /slow}}]
    timeouts: {request: 200ms}
    backendRefs: [{name: echo, port: 80}]
  - matches: [{path: {value: /flaky}}]
    retry: {codes: [503], attempts: 2}
    backendRefs: [{name: echo, port: 80}]
"""
    text = GATEWAY.format(port=port) + service("echo", backend.server_port) + route(rules)
    with serving(text, tmp_path):
        assert get(port, "/slow")[0] == 504
        backend.seen.clear()
        assert get(port, "/flaky")[0] == 200
        assert len(backend.seen) == 2


def test_an_endpoint_that_refuses_connections_is_hidden_by_another(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = GATEWAY.format(port=port) + service("echo", backend.server_port, free_port())
    with serving(text + route("\n  - backendRefs: [{name: echo, port: 80}]"), tmp_path):
        assert Counter(get(port, "/")[0] for _ in range(50)) == {200: 50}


def test_https_answers_421_for_hosts_of_other_listeners(tmp_path: Path) -> None:
    port = free_port()
    names = {"any": None, "wild": "*.example.com", "exact": "a.example.com", "org": "b.org"}
    listeners = "".join(
        f"\n  - {{name: {name}, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}"
        + (f", hostname: '{host}'}}" if host else "}")
        for name, host in names.items()
    )
    key, certificate = _certificate(tmp_path)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cert"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key},
    }
    gateway = GATEWAY.format(port=port).replace(f" [{{name: http, port: {port}, protocol: HTTP}}]", listeners)
    answer = "\n  - filters: [{type: RequestRedirect, requestRedirect: {hostname: %s.test}}]"
    text = f"{json.dumps(secret)}\n---\n{gateway}"
    for name in names:
        attached = route(answer % name, name=name, hosts="[]")
        text += attached.replace("{name: edge}", f"{{name: edge, sectionName: {name}}}")
    expected = {
        ("a.example.com", "a.example.com"): "exact",
        ("a.example.com", "x.example.com"): 421,
        ("a.example.com", "c.net"): 421,
        ("x.example.com", "x.example.com"): "wild",
        ("x.example.com", "a.example.com"): 421,
        ("x.example.com", "A.Example.com:443"): 421,
        ("x.example.com", "b.org"): 421,
        ("b.org", "b.org"): "org",
        ("b.org", "c.net"): 421,
        ("c.net", "c.net"): "any",
        ("c.net", "b.org"): 421,
        ("c.net", "y.example.com"): 421,
    }
    with serving(text, tmp_path):
        found = {(sni, host): _https(port, sni, host) for sni, host in expected}
        assert found == expected


def test_a_sidecar_routes_by_host_and_port_and_stands_before_its_workload(tmp_path: Path, backend: Server) -> None:
    egress, ingress = free_port(), free_port()
    audience = Audience("sidecar", "default", "echo", backend.server_port, ingress, egress)
    text = service("echo", backend.server_port).replace("name: http, port: 80", "name: http, port: 8080")
    with serving(text, tmp_path, audience):
        hosts = ("echo", "echo:8080", "echo.default", "echo.default.svc.cluster.local:8080", "ECHO", "echo:81", "x")
        assert [get(egress, "/", host=host)[0] for host in hosts] == [200, 200, 200, 200, 200, 404, 404]
        assert get(ingress, "/a//b/../c", host="whatever")[2]["path"] == "/a/c"


def _https(port: int, sni: str, host: str) -> int | str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(sni, port, timeout=10, context=context)
    connection._create_connection = lambda _at, *rest: _connect(port, *rest)  # type: ignore[attr-defined]
    connection.request("GET", "/", headers={"host": host})
    response = connection.getresponse()
    response.read()
    location = response.headers["location"]
    connection.close()
    return response.status if location is None else location.removeprefix("https://").partition(".test")[0]


def _connect(port: int, *rest: Any) -> Any:
    return socket.create_connection(("127.0.0.1", port), *rest)


def _certificate(directory: Path) -> tuple[str, str]:
    key, certificate = directory / "key.pem", directory / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=test"],
        check=True,
        capture_output=True,
    )
    return key.read_text(), certificate.read_text()
