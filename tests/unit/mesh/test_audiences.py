from __future__ import annotations

from mesh.audiences import SIGHTS, Sight
from mesh.gateways import GatewayKey
from mesh.model import Audience, ServiceKey, ServicePort
from tests.support.model import Model

GATEWAY = """
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 80, protocol: HTTP}]}
"""
EDGE = Audience("gateway", "default", "edge")


def sight(model: Model, audience: Audience) -> Sight:
    row = model.engine.get(SIGHTS, audience)
    assert row is not None
    return row


def test_every_gateway_of_ours_is_an_audience_before_any_proxy_comes() -> None:
    model = Model()
    model.apply(GATEWAY)
    assert sight(model, EDGE) == Sight(gateway=GatewayKey("default", "edge"))


def test_a_proxy_of_a_gateway_that_does_not_exist_sees_nothing_until_it_does() -> None:
    model = Model()
    model.connect(EDGE)
    assert sight(model, EDGE) == Sight()
    model.apply(GATEWAY)
    assert sight(model, EDGE).gateway == GatewayKey("default", "edge")
    model.delete("Gateway", "edge")
    assert sight(model, EDGE) == Sight()


def test_a_sidecar_fronts_its_service() -> None:
    model = Model()
    model.discover("reviews", ports=[("http", 80, 8080), ("admin", 9000, 9000)])
    audience = Audience("sidecar", "default", "reviews", 9000, 15006, 15001)
    model.connect(audience)
    assert sight(model, audience) == Sight(
        fronts=ServiceKey("default", "reviews"),
        fronted_port=ServicePort("admin", 9000, "HTTP"),
    )


def test_a_local_port_that_is_no_service_port_stands_for_the_only_one_there_is() -> None:
    model = Model()
    model.discover("one")
    model.discover("two", ports=[("http", 80, 8080), ("admin", 9000, 9000)])
    for name in ("one", "two"):
        model.connect(Audience("sidecar", "default", name, 8080))
    assert sight(model, Audience("sidecar", "default", "one", 8080)).fronted_port == ServicePort("http", 80, "HTTP")
    assert sight(model, Audience("sidecar", "default", "two", 8080)).fronted_port is None


def test_grpc_clients_of_a_namespace_stand_for_nothing() -> None:
    model = Model()
    model.connect(Audience("grpc", "default"))
    assert sight(model, Audience("grpc", "default")) == Sight()
