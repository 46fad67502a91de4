"""Programmed means that proxies have taken it: real Envoys that come, change and go."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import Serving, start_envoy, start_serve

pytestmark = pytest.mark.envoy

GATEWAY = "/api/v1/namespaces/default/gateways/edge"


def put(serving: Serving, *ports: int) -> None:
    listeners = [{"name": f"http-{port}", "port": port, "protocol": "HTTP"} for port in ports]
    spec = {"gatewayClassName": "fairlead", "listeners": listeners}
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec}
    serving.client.request("PUT", GATEWAY, body=body)


def told(serving: Serving) -> dict[str, tuple[str, str, int]]:
    """Status, reason and generation of Programmed, of the Gateway (under its name) and its listeners."""
    status = serving.client.get(GATEWAY)["status"]

    def programmed(conditions: list[dict[str, Any]]) -> tuple[str, str, int]:
        (found,) = (one for one in conditions if one["type"] == "Programmed")
        return found["status"], found["reason"], found["observedGeneration"]

    return {
        "edge": programmed(status["conditions"]),
        **{each["name"]: programmed(each["conditions"]) for each in status["listeners"]},
    }


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
def test_a_gateway_is_programmed_when_its_proxies_have_taken_it_and_not_before(
    children: Children, transport: list[str]
) -> None:
    first, second = free_port(), free_port()
    serving = start_serve(children, "--audience-linger", "1")
    put(serving, first)
    children.wait_until(lambda: "status" in serving.client.get(GATEWAY), what="the verdict")
    assert told(serving) == {"edge": ("False", "Pending", 1), f"http-{first}": ("False", "Pending", 1)}
    envoy = start_envoy(children, "gateway", "edge", *transport, xds=serving.xds)
    served = {"edge": ("True", "Programmed", 1), f"http-{first}": ("True", "Programmed", 1)}
    children.wait_until(lambda: told(serving) == served, what="the first listener to be programmed")

    put(serving, first, second)
    assert told(serving)["edge"][0] == "True", "what is served is served on"
    both = dict.fromkeys(("edge", f"http-{first}", f"http-{second}"), ("True", "Programmed", 2))
    children.wait_until(lambda: told(serving) == both, what="both listeners to be programmed")

    envoy.child.stop()
    children.started.remove(envoy.child)
    children.wait_until(lambda: told(serving)["edge"] == ("False", "Pending", 2), what="the last proxy to be gone")
