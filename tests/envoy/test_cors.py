"""CORS on a real Envoy: what a browser is told before it asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.routing import Server, gateway, route, send, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


def preflight(port: int, path: str) -> tuple[int, dict[str, str]]:
    status, headers, _ = send(
        port,
        f"OPTIONS {path} HTTP/1.1\r\nhost: a.example.com\r\norigin: https://app.example.com\r\nconnection: close\r\n"
        "access-control-request-method: PUT\r\naccess-control-request-headers: x-one, x-two\r\n\r\n".encode(),
    )
    return status, headers


def rule(path: str, cors: str) -> str:
    filters = f"[{{type: CORS, cors: {{{cors}}}}}]"
    return (
        f"\n  - {{matches: [{{path: {{value: {path}}}}}], filters: {filters}, backendRefs: [{{name: one, port: 80}}]}}"
    )


def test_with_credentials_an_asterisk_becomes_what_was_asked_for(tmp_path: Path, backend: Server) -> None:
    """A browser that sends credentials takes `*` for the name of a method or a header."""
    port = free_port()
    every = "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']"
    rules = rule("/with", f"{every}, allowCredentials: true") + rule("/without", every)
    with serving(gateway(port) + service("one", backend.server_port) + route(rules), tmp_path):
        status, headers = preflight(port, "/with")
        assert status == 200
        assert headers["access-control-allow-origin"] == "https://app.example.com"
        assert headers["access-control-allow-methods"] == "PUT"
        assert headers["access-control-allow-headers"] == "x-one, x-two"
        assert headers["access-control-allow-credentials"] == "true"

        status, headers = preflight(port, "/without")
        assert status == 200
        assert headers["access-control-allow-methods"] in {"PUT", "*"}
        assert "access-control-allow-credentials" not in headers


def test_a_preflight_of_a_stranger_is_answered_without_asking_the_backend(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rules = rule("/", "allowOrigins: ['https://other.example.com']")
    with serving(gateway(port) + service("one", backend.server_port) + route(rules), tmp_path):
        status, headers = preflight(port, "/")
        assert status == 200
        assert "access-control-allow-origin" not in headers
        assert backend.seen == []
