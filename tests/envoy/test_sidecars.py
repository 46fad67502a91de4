"""The example of two services behind sidecars, as committed: the cart calls prices through both sidecars, by name."""

from __future__ import annotations

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
