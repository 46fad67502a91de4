from __future__ import annotations

from collections.abc import Callable

from discovery.kubernetes.provision import Files, Settings
from discovery.kubernetes.wanted import Wanted, wanted
from mesh.gateways import GatewayKey
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayparameters import GatewayParametersSpec
from mesh.tables import Present
from tests.support.model import Model
from tests.support.routing import document
from tests.support.secrets import secret

KUBERNETES = "kubernetes:one"
SETTINGS = Settings(image="example.com/envoy:1")
KEY = GatewayKey("default", "edge")
GATEWAY = (
    "{kind: Gateway, metadata: {name: edge}, spec: {gatewayClassName: CLASS, "
    "listeners: [{name: http, port: 80, protocol: HTTP}]EXTRA}}"
)
CLASS = "{kind: GatewayClass, metadata: {name: CLASS}, spec: {controllerName: fairlead.dev/gateway-controllerEXTRA}}"
REF = "{group: fairlead.dev, kind: GatewayParameters, name: usual, namespace: infra}"


def gateway(class_name: str = "fairlead", extra: str = "") -> str:
    return GATEWAY.replace("CLASS", class_name).replace("EXTRA", extra)


def of_class(name: str = "fairlead", extra: str = "") -> str:
    return CLASS.replace("CLASS", name).replace("EXTRA", extra)


def files(*_: object) -> Files:
    return Files({"bootstrap.json": "{}"}, "PEM")


def ask(model: Model, render: Callable[[Gateway, GatewayParametersSpec], Files | None] = files) -> Wanted | None:
    return wanted(Present(model.engine), KEY, source=KUBERNETES, settings=SETTINGS, render=render)


def test_a_gateway_of_this_cluster_is_run_here_and_no_other() -> None:
    model = Model()
    assert ask(model) is None
    model.apply(gateway(), source="files")
    assert ask(model) is None
    model.apply(gateway(), source="kubernetes:two")
    assert ask(model) is None
    model.apply(gateway(), source=KUBERNETES)
    found = ask(model)
    assert found is not None
    assert (found.name, found.service_type, len(found.manifests or ())) == ("edge-fairlead", "LoadBalancer", 5)


def test_before_there_is_an_authority_nothing_is_made() -> None:
    model = Model()
    model.apply(gateway(), source=KUBERNETES)
    found = ask(model, lambda *_: None)
    assert found is not None
    assert found.manifests is None


def test_a_gateway_that_is_not_accepted_keeps_what_it_has() -> None:
    model = Model()
    model.apply(gateway(extra=", addresses: [{type: a.com/odd, value: x}]"), source=KUBERNETES)
    found = ask(model)
    assert found is not None
    assert found.manifests is None


def test_parameters_of_the_class_that_are_missing_change_nothing_and_are_told() -> None:
    model = Model()
    model.apply(of_class(extra=f", parametersRef: {REF}"), source=KUBERNETES)
    model.apply(gateway(), source=KUBERNETES)
    found = ask(model)
    assert found is not None
    assert found.manifests is None
    assert found.trouble is not None
    assert "infra/usual, which does not exist" in found.trouble.message


def test_a_gateway_that_has_lost_its_class_keeps_what_it_has() -> None:
    model = Model()
    model.apply(of_class("ours"), source=KUBERNETES)
    model.apply(gateway("ours"), source=KUBERNETES)
    model.delete("GatewayClass", "ours", "", source=KUBERNETES)
    found = ask(model)
    assert found is not None
    assert (found.name, found.manifests) == ("edge-ours", None)


def test_a_gateway_of_a_class_of_another_controller_is_let_go() -> None:
    model = Model()
    model.apply(of_class("theirs").replace("fairlead.dev/gateway-controller", "example.com/x"), source=KUBERNETES)
    model.apply(gateway("theirs"), source=KUBERNETES)
    assert ask(model) is None


def test_a_defect_of_ours_costs_one_gateway() -> None:
    def broken(*_: object) -> Files:
        raise LookupError("oh")

    model = Model()
    model.apply(gateway(), source=KUBERNETES)
    found = ask(model, broken)
    assert found is not None
    assert found.manifests is None
    assert found.trouble is not None
    assert "LookupError: oh" in found.trouble.message


def test_the_service_has_the_port_of_udp_where_a_policy_asks_for_http3() -> None:
    model = Model()
    https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}"
    listeners = gateway().replace("[{name: http", f"[{https}, {{name: http")
    model.apply(f"{listeners}\n---\n{secret('cert')}", source=KUBERNETES)

    def ports() -> list[tuple[str, int, str]]:
        found = ask(model)
        assert found is not None
        [made] = [manifest for manifest in found.manifests or () if manifest["kind"] == "Service"]
        return [(port["name"], port["port"], port["protocol"]) for port in made["spec"]["ports"]]

    tcp = [("http-80", 80, "TCP"), ("https-443", 443, "TCP")]
    assert ports() == tcp
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
    policy = document("ClientPolicy", "h3", {"targetRefs": [target], "http3": {"enabled": True}})
    model.apply(policy.removesuffix("\n---\n"), source=KUBERNETES)
    assert ports() == [*tcp, ("http3-443", 443, "UDP")]
