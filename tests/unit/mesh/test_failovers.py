"""Who takes over from a backend, and from which nobody does."""

from __future__ import annotations

import msgspec
import pytest

from mesh.backends import Backend
from mesh.failovers import successors
from mesh.model import ServiceKey
from mesh.tables import Present
from tests.support.model import Model

SHOP = Backend(ServiceKey("default", "shop"), 80)
TO = "{kind: TrafficPolicy, metadata: {name: NAME}, spec: {targetRefs: [{kind: Service, name: NAME}], failover: "


@pytest.fixture
def model() -> Model:
    made = Model()
    for name in ("shop", "spare", "last"):
        ports = "[{name: http, port: 80}, {name: grpc, port: 81, protocol: GRPC}, {name: dns, port: 53, protocol: UDP}]"
        ends = "endpoints: [{address: 10.0.0.1}]"
        made.apply(f"{{kind: Service, metadata: {{name: {name}}}, spec: {{ports: {ports}, {ends}}}}}")
    made.apply(f"{TO.replace('NAME', 'shop')}{{backendRefs: [{{name: spare}}, {{name: last}}]}}}}}}")
    made.apply(f"{TO.replace('NAME', 'spare')}{{backendRefs: [{{name: shop}}]}}}}}}")
    return made


def names(model: Model, backend: Backend) -> list[str]:
    return [f"{one.service.name}:{one.port}" for one in successors(Present(model.engine), backend)]


def test_they_take_over_in_order_at_the_port_of_the_same_number_and_hand_nothing_on(model: Model) -> None:
    assert names(model, SHOP) == ["spare:80", "last:80"]
    assert names(model, msgspec.structs.replace(SHOP, port=81)) == ["spare:81", "last:81"]
    assert names(model, Backend(ServiceKey("default", "spare"), 80)) == ["shop:80"]
    assert names(model, Backend(ServiceKey("default", "last"), 80)) == []


@pytest.mark.parametrize(
    "backend",
    [
        msgspec.structs.replace(SHOP, canary_of="default/r"),
        msgspec.structs.replace(SHOP, credential="default/p"),
        msgspec.structs.replace(SHOP, port=53, udp=True),
    ],
)
def test_nobody_takes_over_canaries_credentials_and_datagrams(model: Model, backend: Backend) -> None:
    assert names(model, backend) == []


def test_whoever_is_spoken_to_by_http2_is_succeeded_by_http2(model: Model) -> None:
    by_grpc = msgspec.structs.replace(SHOP, http2=True)
    assert [one.http2 for one in successors(Present(model.engine), by_grpc)] == [True, True]
    there_already = msgspec.structs.replace(SHOP, port=81, http2=True)
    assert [one.http2 for one in successors(Present(model.engine), there_already)] == [False, False]
