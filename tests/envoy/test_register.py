"""An instance that registers itself takes traffic from a real Envoy for as long as it is heard from."""

from __future__ import annotations

import signal

import pytest

from fairlead.processes import Child, Children, free_port
from tests.envoy.test_zones import config
from tests.support.programs import FAIRLEAD, ask, start_backend, start_envoy, start_serve

pytestmark = pytest.mark.envoy


def test_it_takes_traffic_while_it_is_heard_from_and_leaves(children: Children) -> None:
    folder = children.folder / "config"
    folder.mkdir()
    gateway, port = free_port(), start_backend(children, "outside")
    (folder / "config.yaml").write_text(config({}, gateway))
    serving = start_serve(children, "--files", str(folder))
    start_envoy(children, "gateway", "app", xds=serving.xds)
    children.wait_until(lambda: ask(gateway, "app").status >= 500, what="the route, without endpoints")

    def register(name: str, ttl: str) -> Child:
        where = ["--address", "127.0.0.1", "--port", f"http={port}", "--server", f"http://127.0.0.1:{serving.api}"]
        return children.start(name, [*FAIRLEAD, "register", "app", "--ttl", ttl, *where])

    polite = register("polite", "600")
    children.wait_until(lambda: ask(gateway, "app").who == "outside v1", what="traffic to it")
    children.started.remove(polite)
    polite.process.send_signal(signal.SIGTERM)
    assert polite.process.wait(20) == 0
    children.wait_until(lambda: ask(gateway, "app").status >= 500, what="it to leave at SIGTERM")

    killed = register("killed", "2")
    children.wait_until(lambda: ask(gateway, "app").who == "outside v1", what="traffic to it again")
    children.started.remove(killed)
    killed.process.kill()
    killed.process.wait(20)
    children.wait_until(lambda: ask(gateway, "app").status >= 500, what="it to leave, not being heard of")
    assert serving.client.get("/api/v1/registrations")["items"] == []
