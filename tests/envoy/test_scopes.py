"""The way from a request to its routes: every spelling of a host gets the answer that one table of routes would give.

Over delta routes stand in scopes, over state-of-the-world in such a table. Clients choose Host, and everything else in
their requests; what they write must never choose a scope for them, and nothing of how scopes are chosen may show, in
answers or at backends.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import pytest

from fairlead.processes import Children
from mesh.model import Audience
from tests.support.grpc_echo import METHOD, SERVICE
from tests.support.routing import EDGE, Server, gateway, route, send, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

SCOPE = "x-fairlead-scope"


@pytest.fixture(params=[False, True], ids=["delta", "sotw"])
def edge(request: pytest.FixtureRequest) -> Audience:
    """The gateway over delta, with scopes, and over state-of-the-world, without."""
    return EDGE._replace(sotw=request.param)


def answering(name: str, hosts: str, *, parent: str = "{name: edge}") -> str:
    """A route that Envoy answers by itself, with its own name."""
    rule = f"\n  - filters: [{{type: RequestRedirect, requestRedirect: {{hostname: {name}.test}}}}]"
    return route(rule, name=name, hosts=hosts, parent=parent)


def who(port: int, host: str, *, version: str = "1.1", path: str = "/", more: str = "") -> int | str:
    """Which route answers, or the status where none does."""
    request = f"GET {path} HTTP/{version}\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"
    status, headers, _ = send(port, request.encode("latin-1"))
    location = headers.get("location")
    return status if location is None else location.removeprefix("http://").partition(".test")[0]


# What Envoy's own table of virtual hosts does with such a host: it compares without case, drops a port of digits at
# the end, and knows nothing of trailing dots or brackets.
HOSTS: dict[str, int | str] = {
    "a.example.com": "exact",
    "A.Example.COM": "exact",
    "a.example.com:8080": "exact",
    "A.example.com:8080": "exact",
    "a.example.com.": "any",
    "b.example.com": "wild",
    "B.EXAMPLE.com:1": "wild",
    "b.example.com.": "any",
    "x.b.example.com": "wild",
    "example.com": "any",
    "[::1]": "any",
    "[::1]:80": "any",
    "[FE80::1]": "any",
    "127.0.0.1:80": "any",
    "*": "any",
    "*.example.com": "wild",
    "a.example.com:80:80": "any",
    "http-1:a.example.com": "any",
    "-mixed-case": "any",
    "x" * 8_000: "any",
    "X" * 8_000: "any",
}


def test_every_spelling_of_a_host_gets_the_routes_of_that_host(tmp_path: Path, edge: Audience) -> None:
    port = free_port()
    routes = answering("exact", "[a.example.com]") + answering("wild", "['*.example.com']") + answering("any", "[]")
    with serving(gateway(port) + routes, tmp_path, edge):
        assert {host: who(port, host) for host in HOSTS} == HOSTS
        assert {host: who(port, host, version="1.0") for host in HOSTS} == dict.fromkeys(HOSTS, 426)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 426),
        (b"GET / HTTP/1.1\r\nHost: a.example.com\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a.example.com/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_requests_without_one_plain_host_are_refused(
    tmp_path: Path, edge: Audience, request_: bytes, status: int
) -> None:
    port = free_port()
    with serving(gateway(port) + answering("any", "[]"), tmp_path, edge):
        assert send(port, request_)[0] == status


def test_the_host_of_an_absolute_url_counts_and_not_the_header(tmp_path: Path, edge: Audience) -> None:
    port = free_port()
    with serving(gateway(port) + answering("exact", "[a.example.com]") + answering("any", "[]"), tmp_path, edge):
        assert who(port, "b.org", path="http://a.example.com/") == "exact"
        assert who(port, "a.example.com", path="http://b.org/") == "any"


def test_an_empty_host_is_any_host_and_two_hosts_are_neither(tmp_path: Path, edge: Audience) -> None:
    port = free_port()
    routes = answering("exact", "[a.example.com]") + answering("b", "[b.example.com]") + answering("any", "[]")
    with serving(gateway(port) + routes, tmp_path, edge):
        assert who(port, "") == "any"
        assert who(port, "a.example.com", more="Host: b.example.com\r\n") == "any"


def test_no_client_chooses_a_scope_and_no_backend_sees_one(tmp_path: Path, edge: Audience, backend: Server) -> None:
    port, other = free_port(), free_port()
    listeners = f"[{{name: l0, port: {port}, protocol: HTTP}}, {{name: l1, port: {other}, protocol: HTTP}}]"
    text = f"kind: Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: fairlead, listeners: {listeners}}}\n---"
    to_echo = "\n  - backendRefs: [{name: echo, port: 80}]"
    text += route(to_echo, hosts="[a.example.com]", name="open", parent="{name: edge, sectionName: l0}")
    text += route(to_echo, hosts="['*.b.org']", name="wild", parent="{name: edge, sectionName: l0}")
    text += answering("secret", "[secret.example.com]", parent="{name: edge, sectionName: l1}")
    forged = [f"http-{other}:secret.example.com", f"http-{port}:a.example.com", f"http-{port}:*", "", ":", "*:*"]
    with serving(text + service("echo", backend.server_port), tmp_path, edge):
        for name in (SCOPE, SCOPE.upper(), SCOPE.title()):
            for value in forged:
                assert who(port, "secret.example.com", more=f"{name}: {value}\r\n") == 404
                assert who(port, "nobody", more=f"{name}: {value}\r\n{name}: {value}\r\n") == 404
                assert who(port, "a.example.com", more=f"{name}: {value}\r\nConnection: {name}\r\n") == 200
                assert who(port, "X.B.org", more=f"{name}: {value}\r\n") == 200
        assert backend.seen
        assert all(SCOPE not in request["headers"] for request in backend.seen)


def test_a_host_without_routes_is_answered_like_one_whose_routes_do_not_match(tmp_path: Path, edge: Audience) -> None:
    port = free_port()
    rule = "\n  - matches: [{path: {value: /here}}]\n    backendRefs: [{name: nobody, port: 80}]"
    with serving(gateway(port) + route(rule), tmp_path, edge):
        status, known, body = send(port, b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
        others = [
            send(port, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            for host in ("b.example.com", "B.example.com", "[::1]", "a.example.com:80", "A.example.com")
        ]
    known.pop("date")
    assert (status, body) == (404, b"")
    assert [(got[0], {k: v for k, v in got[1].items() if k != "date"}, got[2]) for got in others] == [
        (404, known, b"")
    ] * len(others)


def test_listeners_of_one_port_are_kept_apart_by_hostname(tmp_path: Path, edge: Audience) -> None:
    port = free_port()
    names = ("", "*.example.com", "*.a.example.com", "x.a.example.com")
    text = gateway(port, *names)
    for number in range(len(names)):
        at = f"{{name: edge, sectionName: l{number}}}"
        text += route(
            f"\n  - matches: [{{path: {{value: /l{number}}}}}]\n"
            f"    filters: [{{type: RequestRedirect, requestRedirect: {{hostname: l{number}.test}}}}]",
            name=f"l{number}", hosts="[]", parent=at,
        )  # fmt: skip
    hosts = {
        "b.org": "l0",
        "y.example.com": "l1",
        "y.a.example.com": "l2",
        "x.a.example.com": "l3",
        "X.A.example.com:9": "l3",
    }
    with serving(text, tmp_path, edge):
        for host, listener in hosts.items():
            found = {f"l{number}": who(port, host, path=f"/l{number}") for number in range(len(names))}
            assert found == {**dict.fromkeys(found, 404), listener: listener}


def test_the_authority_of_http2_chooses_as_host_does_and_grpc_backends_are_reached(
    tmp_path: Path, edge: Audience, children: Children
) -> None:
    port = free_port()
    child = children.start("echo", [sys.executable, str(Path("tests/support/grpc_echo.py").resolve()), "serve", "me"])
    children.wait_until(lambda: "\n" in child.log.read_text(), what="the gRPC service")
    rule = f"\n  - matches: [{{path: {{value: /{SERVICE}}}}}]\n    backendRefs: [{{name: echo, port: 80}}]"
    text = gateway(port) + service("echo", int(child.log.read_text().partition("\n")[0]), protocol="GRPC")
    text += route(rule, hosts="[a.example.com, '*.b.org']")
    authorities = {
        "a.example.com": "me",
        "a.example.com:99": "me",
        "x.b.org": "me",
        "c.org": grpc.StatusCode.UNIMPLEMENTED,
    }
    with serving(text, tmp_path, edge):
        found = {}
        for authority in authorities:
            options = (("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0))
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
                try:
                    found[authority] = call(b"", timeout=20, metadata=((SCOPE, "http-1:a.example.com"),)).decode()
                except grpc.RpcError as error:
                    found[authority] = error.code()
        assert found == authorities
