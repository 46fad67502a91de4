"""The ExternalAuth filter at a real Envoy with real authorizers: only what they let through reaches the backend."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from fairlead.processes import Children
from mesh.kinds import KINDS
from tests.support.authorizers import CheckResponse, GrpcAuthorizer, HttpAuthorizer, http_authorizer
from tests.support.programs import start_envoy, start_serve
from tests.support.routing import EDGE, document, gateway, route, send, service, serving
from tests.support.static_envoy import free_port
from tests.support.traffic import Traffic

pytestmark = pytest.mark.envoy


@pytest.fixture
def echo() -> Iterator[HttpAuthorizer]:
    """A backend that reads whole requests and keeps them; an authorizer over HTTP is just that."""
    with http_authorizer() as server:
        yield server


@pytest.fixture
def judge() -> Iterator[HttpAuthorizer]:
    """An authorizer over HTTP."""
    with http_authorizer() as server:
        yield server


@pytest.fixture
def grpc_judge() -> Iterator[GrpcAuthorizer]:
    """An authorizer over gRPC."""
    with GrpcAuthorizer() as server:
        yield server


def rule(asked: str, *, protocol: str = "HTTP", more: str = "", path: str = "/") -> str:
    """A rule with a judge; `asked` is the filter's own as YAML, `more` further fields of the rule."""
    return f"""
  - matches: [{{path: {{value: {path}}}}}]
    filters:
    - {{type: ExternalAuth, externalAuth: {{protocol: {protocol}, backendRef: {{name: judge, port: 80}}, {asked}}}}}
    backendRefs: [{{name: echo, port: 80}}]{more}"""


def text(port: int, echo: HttpAuthorizer, judge: int, rules: str, *, hosts: str = "[a.example.com]") -> str:
    """A gateway whose route asks a judge on a port."""
    services = service("echo", echo.server_port) + service("judge", judge)
    return gateway(port) + services + route(rules, hosts=hosts)


def ask(
    port: int, path: str = "/x?q=1", method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own; underscores in names stand for dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = {"host": "a.example.com"} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_an_authorizer_over_http_lets_a_request_pass_and_says_whose_it_is(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer
) -> None:
    port = free_port()
    rules = rule("http: {path: /check/, allowedHeaders: [X-Tenant], allowedResponseHeaders: [X-User]}")
    judge.headers = {"x-user": "alice", "x-other": "1"}
    with serving(text(port, echo, judge.server_port, rules), tmp_path):
        sent = {"authorization": "Basic abc", "x_tenant": "blue", "cookie": "secret=1", "x_user": "mallory"}
        assert ask(port, "/x/../y%2e?q=1", "POST", b"hello", **sent)[0] == 200
    (asked,) = judge.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/check/y.?q=1", b"")
    assert asked.headers["host"] == "a.example.com"
    assert asked.headers["content-length"] == "0"
    assert (asked.headers["authorization"], asked.headers["x-tenant"]) == ("Basic abc", "blue")
    assert {"cookie", "x-user", "content-type"} & set(asked.headers) == set()
    (seen,) = echo.asked
    assert (seen.headers["x-user"], seen.headers["cookie"], seen.body) == ("alice", "secret=1", b"hello")
    assert "x-other" not in seen.headers


def test_whoever_an_authorizer_over_http_refuses_gets_its_own_answer(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer
) -> None:
    port = free_port()
    judge.status, judge.body, judge.headers = 401, b"who are you?", {"www-authenticate": "Basic"}
    with serving(text(port, echo, judge.server_port, rule("http: {}")), tmp_path):
        status, headers, body = ask(port)
        assert (status, headers["www-authenticate"], body) == (401, "Basic", b"who are you?")
        judge.status, judge.headers, judge.body = 302, {"location": "https://login.example.com/"}, b""
        status, headers, _ = ask(port)
        assert (status, headers["location"]) == (302, "https://login.example.com/")
        judge.status = 204  # anything but 200 is a refusal
        assert ask(port)[0] == 204
    assert len(judge.asked) == 3
    assert echo.asked == []


def test_nothing_of_an_authorizers_own_answer_is_said_of_the_request(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer
) -> None:
    """Its Content-Length on the request would let a client smuggle a second one behind the first."""
    port = free_port()
    judge.body = b"hi"
    own = {"host": "evil.test", "content-type": "text/evil", "connection": "x-user", "server": "judge"}
    judge.headers = {**own, "content-length": "2", "x-user": "alice", "x-envoy-upstream-rq-timeout-ms": "1"}
    body = b"xxGET /smuggled HTTP/1.1\r\nhost: a.example.com\r\n\r\n"
    with serving(text(port, echo, judge.server_port, rule("http: {}")), tmp_path):
        assert ask(port, method="POST", body=body, content_type="text/plain")[0] == 200
    (seen,) = echo.asked
    assert seen.body == body
    assert (seen.headers["host"], seen.headers["content-type"]) == ("a.example.com", "text/plain")
    assert seen.headers["x-user"] == "alice"
    assert {"server", "x-envoy-upstream-rq-timeout-ms"} & set(seen.headers) == set()


def test_a_client_cannot_say_what_the_authorizer_should(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer
) -> None:
    port = free_port()
    rules = rule("http: {allowedResponseHeaders: [X-User]}", path="/unseen")
    rules += rule("http: {allowedHeaders: [X-User], allowedResponseHeaders: [X-User]}", path="/seen")
    with serving(text(port, echo, judge.server_port, rules), tmp_path):
        for path in ("/unseen", "/seen"):
            for name in ("x-user", "X-USER"):
                request = f"GET {path} HTTP/1.1\r\nHost: a.example.com\r\n{name}: mallory\r\n{name}: eve\r\n"
                assert send(port, f"{request}Connection: close\r\n\r\n".encode())[0] == 200
    assert [seen.headers.get("x-user") for seen in echo.asked[:2]] == [None, None]
    assert all("eve" in seen.headers["x-user"] for seen in (*echo.asked[2:], *judge.asked[2:]))


def test_a_body_is_judged_whole_or_not_at_all(tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer) -> None:
    port = free_port()
    with serving(text(port, echo, judge.server_port, rule("http: {}, forwardBody: {maxSize: 100}")), tmp_path):
        assert ask(port, method="POST", body=b"\xff" * 100)[0] == 200
        assert ask(port, method="GET")[0] == 200
        assert ask(port, method="POST", body=b"x" * 101)[0] == 413
        assert ask(port, method="PUT", body=b"x" * 200_000)[0] == 413
    assert [(one.body, one.headers["content-length"]) for one in judge.asked] == [(b"\xff" * 100, "100"), (b"", "0")]
    assert [one.body for one in echo.asked] == [b"\xff" * 100, b""]


def test_an_authorizer_over_grpc_lets_a_request_pass_and_says_whose_it_is(
    tmp_path: Path, echo: HttpAuthorizer, grpc_judge: GrpcAuthorizer
) -> None:
    port = free_port()
    rules = rule("grpc: {}, forwardBody: {maxSize: 100}", protocol="GRPC", path="/all")
    rules += rule("grpc: {allowedHeaders: [X-Tenant]}", protocol="GRPC", path="/few")
    grpc_judge.grant(x_user="alice", host="evil.test", content_length="1")
    sent = {"x_tenant": "blue", "cookie": "secret=1", "x_envoy_auth_partial_body": "forged"}
    with serving(text(port, echo, grpc_judge.port, rules), tmp_path):
        assert ask(port, "/all?q=1", "POST", b"\xff\x00", **sent)[0] == 200
        assert ask(port, "/all", "POST", b"x" * 101, **sent)[0] == 413
        assert ask(port, "/few", "POST", b"hello", **sent)[0] == 200
    every, few = grpc_judge.asked
    assert (every.method, every.path, every.host, every.raw_body) == ("POST", "/all?q=1", "a.example.com", b"\xff\x00")
    assert (every.headers["cookie"], every.headers["x-envoy-auth-partial-body"]) == ("secret=1", "false")
    assert few.headers["x-tenant"] == "blue"
    assert {"cookie", "x-envoy-auth-partial-body"} & set(few.headers) == set()
    assert (few.raw_body, few.body) == (b"", "")
    assert [one.headers["x-user"] for one in echo.asked] == ["alice", "alice"]
    assert [(one.headers["host"], one.body) for one in echo.asked] == [
        ("a.example.com", b"\xff\x00"),
        ("a.example.com", b"hello"),
    ]


def test_whoever_an_authorizer_over_grpc_refuses_gets_its_own_answer(
    tmp_path: Path, echo: HttpAuthorizer, grpc_judge: GrpcAuthorizer
) -> None:
    port = free_port()
    grpc_judge.refuse(402, "pay first", x_price="1")
    with serving(text(port, echo, grpc_judge.port, rule("grpc: {}", protocol="GRPC")), tmp_path):
        status, headers, body = ask(port)
        assert (status, headers["x-price"], body) == (402, "1", b"pay first")
        answer = CheckResponse()
        answer.status.code = 16
        grpc_judge.answer = answer.SerializeToString()
        assert ask(port)[0] == 403
    assert echo.asked == []


@contextmanager
def babbling(said: bytes) -> Iterator[int]:
    """A server on a port that answers whatever comes with some bytes, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def babble() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(said)

        thread = threading.Thread(target=babble)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("protocol", ["HTTP", "GRPC"])
@pytest.mark.parametrize("said", [b"", b"\x00\xff" * 500, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"])
def test_nothing_passes_where_the_authorizer_hangs_up_or_answers_garbage(
    tmp_path: Path, echo: HttpAuthorizer, protocol: str, said: bytes
) -> None:
    port = free_port()
    with babbling(said) as judge:
        rules = rule(f"{protocol.lower()}: {{}}", protocol=protocol, more="\n    timeouts: {request: 5s}")
        with serving(text(port, echo, judge, rules), tmp_path):
            assert [ask(port)[0] for _ in range(3)] == [503] * 3
    assert echo.asked == []


def test_nothing_passes_where_what_a_grpc_authorizer_says_makes_no_sense(
    tmp_path: Path, echo: HttpAuthorizer, grpc_judge: GrpcAuthorizer
) -> None:
    port = free_port()
    with serving(text(port, echo, grpc_judge.port, rule("grpc: {}", protocol="GRPC")), tmp_path):
        grpc_judge.answer = b"\x0a\xff\xff\xff"
        assert ask(port)[0] == 503
        grpc_judge.grant(x_user="alice\r\nx-admin: yes")
        assert ask(port)[0] == 500
        grpc_judge.grant(**{"not a name": "x"})
        assert ask(port)[0] == 500
    assert echo.asked == []


def test_a_body_that_comes_while_the_authorizer_thinks_is_counted(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer
) -> None:
    port = free_port()
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
    limit = document("RoutePolicy", "limit", {"targetRefs": [target], "requestBuffer": {"maxBytes": 10}})
    with serving(text(port, echo, judge.server_port, rule("http: {}")) + limit, tmp_path):
        assert ask(port, method="POST", body=b"x" * 11)[0] == 413
        assert judge.asked == []
        assert ask(port, method="POST", body=b"x" * 10)[0] == 200
    assert [one.body for one in echo.asked] == [b"x" * 10]


@pytest.mark.parametrize("protocol", ["HTTP", "GRPC"])
def test_nothing_passes_where_the_authorizer_is_down_or_slow(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer, grpc_judge: GrpcAuthorizer, protocol: str
) -> None:
    port, closed = free_port(), free_port()
    config = f"{protocol.lower()}: {{}}"
    slow = judge.server_port if protocol == "HTTP" else grpc_judge.port
    limit = "\n    timeouts: {request: 300ms}"
    rules = rule(config, protocol=protocol, more=limit, path="/slow")
    rules += rule(config.replace("judge", "gone"), protocol=protocol, path="/down").replace("name: judge", "name: gone")
    rules += rule(config, protocol=protocol, path="/empty").replace("name: judge", "name: empty")
    more = service("gone", closed) + service("empty")
    for server in (judge, grpc_judge):
        server.released.clear()
    with serving(more + text(port, echo, slow, rules), tmp_path):
        assert [ask(port, path)[0] for path in ("/slow", "/down", "/empty")] == [503] * 3
        for _ in range(5):  # clients that go away in the middle of the question
            with socket.create_connection(("127.0.0.1", port)) as gone:
                gone.sendall(b"GET /slow HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
        for server in (judge, grpc_judge):
            server.released.set()
        assert ask(port, "/slow")[0] == 200
    assert [one.path for one in echo.asked] == ["/slow"]


@pytest.mark.parametrize("sotw", [False, True], ids=["delta", "sotw"])
@pytest.mark.parametrize("hosts", ['["*.example.com", a.example.org]', "[]"], ids=["wildcard", "any"])
def test_no_spelling_of_a_host_goes_past_the_authorizer(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer, hosts: str, *, sotw: bool
) -> None:
    port = free_port()
    judge.status = 403
    config = text(port, echo, judge.server_port, rule("http: {}"), hosts=hosts)
    with serving(config, tmp_path, EDGE._replace(sotw=sotw)):
        for host in ("a.example.com", "A.Example.Com", "a.example.com:1", "a.example.org", "A.example.org", "a.b."):
            assert ask(port, host=host)[0] in (403, 404), host
        for path in ("//x", "/./x", "/x/..", "/%2e%2e/x", "/x;a=b", "/*"):
            assert ask(port, path)[0] in (403, 404), path
        upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_key": "a" * 22 + "=="}
        assert ask(port, **upgrade, sec_websocket_version="13")[0] == 403
    assert echo.asked == []


def test_the_authorizer_is_asked_only_where_a_rule_says_so_and_before_a_redirect(
    tmp_path: Path, echo: HttpAuthorizer, judge: HttpAuthorizer
) -> None:
    port = free_port()
    judge.status = 403
    moved = "{type: RequestRedirect, requestRedirect: {hostname: b.example.com}}"
    rules = rule("http: {}", path="/moved").replace("    backendRefs: [{name: echo, port: 80}]", f"    - {moved}")
    rules += "\n  - matches: [{path: {value: /open}}]\n    backendRefs: [{name: echo, port: 80}]"
    cors = document(
        "HTTPRoute",
        "cors",
        {
            "parentRefs": [{"name": "edge"}],
            "hostnames": ["cors.example.com"],
            "rules": [
                {
                    "filters": [
                        {"type": "CORS", "cors": {"allowOrigins": ["https://app.example.com"]}},
                        {
                            "type": "ExternalAuth",
                            "externalAuth": {
                                "protocol": "HTTP",
                                "backendRef": {"name": "judge", "port": 80},
                                "http": {},
                            },
                        },
                    ],
                    "backendRefs": [{"name": "echo", "port": 80}],
                }
            ],
        },
    )
    with serving(cors + text(port, echo, judge.server_port, rules), tmp_path):
        assert ask(port, "/open")[0] == 200
        assert judge.asked == []
        preflight = {"origin": "https://app.example.com", "access_control_request_method": "GET"}
        assert ask(port, "/", "OPTIONS", host="cors.example.com", **preflight)[0] == 200
        assert judge.asked == []
        assert ask(port, "/", host="cors.example.com")[0] == 403
        assert ask(port, "/moved")[0] == 403
        judge.status = 200
        assert ask(port, "/moved")[0] == 302


def test_an_authorizer_comes_and_goes_and_no_listener_changes_and_no_request_fails(
    children: Children, echo: HttpAuthorizer, judge: HttpAuthorizer
) -> None:
    port = free_port()
    folder = children.folder / "config"
    folder.mkdir()
    judged = text(port, echo, judge.server_port, rule("http: {allowedHeaders: [x-who]}"))
    plain = text(port, echo, judge.server_port, "\n  - backendRefs: [{name: echo, port: 80}]")

    def write(said: str) -> None:
        found = [each for each in yaml.safe_load_all(said) if each]
        documents = ({"apiVersion": KINDS[each["kind"]].api_version, **each} for each in found)
        (folder / "new").write_text("\n---\n".join(json.dumps(each) for each in documents))
        (folder / "new").replace(folder / "all.yaml")

    def one() -> str:
        try:
            status, _, body = ask(port, x_who="traffic")
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        return "" if status == 200 else f"{status} {body.decode()}"

    write(plain)
    program = start_serve(children, "--files", str(folder))
    envoy = start_envoy(children, "gateway", "edge", xds=program.xds)
    children.wait_until(lambda: one() == "", what="the gateway to serve")
    before = envoy.stat("listener_manager.listener_create_success"), envoy.stat("listener_manager.listener_modified")
    with Traffic(one, pause=0.002) as traffic:
        for _ in range(5):
            write(judged)
            children.wait_until(lambda: len(judge.asked) > 0, what="the authorizer to be asked")
            write(plain)
            children.wait_until(lambda: not _asked_again(port, judge), what="the authorizer not to be asked")
            judge.asked.clear()
    assert traffic.requests > 50
    assert traffic.failures == []
    assert before == (
        envoy.stat("listener_manager.listener_create_success"),
        envoy.stat("listener_manager.listener_modified"),
    )


def _asked_again(port: int, judge: HttpAuthorizer) -> bool:
    """Whether a request of ours is judged."""
    before = len(judge.asked)
    ask(port, x_who="me")
    return any(one.headers.get("x-who") == "me" for one in judge.asked[before:])
