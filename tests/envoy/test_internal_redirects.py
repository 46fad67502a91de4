"""Redirects that a gateway follows itself: where they may lead, and that no backend chooses routes of others by them.

Over delta a request that follows stays with its host (`xds/translate/internal_redirect.py`). Over state-of-the-world
Envoy looks for the next route among all of the listener.
"""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mesh.model import Audience
from tests.envoy.test_route_policy import policy
from tests.support.routing import EDGE, Server, gateway, get, route, send, service, serving
from tests.support.servers import HttpServer, served
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

SCOPE = "x-fairlead-scope"
SECRET = "secret.example.com"
RULES = """
  - name: sent
    matches: [{path: {value: /sent}}]
    backendRefs: [{name: sender, port: 80}]
  - name: more
    matches: [{path: {value: /more}}]
    backendRefs: [{name: sender, port: 80}]
  - name: target
    matches: [{path: {value: /target}}]
    backendRefs: [{name: echo, port: 80}]"""


class Sender(HttpServer):
    """A backend that sends each request elsewhere, to `to` by `status`, and `claims` a scope in its answer."""

    def __init__(self) -> None:
        self.claims = ""
        self.bodies: list[bytes] = []
        self.added: list[list[str]] = []
        super().__init__(_Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Sender
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers.get("content-length", "0"))))
        self.server.added.append(self.headers.get_all("x-added", []))
        asked = parse_qs(urlsplit(self.path).query)
        self.send_response(int(asked.get("status", ["302"])[0]))
        self.send_header("location", asked["to"][0])
        if self.server.claims:
            self.send_header(SCOPE, self.server.claims)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def sender() -> Iterator[Sender]:
    with served(Sender()) as server:
        yield server


@pytest.fixture(params=[False, True], ids=["delta", "sotw"])
def edge(request: pytest.FixtureRequest) -> Audience:
    """The gateway over delta, with scopes, and over state-of-the-world, without."""
    return EDGE._replace(sotw=request.param)


def world(port: int, sender: Sender, backend: Server, *, hosts: str = "[a.example.com]") -> str:
    """A gateway with a route whose rules `sent` and `more` redirect to `target`, and one for a host of its own."""
    text = gateway(port) + service("echo", backend.server_port) + service("sender", sender.server_port)
    secret = route("\n  - backendRefs: [{name: echo, port: 80}]", name="secret", hosts=f"[{SECRET}]")
    return text + route(RULES, hosts=hosts) + secret


@pytest.mark.shows("RoutePolicy.internalRedirects", "maxRedirects", "statuses", "crossScheme")
def test_redirects_are_followed_as_the_policy_says_and_others_reach_the_client(
    tmp_path: Path, sender: Sender, backend: Server, edge: Audience
) -> None:
    port = free_port()
    text = world(port, sender, backend)
    text += policy("sent", internalRedirects={})
    more = {"maxRedirects": 2, "statuses": [302, 307], "crossScheme": "Always"}
    added = {"request": {"add": [{"name": "x-added", "value": "ours"}]}}
    text += policy("more", internalRedirects=more) + policy(headers=added)
    here = "http://a.example.com/target/x?y=1"
    twice = "http://a.example.com/{rule}?to=" + here.replace("?", "%3F")
    with serving(text, tmp_path, edge):
        for host in ("a.example.com", "A.Example.COM", "a.example.com:8080"):
            status, answer, echoed = get(port, f"/sent?to={here}", host, x_mine="1")
            assert (status, echoed["path"], echoed["headers"]["x-mine"]) == (200, "/target/x?y=1", "1")
            assert SCOPE not in {*answer, *echoed["headers"]}
        # Not of the status, one more than are followed, another scheme, and what is no URL.
        for to in (f"{here}&status=301", twice.format(rule="sent"), here.replace("http:", "https:"), "/target"):
            status, answer, echoed = get(port, f"/sent?to={to}")
            assert (status in (301, 302), echoed) == (True, None)
            assert "location" in answer
            assert SCOPE not in answer
        assert get(port, f"/more?to={twice.format(rule='more')}")[0] == 200
        assert sender.added[-2:] == [["ours"], ["ours", "ours"]]
        assert get(port, f"/more?to={here.replace('http:', 'https:')}")[0] == 200
        request = b"POST /more?status=307&to=http://a.example.com/target HTTP/1.1\r\nHost: a.example.com\r\n"
        status, _, _ = send(port, request + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello")
        assert status == 200
        assert sender.bodies[-1] == b"hello"
        assert backend.seen[-1]["method"] == "POST"
        large = b"a" * 3_000_000
        status, _, _ = send(port, request + b"Content-Length: 3000000\r\nConnection: close\r\n\r\n" + large)
        assert status == 307


@pytest.mark.shows("RoutePolicy.internalRedirects", "crossScheme")
def test_a_redirect_to_https_is_unsafe_for_who_came_over_http(tmp_path: Path, sender: Sender, backend: Server) -> None:
    port = free_port()
    text = world(port, sender, backend) + policy("sent", internalRedirects={"crossScheme": "Safe"})
    with serving(text, tmp_path):
        assert get(port, "/sent?to=http://a.example.com/target")[0] == 200
        assert get(port, "/sent?to=https://a.example.com/target")[0] == 302


def test_over_delta_a_redirect_leads_to_no_other_host_whatever_a_backend_claims(
    tmp_path: Path, sender: Sender, backend: Server
) -> None:
    """A backend may name the scope of another host, in answers from hosts with a scope of their own and from others."""
    port = free_port()
    text = world(port, sender, backend, hosts='[a.example.com, "*.example.com"]')
    text += policy("sent", internalRedirects={})
    with serving(text, tmp_path):
        for claim in ("", f"http-{port}:{SECRET}", f"http-{port}:*"):
            sender.claims = claim
            for host in ("a.example.com", "wild.example.com"):
                for to in (SECRET, "other.example.com"):
                    status, answer, _ = get(port, f"/sent?to=http://{to}/target", host)
                    assert (status, answer["location"]) == (302, f"http://{to}/target")
                    assert SCOPE not in answer
            assert get(port, "/sent?to=http://wild.example.com/target", "wild.example.com")[0] == 302
            assert get(port, "/sent?to=http://a.example.com/target")[0] == 200
            assert get(port, "/sent?to=http://a.example.com/nowhere")[0] == 404


def test_over_state_of_the_world_a_redirect_leads_to_any_host_of_the_listener(
    tmp_path: Path, sender: Sender, backend: Server
) -> None:
    port = free_port()
    text = world(port, sender, backend) + policy("sent", internalRedirects={})
    with serving(text, tmp_path, EDGE._replace(sotw=True)):
        assert get(port, f"/sent?to=http://{SECRET}/")[2]["headers"]["host"] == SECRET
        for to in ("elsewhere.org", "a.example.com/nowhere"):
            assert get(port, f"/sent?to=http://{to}")[0] == 302
