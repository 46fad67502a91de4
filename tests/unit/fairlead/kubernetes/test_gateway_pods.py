from __future__ import annotations

import json
from typing import Any

from discovery.kubernetes.provision import BOOTSTRAP, DRAIN
from fairlead.addresses import Address
from fairlead.kubernetes.gateway_pods import files_for
from mesh.kinds.gateway import Gateway, GatewaySpec, Listener
from mesh.kinds.gatewayparameters import GatewayParametersSpec, Resources
from mesh.kinds.meta import ObjectMeta

GATEWAY = Gateway(
    api_version="gateway.networking.k8s.io/v1",
    kind="Gateway",
    metadata=ObjectMeta(name="edge", namespace="default"),
    spec=GatewaySpec(gateway_class_name="fairlead", listeners=(Listener(name="http", port=80, protocol="HTTP"),)),
)


def documents(parameters: GatewayParametersSpec = GatewayParametersSpec()) -> dict[str, Any]:  # noqa: B008
    render = files_for(Address("fairlead.example", 18000), server_name="fairlead.example", ca=lambda: b"PEM")
    files = render(GATEWAY, parameters)
    assert files is not None
    return {name: json.loads(text) for name, text in files.start.items()}


def test_no_port_leads_to_the_administrator_of_a_gateways_envoy() -> None:
    # A Service with an external name that resolves to 127.0.0.1 makes a cluster that reaches any port of the pod.
    made = documents()
    assert made[BOOTSTRAP]["admin"]["address"] == {"pipe": {"path": "@fairlead-admin"}}
    assert "socket_address" not in json.dumps(made[DRAIN])


def test_what_makes_the_envoy_drain_finds_its_administrator() -> None:
    made = documents()
    [drain] = [one for one in made[DRAIN]["static_resources"]["clusters"] if one["name"] == "drain"]
    [endpoint] = drain["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == made[BOOTSTRAP]["admin"]["address"]


def test_a_heap_may_be_most_of_the_memory_that_the_pods_have() -> None:
    def heap(**limits: str) -> list[int]:
        manager = documents(GatewayParametersSpec(resources=Resources(limits=limits)))[BOOTSTRAP]["overload_manager"]
        configs = [monitor["typed_config"] for monitor in manager["resource_monitors"]]
        return [config["max_heap_size_bytes"] for config in configs if "max_heap_size_bytes" in config]

    assert heap(memory="1Gi") == [2**30 * 8 // 10]
    assert heap(cpu="1") == []


def test_metrics_are_pushed_only_where_parameters_ask_for_it() -> None:
    assert "stats_sinks" not in documents()[BOOTSTRAP]
    [sink] = documents(GatewayParametersSpec(report_times=True))[BOOTSTRAP]["stats_sinks"]
    assert sink["name"] == "envoy.stat_sinks.metrics_service"
