from __future__ import annotations

import re

import pytest

from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.kinds.gateway import Gateway as GatewayObject
from mesh.model import PROVISIONED, ObjectKey, Provisioned, nothing_run_by
from mesh.objects import find
from mesh.provisioning import label_value, parameters, resource_name
from mesh.tables import Change, Present
from tests.support.model import Model

KUBERNETES = "kubernetes:one"
LISTENERS = "listeners: [{name: http, port: 80, protocol: HTTP}]"
READY = Provisioned(addresses=("10.96.0.7",), ready=True, service_account="edge-fairlead")


def gateway(extra: str = "", name: str = "edge") -> str:
    more = f", {extra}" if extra else ""
    return f"{{kind: Gateway, metadata: {{name: {name}}}, spec: {{gatewayClassName: fairlead, {LISTENERS}{more}}}}}"


def params(name: str, spec: str, namespace: str = "default") -> str:
    return f"{{kind: GatewayParameters, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}"


def ref(name: str, kind: str = "GatewayParameters", group: str = "fairlead.dev") -> str:
    return f"infrastructure: {{parametersRef: {{group: {group}, kind: {kind}, name: {name}}}}}"


def conditions(model: Model, name: str = "edge") -> dict[str, tuple[bool, str]]:
    return {item.type: (item.status, item.reason) for item in model.status("Gateway", name).conditions}


def row(model: Model) -> Gateway:
    found = model.engine.get(GATEWAYS, GatewayKey("default", "edge"))
    assert found is not None
    return found


def test_a_gateway_of_kubernetes_is_programmed_once_a_proxy_is_ready_at_an_address() -> None:
    model = Model()
    model.apply(gateway(), source=KUBERNETES)
    assert conditions(model) == {"Accepted": (True, "Accepted"), "Programmed": (False, "Pending")}
    model.provision("edge", Provisioned(ready=True))
    assert conditions(model)["Programmed"] == (False, "AddressNotAssigned")
    model.provision("edge", Provisioned(addresses=("10.96.0.7",)))
    assert conditions(model)["Programmed"] == (False, "Pending")
    model.provision("edge", READY)
    assert conditions(model)["Programmed"] == (True, "Programmed")
    assert model.status("Gateway", "edge").addresses == ("10.96.0.7",)


def test_its_listeners_wait_with_it() -> None:
    model = Model()
    model.apply(gateway(), source=KUBERNETES)

    def told() -> tuple[bool, str]:
        [listener] = model.status("Gateway", "edge").listeners
        [found] = [item for item in listener.conditions if item.type == "Programmed"]
        return found.status, found.reason

    assert told() == (False, "Pending")
    model.provision("edge", READY)
    assert told() == (True, "Programmed")


def test_whether_proxies_are_ready_never_touches_what_they_are_told() -> None:
    model = Model()
    model.apply(gateway(), source=KUBERNETES)
    commit = model.provision("edge", READY)
    assert commit.of(GATEWAYS) == {}


def test_a_listener_on_a_port_of_the_proxies_themselves_is_refused_and_the_others_live_on() -> None:
    model = Model()
    taken = "{name: taken, port: 15021, protocol: HTTP}"
    model.apply(gateway().replace("listeners: [", f"listeners: [{taken}, "), source=KUBERNETES)
    model.provision("edge", READY)

    def told(name: str) -> dict[str, tuple[bool, str]]:
        [found] = [one for one in model.status("Gateway", "edge").listeners if one.name == name]
        return {one.type: (one.status, one.reason) for one in found.conditions}

    assert told("taken")["Accepted"] == (False, "PortUnavailable")
    assert told("taken")["Programmed"] == (False, "Invalid")
    assert told("taken")["Conflicted"] == (False, "NoConflicts")
    assert told("http")["Programmed"] == (True, "Programmed")
    assert conditions(model)["Accepted"] == (True, "ListenersNotValid")
    model.delete("Gateway", "edge", source=KUBERNETES)
    model.apply(gateway().replace("listeners: [", f"listeners: [{taken}, "), source="files")
    assert told("taken")["Accepted"] == (True, "Accepted"), "who starts an Envoy chooses its ports"


def test_a_problem_of_the_platform_is_told_with_its_reason() -> None:
    model = Model()
    model.apply(gateway(), source=KUBERNETES)
    model.provision("edge", Provisioned(problem="The quota is used up.", reason="NoResources"))
    assert conditions(model)["Programmed"] == (False, "NoResources")
    assert "quota" in model.status("Gateway", "edge").conditions[1].message


def test_addresses_of_a_gateway_of_kubernetes_are_requests_and_not_bound() -> None:
    model = Model()
    model.apply(gateway("addresses: [{value: 10.96.0.7}]"), source=KUBERNETES)
    assert row(model).addresses == ()
    assert row(model).requested == ("10.96.0.7",)
    model.provision("edge", Provisioned(addresses=("10.96.0.9",), ready=True))
    assert conditions(model)["Programmed"] == (False, "AddressNotUsable")
    model.provision("edge", READY)
    assert conditions(model)["Programmed"] == (True, "Programmed")


@pytest.mark.parametrize("source", ["files", "store"])
def test_gateways_of_files_and_rest_bind_their_addresses_and_wait_for_nobody(source: str) -> None:
    model = Model()
    model.apply(gateway("addresses: [{value: 10.96.0.7}]"), source=source)
    assert row(model).addresses == ("10.96.0.7",)
    assert row(model).service_account == "edge"
    assert conditions(model)["Programmed"] == (True, "Programmed")
    assert model.status("Gateway", "edge").addresses == ("10.96.0.7",)


def test_where_kubernetes_runs_no_proxies_its_gateways_are_as_those_of_files() -> None:
    model = Model()
    model.engine.commit([Change(PROVISIONED, nothing_run_by(KUBERNETES), Provisioned(ready=True))])
    model.apply(gateway("addresses: [{value: 10.96.0.7}]"), source=KUBERNETES)
    assert (row(model).addresses, row(model).service_account) == (("10.96.0.7",), "edge")
    assert conditions(model)["Programmed"] == (True, "Programmed")


def test_a_host_name_as_an_address_is_accepted_and_usable_only_if_the_platform_has_it() -> None:
    model = Model()
    model.apply(gateway("addresses: [{type: Hostname, value: a.example.com}]"), source=KUBERNETES)
    model.provision("edge", READY)
    assert conditions(model) == {"Accepted": (True, "Accepted"), "Programmed": (False, "AddressNotUsable")}
    model.provision("edge", Provisioned(addresses=("a.example.com",), ready=True))
    assert conditions(model)["Programmed"] == (True, "Programmed")
    [address] = model.status("Gateway", "edge").to_json()["addresses"]
    assert address == {"type": "Hostname", "value": "a.example.com"}


def test_an_address_of_a_type_nobody_knows_refuses_the_gateway() -> None:
    model = Model()
    model.apply(gateway("addresses: [{type: test/fake-invalid-type, value: x}]"), source=KUBERNETES)
    assert conditions(model)["Accepted"] == (False, "UnsupportedAddress")


def test_of_a_gateway_that_kubernetes_no_longer_declares_the_files_take_over() -> None:
    model = Model()
    model.apply(gateway(), source="files")
    model.apply(gateway(), source=KUBERNETES)
    assert row(model).platform == KUBERNETES
    assert row(model).service_account == "edge-fairlead"
    model.delete("Gateway", "edge", source=KUBERNETES)
    assert row(model).platform == ""
    assert conditions(model)["Programmed"] == (True, "Programmed")


def test_parameters_that_exist_are_accepted() -> None:
    model = Model()
    model.apply(gateway(ref("usual")), source=KUBERNETES)
    assert conditions(model)["Accepted"] == (False, "InvalidParameters")
    model.apply(params("usual", "{replicas: 2}"), source=KUBERNETES)
    assert conditions(model)["Accepted"] == (True, "Accepted")
    model.delete("GatewayParameters", "usual", source=KUBERNETES)
    assert conditions(model)["Accepted"] == (False, "InvalidParameters")


@pytest.mark.parametrize("wrong", [ref("usual", kind="ConfigMap"), ref("usual", group="example.com")])
def test_parameters_of_another_kind_are_not(wrong: str) -> None:
    model = Model()
    model.apply(params("usual", "{}"))
    model.apply(gateway(wrong))
    assert conditions(model)["Accepted"] == (False, "InvalidParameters")


def test_a_class_is_judged_by_its_parameters_too() -> None:
    model = Model()
    where = "{group: fairlead.dev, kind: GatewayParameters, name: usual, namespace: infra}"
    spec = f"{{controllerName: fairlead.dev/gateway-controller, parametersRef: {where}}}"
    model.apply(f"{{kind: GatewayClass, metadata: {{name: fairlead}}, spec: {spec}}}")
    [condition] = model.status("GatewayClass", "fairlead", "").conditions
    assert (condition.status, condition.reason) == (False, "InvalidParameters")
    model.apply(params("usual", "{}", namespace="infra"))
    [condition] = model.status("GatewayClass", "fairlead", "").conditions
    assert condition.status


def test_a_gateways_parameters_go_before_those_of_its_class_field_by_field() -> None:
    model = Model()
    where = "{group: fairlead.dev, kind: GatewayParameters, name: usual, namespace: infra}"
    spec = f"{{controllerName: fairlead.dev/gateway-controller, parametersRef: {where}}}"
    model.apply(f"{{kind: GatewayClass, metadata: {{name: fairlead}}, spec: {spec}}}")
    model.apply(params("usual", "{replicas: 3, logLevel: debug}", namespace="infra"))
    model.apply(params("own", "{replicas: 0, serviceType: NodePort}"))
    model.apply(gateway(ref("own")), source=KUBERNETES)
    look = Present(model.engine)
    found = find(look, GatewayObject, ObjectKey("Gateway", "default", "edge"))
    assert found is not None
    merged = parameters(look, found)
    assert (merged.replicas, merged.log_level, merged.service_type) == (0, "debug", "NodePort")


def test_names_are_gateway_and_class_where_a_service_may_be_called_so() -> None:
    assert resource_name("edge", "fairlead") == "edge-fairlead"


@pytest.mark.parametrize("name", ["a" * 253, "a.b", "1edge", "a" * 62 + ".b", ("x" * 61 + ".") * 4])
def test_other_names_are_cut_and_hashed_into_names_of_services(name: str) -> None:
    made = resource_name(name, "fairlead")
    assert len(made) <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", made)
    assert made != resource_name(name + "2", "fairlead")


def test_names_that_would_fall_together_are_told_apart() -> None:
    assert resource_name("a.b", "c") != resource_name("a-b", "c")
    assert len({resource_name("a" * 100, "c"), resource_name("a" * 101, "c"), resource_name("a" * 100, "d")}) == 3


@pytest.mark.parametrize("name", ["a" * 253, "a" * 50 + ".-" + "b" * 20])
def test_long_names_become_values_of_labels(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,61}[A-Za-z0-9]", label_value(name))
    assert label_value("edge") == "edge"
