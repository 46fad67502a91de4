"""What Envoy refuses is told on the object, by the API and the command line; the rest lives on; a change mends it.

What one replica refuses and another has taken is that one's own affair: the refusing replica is scripted here.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import (
    FAIRLEAD,
    RunningEnvoy,
    Serving,
    ask,
    reached,
    start_backend,
    start_envoy,
    start_serve,
)

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"
GATEWAYS = "/api/v1/namespaces/default/gateways"


def put_gateway(serving: Serving, *ports: int) -> None:
    listeners = [{"name": f"http-{port}", "port": port, "protocol": "HTTP"} for port in ports]
    spec = {"gatewayClassName": "fairlead", "listeners": listeners}
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec}
    serving.client.request("PUT", f"{GATEWAYS}/edge", body=body)


def programmed(serving: Serving) -> dict[str, str]:
    conditions = serving.client.get(f"{GATEWAYS}/edge")["status"]["conditions"]
    return {each["type"]: f"{each['status']} {each['message']}" for each in conditions}


def put_shop(serving: Serving, backend: int) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": backend}}]
    spec = {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}
    body = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "Service", "metadata": {"name": "shop"}, "spec": spec}
    serving.client.request("PUT", "/api/v1/namespaces/default/services/shop", body=body)
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": rules}
    body = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": spec,
    }
    serving.client.request("PUT", "/api/v1/namespaces/default/httproutes/shop", body=body)


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
def test_a_listener_that_envoy_cannot_bind_is_told_of_and_the_others_serve_on(
    children: Children, transport: list[str]
) -> None:
    good, other = free_port(), free_port()
    serving = start_serve(children)
    server = f"http://127.0.0.1:{serving.api}"
    put_gateway(serving, good)
    put_shop(serving, start_backend(children, "shop"))
    start_envoy(children, "gateway", "edge", "--instance", "one", *transport, xds=serving.xds)
    children.wait_until(lambda: ask(good, HOST).status == 200, what="the good listener")

    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        bad = taken.getsockname()[1]
        put_gateway(serving, good, bad)
        children.wait_until(lambda: "refused it" in programmed(serving)["Programmed"], what="the refusal to be told")
        assert "gateway~default~edge~one refused it" in programmed(serving)["Programmed"]
        assert str(bad) in programmed(serving)["Programmed"]
        assert ask(good, HOST).status == 200

        wait = [*FAIRLEAD, "wait", "gateway", "edge", "--timeout", "20", "--server", server]
        waited = subprocess.run(wait, capture_output=True, text=True, check=False, timeout=60)
        assert waited.returncode == 1
        proxies = subprocess.run(
            [*FAIRLEAD, "proxies", "--server", server], capture_output=True, text=True, check=False, timeout=60
        )
        assert "rejected" in proxies.stdout
        assert "gateway~default~edge~one LDS: " in proxies.stderr
        page = serving.client.request("GET", "/metrics").body.decode()
        assert 'fairlead_xds_nacks_total{type="LDS"} 1.0' in page

    put_gateway(serving, good, other)
    children.wait_until(lambda: programmed(serving)["Programmed"].startswith("True"), what="the mended Gateway")
    children.wait_until(lambda: reached(other, HOST), what="the other listener")
    waited = subprocess.run(wait, capture_output=True, text=True, check=False, timeout=60)
    assert waited.stdout == "1 of 1 proxies have it\n"


NOT_MINE = "Error adding/updating listener(s) {name}: no such filter"
BUSY = "Error adding/updating listener(s) {name}: cannot bind '{name}': Address already in use"


def start_refusing(children: Children, serving: Serving, words: str) -> None:
    """A replica of the gateway that refuses every listener."""
    children.start("refusing", [sys.executable, "-m", "tests.support.refusing_replica", str(serving.xds), words])


def listeners(serving: Serving) -> dict[str, str]:
    """What `proxies` says of the listeners of each proxy."""
    items = serving.client.get("/api/v1/proxies")["items"]
    return {item["node"].rpartition("~")[2]: item["types"].get("LDS", {}).get("status", "") for item in items}


def refusals(serving: Serving) -> int:
    """How many responses were refused so far."""
    page = serving.client.request("GET", "/metrics").body.decode()
    found = re.search(r'fairlead_xds_nacks_total\{type="LDS"\} ([0-9.]+)', page)
    return int(float(found[1])) if found else 0


def serves(port: int) -> bool:
    """Whether a gateway answers there."""
    try:
        return ask(port, HOST).status == 200
    except OSError:
        return False


def lost(envoy: RunningEnvoy) -> int:
    """How many listeners Envoy had to give up or to replace."""
    return envoy.stat("listener_manager.listener_removed") + envoy.stat("listener_manager.listener_modified")


@pytest.mark.parametrize("words", [NOT_MINE, BUSY])
def test_what_one_replica_refuses_is_not_taken_from_another(children: Children, words: str) -> None:
    port, other = free_port(), free_port()
    serving = start_serve(children)
    put_gateway(serving, port)
    put_shop(serving, start_backend(children, "shop"))
    envoy = start_envoy(children, "gateway", "edge", "--instance", "one", xds=serving.xds)
    children.wait_until(lambda: serves(port), what="the listener")
    start_refusing(children, serving, words)
    children.wait_until(lambda: refusals(serving) == 1, what="the refusal")
    put_gateway(serving, port, other)
    children.wait_until(lambda: serves(other), what="the other listener at the good replica")
    children.wait_until(lambda: refusals(serving) == 2, what="the second refusal")
    children.wait_until(lambda: programmed(serving)["Programmed"].startswith("True"), what="the verdict")
    assert listeners(serving) == {"one": "SYNCED", "refusing": "ERROR"}
    distribution = serving.client.get("/api/v1/distribution/gateways/default/edge")
    assert list(distribution["rejected"]) == ["gateway~default~edge~refusing"]
    assert (serves(port), serves(other), lost(envoy)) == (True, True, 0)


@pytest.mark.parametrize("words", [NOT_MINE, BUSY])
def test_a_replica_that_takes_what_another_refused_before_it_came_mends_the_status(
    children: Children, words: str
) -> None:
    port = free_port()
    serving = start_serve(children)
    put_gateway(serving, port)
    put_shop(serving, start_backend(children, "shop"))
    start_refusing(children, serving, words)
    children.wait_until(lambda: "refused it" in programmed(serving)["Programmed"], what="the refusal to be told")
    start_envoy(children, "gateway", "edge", "--instance", "one", xds=serving.xds)
    children.wait_until(lambda: serves(port), what="the listener at the good replica")
    children.wait_until(lambda: programmed(serving)["Programmed"].startswith("True"), what="the mended status")
    assert listeners(serving) == {"one": "SYNCED", "refusing": "ERROR"}


def test_what_nobody_took_is_withheld_from_new_replicas_too(children: Children) -> None:
    port, other = free_port(), free_port()
    serving = start_serve(children)
    put_gateway(serving, port)
    put_shop(serving, start_backend(children, "shop"))
    start_refusing(children, serving, NOT_MINE)
    children.wait_until(lambda: "withheld" in programmed(serving)["Programmed"], what="the end of the trial")
    put_gateway(serving, port, other)
    start_envoy(children, "gateway", "edge", "--instance", "one", xds=serving.xds)
    children.wait_until(lambda: serves(other), what="the listener that is on trial")
    assert "no such filter" in programmed(serving)["Programmed"]
    assert not serves(port)
