"""Endpoints that end, as the Kubernetes catalog tells of them: only need sends them requests."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import static_envoy
from tests.support.envoys import envoy_of
from tests.support.routing import Server, backend_server, document, gateway, get, route, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


def who_answers(directory: Path, ready: list[Server], ending: list[Server]) -> set[str]:
    """The backends that answer forty requests."""
    directory.mkdir()
    port = free_port()
    endpoints = [
        {"address": "127.0.0.1", "ports": {"http": one.server_port}, "health": health}
        for servers, health in ((ready, "Healthy"), (ending, "Draining"))
        for one in servers
    ]
    spec = {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}
    text = gateway(port) + document("Service", "echo", spec) + route("\n  - backendRefs: [{name: echo, port: 80}]")
    with serving(text, directory):
        answers = [get(port, "/") for _ in range(40)]
    assert {status for status, _, _ in answers} == {200}
    return {body["who"] for _, _, body in answers}


@pytest.mark.parametrize("version", ["1.38.3", "1.40.0"])
def test_only_where_no_endpoint_is_ready_do_those_that_end_get_requests(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most endpoints end in a rollout; Envoy's panic, which sends requests to all, does not count them."""
    monkeypatch.setattr(static_envoy, "ENVOY", envoy_of(version))
    with ExitStack() as stack:
        ready = [stack.enter_context(backend_server("ready"))]
        ending = [stack.enter_context(backend_server("ending")) for _ in range(3)]
        assert who_answers(tmp_path / "few", ready, ending) == {"ready"}
        assert who_answers(tmp_path / "none", [], ending) == {"ending"}
