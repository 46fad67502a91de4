"""Session persistence of a rule at a real Envoy: who brings the cookie or header back comes to the same endpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.support.routing import backend_server, gateway, get, route, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


def test_a_session_stays_at_its_endpoint_by_cookie_or_header(tmp_path: Path) -> None:
    port = free_port()
    rules = """
  - matches: [{path: {value: /cookie}}]
    sessionPersistence: {sessionName: mine}
    backendRefs: [{name: echo, port: 80}]
  - matches: [{path: {value: /permanent}}]
    sessionPersistence: {sessionName: long, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}
    backendRefs: [{name: echo, port: 80}]
  - matches: [{path: {value: /header}}]
    sessionPersistence: {type: Header, sessionName: X-Session}
    backendRefs: [{name: echo, port: 80}]
  - matches: [{path: {value: /none}}]
    backendRefs: [{name: echo, port: 80}]"""
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(backend_server(name)) for name in ("one", "two", "three")]
        text = gateway(port) + service("echo", *(each.server_port for each in backends)) + route(rules)
        stack.enter_context(serving(text, tmp_path))

        assert {get(port, "/none")[2]["who"] for _ in range(60)} == {"one", "two", "three"}
        for path in ("/cookie", "/permanent"):
            _, headers, first = get(port, path)
            cookie, _, rest = headers["set-cookie"].partition(";")
            assert ("Max-Age=3600" in rest) == (path == "/permanent")
            assert f"Path={path}" in rest
            assert {get(port, path, cookie=cookie)[2]["who"] for _ in range(30)} == {first["who"]}
        _, headers, first = get(port, "/header")
        session = headers["x-session"]
        assert {get(port, "/header", x_session=session)[2]["who"] for _ in range(30)} == {first["who"]}
        assert get(port, "/cookie", cookie="mine=garbage")[0] == 200
