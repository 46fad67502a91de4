"""Sidecars: the committed example, whose cart calls prices through both by name, and TCP ports on loopback."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import ask, start_backend, start_envoy, start_serve

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
def test_a_service_calls_another_by_name_through_both_sidecars(
    root: Path, children: Children, transport: list[str]
) -> None:
    cart_in, cart_out, prices_in, prices_out = (free_port() for _ in range(4))
    text = (root / "envoy-configs/examples/sidecars/config.yaml").read_text()
    (children.folder / "config").mkdir()
    file = children.folder / "config" / "config.yaml"
    file.write_text(text.replace("15106", str(cart_in)).replace("15206", str(prices_in)))
    serving = start_serve(children, "--files", str(children.folder / "config"))
    prices = start_backend(children, "prices")

    def sidecar(name: str, port: int, ingress: int, egress: int) -> None:
        ports = ["--port", str(port), "--ingress-port", str(ingress), "--egress-port", str(egress)]
        start_envoy(children, "sidecar", name, *ports, *transport, xds=serving.xds)

    sidecar("cart", free_port(), cart_in, cart_out)
    sidecar("prices", prices, prices_in, prices_out)
    for host in ("prices", "prices.default", "prices.default.svc.cluster.local", "prices:80"):
        children.wait_until(lambda host=host: ask(cart_out, host).status == 200, what=host)  # type: ignore[misc]
        assert ask(cart_out, host).who == "prices v1"
    assert ask(prices_in, "prices").who == "prices v1"
    assert ask(cart_out, "nobody").status == 404
    kinds = [(proxy["kind"], proxy["name"]) for proxy in serving.client.get("/api/v1/proxies")["items"]]
    assert kinds == [("sidecar", "cart"), ("sidecar", "prices")]


def test_a_tcp_port_of_a_service_is_found_on_loopback_once_the_service_is_there(children: Children) -> None:
    folder = children.folder / "config"
    folder.mkdir()
    serving = start_serve(children, "--files", str(folder))
    upstream, egress, ingress = free_port(), free_port(), free_port()
    flags = ["--port", str(free_port()), "--ingress-port", str(ingress), "--egress-port", str(egress)]
    start_envoy(children, "sidecar", "cart", *flags, "--upstream", f"{upstream}=shop/db:5432", xds=serving.xds)

    def who() -> str:
        try:
            return ask(upstream, "db").who
        except (OSError, http.client.HTTPException):
            return ""

    def declare(port: int, export_to: str) -> None:
        endpoints = [{"address": "127.0.0.1", "ports": {"sql": port}}]
        ports = [{"name": "sql", "port": 5432, "protocol": "TCP"}]
        spec = {"ports": ports, "endpoints": endpoints, "exportTo": [export_to]}
        metadata = {"name": "db", "namespace": "shop"}
        body = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "Service", "metadata": metadata, "spec": spec}
        serving.client.request("PUT", "/api/v1/namespaces/shop/services/db", body=body)

    assert who() == ""
    first, second = (start_backend(children, "db", version) for version in ("v1", "v2"))
    declare(first, "*")
    children.wait_until(lambda: who() == "db v1", what="the service")
    declare(second, "*")
    children.wait_until(lambda: who() == "db v2", what="its moved endpoint")
    declare(second, ".")
    children.wait_until(lambda: who() == "", what="a service that may not be seen any more")
    serving.client.request("DELETE", "/api/v1/namespaces/shop/services/db")
    declare(first, "default")
    children.wait_until(lambda: who() == "db v1", what="the service again")
