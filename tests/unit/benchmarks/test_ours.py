from __future__ import annotations

import json

import pytest

from benchmarks.ours import endpoint_write, http_route, objects
from benchmarks.systems import Workload, address_of
from mesh.validation import validate


@pytest.mark.parametrize("gateway_port", [0, 10_000])
def test_every_object_of_a_workload_is_valid(gateway_port: int) -> None:
    manifests = objects(Workload(services=3, endpoints=2, hosts=4, gateway_port=gateway_port))
    assert len(manifests) == (3 + 1 + 4 if gateway_port else 3)
    for manifest in manifests:
        assert validate(manifest).problems == ()


def test_a_redirected_route_is_valid() -> None:
    assert validate(http_route(7, 3, redirect="m-00001.example.com")).problems == ()


def test_an_endpoint_write_moves_the_first_endpoint_and_nothing_else() -> None:
    write = endpoint_write("127.0.0.1:1", endpoints=2).fill(service=258, marker=20_001)
    moved = json.loads(write.body)
    assert validate(moved).problems == ()
    assert write.url.endswith("/services/svc-258")
    assert write.resource == "default/svc-258:80"
    assert moved["spec"]["endpoints"][0] == {"address": address_of(258, 0), "ports": {"http": 20_001}}
    moved["spec"]["endpoints"][0]["ports"]["http"] = 8080
    assert moved == objects(Workload(services=300, endpoints=2))[258]
