"""A second Envoy makes the first one drain and ends by itself: the hook before the end of a gateway's pod."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.bootstraps import ready
from fairlead.bootstraps.drain import drain_bootstrap
from tests.support.static_envoy import ENVOY, free_port, running

pytestmark = pytest.mark.envoy

SECONDS = 2


class Proxy:
    """An Envoy that answers everything with 200, with a listener for probes."""

    def __init__(self) -> None:
        self.port, self.ready = free_port(), free_port()
        self.admin = f"@fairlead-test-{self.port}"

    def bootstrap(self) -> dict[str, Any]:
        route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
        listener = ready.listener("::", self.port)
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = manager["http_filters"][1:]  # without the answer to probes
        manager["route_config"]["virtual_hosts"][0]["routes"] = [route]
        return {
            "node": {"id": "a", "cluster": "b"},
            "admin": {"address": {"pipe": {"path": self.admin}}},
            "static_resources": {"listeners": [{**listener, "name": "all"}, ready.listener("::", self.ready)]},
        }

    def probe(self) -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.ready, timeout=5)) as connection:
            return ask(connection, "/ready")[0]


def ask(connection: http.client.HTTPConnection, path: str = "/") -> tuple[int, str | None]:
    """The status of an answer, and whether the connection ends with it."""
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("connection")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy()
    with running(made.bootstrap(), tmp_path):
        yield made


def hook(folder: Path, admin: str) -> subprocess.Popen[bytes]:
    config = folder / "drain.json"
    config.write_text(json.dumps(drain_bootstrap(admin, SECONDS)))
    return subprocess.Popen([str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "1"])


def test_a_proxy_that_is_to_end_answers_on_and_sends_its_clients_away(proxy: Proxy, tmp_path: Path) -> None:
    client, another = (http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5) for _ in range(2))
    assert ask(client) == (200, None)
    assert proxy.probe() == 200
    began = time.monotonic()
    ending = hook(tmp_path, proxy.admin)
    try:
        while proxy.probe() == 200:
            assert time.monotonic() < began + 10
        assert ask(client) == (200, "close")
        assert ask(another) == (200, "close")
        assert ending.wait(timeout=SECONDS + 10) == 0
        assert time.monotonic() - began >= SECONDS
    finally:
        client.close()
        another.close()
        ending.kill()
        ending.wait()


def test_the_hook_ends_even_where_nothing_can_be_made_to_drain(tmp_path: Path) -> None:
    ending = hook(tmp_path, "@fairlead-test-nobody")
    try:
        assert ending.wait(timeout=SECONDS + 10) == 0
    finally:
        ending.kill()
        ending.wait()
