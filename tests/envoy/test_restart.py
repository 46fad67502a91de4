"""The server ends and comes back, under traffic: no request fails, no accepted write is lost, nothing is sent again."""

from __future__ import annotations

import signal

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Children, free_port
from tests.support.programs import Serving, ask, start_backend, start_envoy, start_serve

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"


def write(serving: Serving, kind: str, name: str, spec: dict[str, object]) -> None:
    group = "fairlead.dev/v1alpha1" if kind == "Service" else "gateway.networking.k8s.io/v1"
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
    serving.client.request("PUT", f"/api/v1/namespaces/default/{kind.lower()}s/{name}", body=body)


def route(serving: Serving, name: str, host: str) -> None:
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    write(serving, "HTTPRoute", name, {"parentRefs": [{"name": "edge"}], "hostnames": [host], "rules": rules})


def begin(serving: Serving, *, gateway: int, backend: int) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": backend}}]
    write(serving, "Service", "shop", {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})
    listeners = [{"name": "http", "port": gateway, "protocol": "HTTP"}]
    write(serving, "Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    route(serving, "shop", HOST)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_fails_no_request_loses_no_write_and_sends_nothing_again(
    children: Children, number: signal.Signals
) -> None:
    gateway, backend = free_port(), start_backend(children, "shop")
    serving = start_serve(children, name="first")
    begin(serving, gateway=gateway, backend=backend)
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: ask(gateway, HOST).status == 200, what="the gateway to answer")
    with Background(gateway, HOST) as visitors:
        route(serving, "late", "late.example.com")  # answered, so it must survive what comes next
        serving.child.signal_group(number)
        serving.child.process.wait(30)
        children.started.remove(serving.child)
        before = visitors.requests
        children.wait_until(lambda: visitors.requests > before + 50, what="requests without a control plane")
        watched = ("listener_manager.lds", "cluster_manager.cds")
        updates = {kind: envoy.stat(f"{kind}.update_success") for kind in watched}
        again = start_serve(children, name="second", xds=serving.xds)
        children.wait_until(lambda: len(again.client.get("/api/v1/proxies")["items"]) == 1, what="Envoy to come back")
        children.wait_until(lambda: ask(gateway, "late.example.com").status == 200, what="the last write to be served")
        children.wait_until(lambda: visitors.requests > before + 200, what="requests after the restart")
    assert visitors.failures == []
    assert updates == {kind: envoy.stat(f"{kind}.update_success") for kind in updates}
    page = again.client.request("GET", "/metrics").body.decode()
    counters = ('fairlead_xds_resources_total{type="CDS"}', 'fairlead_xds_resources_total{type="LDS"}')
    sent = [line for line in page.splitlines() if line.startswith(counters)]
    assert all(line.endswith(" 0.0") for line in sent), sent
