"""Session persistence of a rule at a real Envoy: who brings the cookie or header back comes to the same endpoint."""

from __future__ import annotations

import contextlib
from collections import Counter
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


def test_weights_choose_the_backend_and_a_session_keeps_its_endpoint_in_each(tmp_path: Path) -> None:
    """GEP-1619: a session does not overrule the weights; who comes back to a backend comes to the same endpoint."""
    port = free_port()
    rules = """
  - sessionPersistence: {sessionName: mine}
    backendRefs: [{name: heavy, port: 80, weight: 70}, {name: light, port: 80, weight: 30}]"""
    with contextlib.ExitStack() as stack:
        names = {"heavy": ("h1", "h2", "h3"), "light": ("l1", "l2", "l3")}
        text = gateway(port) + route(rules)
        for name, each in names.items():
            ports = [stack.enter_context(backend_server(who)).server_port for who in each]
            text += service(name, *ports)
        stack.enter_context(serving(text, tmp_path))

        seen: Counter[str] = Counter()
        jar: dict[str, str] = {}
        for _ in range(200):
            _, headers, answer = get(port, "/", cookie="; ".join(f"{name}={value}" for name, value in jar.items()))
            seen[answer["who"]] += 1
            if "set-cookie" in headers:
                name, _, value = headers["set-cookie"].partition(";")[0].partition("=")
                assert name not in jar, "a session that was there is begun anew"
                jar[name] = value
    counts = {backend: [seen[who] for who in each if seen[who]] for backend, each in names.items()}
    assert [len(kept) for kept in counts.values()] == [1, 1], "one endpoint of each"
    assert abs(counts["heavy"][0] - 140) <= 33  # five standard deviations
    assert len(jar) == 2
    assert all(name.startswith("mine-") for name in jar)
