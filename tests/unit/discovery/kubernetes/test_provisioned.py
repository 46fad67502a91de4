from __future__ import annotations

from typing import Any

import msgspec
import pytest

from discovery.kubernetes.provision import CONTENT, OF_GATEWAY, OURS
from discovery.kubernetes.provisioned import (
    Live,
    LiveNode,
    Trouble,
    addresses_of,
    must_be_replaced,
    node_addresses,
    refusal,
    row_of,
)
from mesh.gateways import GatewayKey
from mesh.kinds.gatewayparameters import ServiceType

JSON = dict[str, Any]
LABELS = {OURS: "gateway"}
ANNOTATIONS = {OF_GATEWAY: "edge", CONTENT: "0a"}


def live(spec: JSON | None = None, status: JSON | None = None, **metadata: Any) -> Live:
    document = {
        "metadata": {"name": "x", "namespace": "default", "labels": LABELS, "annotations": ANNOTATIONS, **metadata},
        "spec": spec,
        "status": status,
    }
    return msgspec.json.decode(msgspec.json.encode(document), type=Live)


def service(kind: str = "ClusterIP", *ingress: JSON, **spec: Any) -> Live:
    return live({"type": kind, **spec}, {"loadBalancer": {"ingress": list(ingress)}})


def row(deployment: Live | None, told: Live | None = None, kind: ServiceType = "ClusterIP") -> Any:
    return row_of(name="x", service_type=kind, service=told, deployment=deployment)


def test_an_object_is_ours_by_label_and_annotation_together() -> None:
    assert live().gateway == GatewayKey("default", "edge")
    assert live(labels={}).gateway is None
    assert live(labels={OURS: "other"}).gateway is None
    assert live(annotations=None).gateway is None


@pytest.mark.parametrize(
    ("told", "addresses"),
    [
        (service(clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"]), ("10.96.0.7", "fd00::7")),
        (service(clusterIP="10.96.0.7"), ("10.96.0.7",)),
        (service(clusterIP="None", clusterIPs=["None"]), ()),
        (service("LoadBalancer", {"ip": "192.0.2.1"}, {"hostname": "a.lb.example"}), ("192.0.2.1", "a.lb.example")),
        (service("LoadBalancer", clusterIP="10.96.0.7"), ()),
        (service("NodePort", clusterIP="10.96.0.7"), ("10.0.0.1",)),
        (live(None, None), ()),
    ],
)
def test_addresses_follow_from_the_type_of_the_service(told: Live, addresses: tuple[str, ...]) -> None:
    assert addresses_of(told, ["10.0.0.1"]) == addresses


def test_a_load_balancer_of_many_addresses_tells_as_many_as_a_status_holds() -> None:
    many = [{"ip": f"192.0.2.{number}"} for number in range(20)]
    assert len(addresses_of(service("LoadBalancer", *many), ())) == 16


def test_nodes_are_reached_by_their_external_addresses_if_they_have_any() -> None:
    def node(*addresses: tuple[str, str]) -> LiveNode:
        listed = [{"type": kind, "address": address} for kind, address in addresses]
        return msgspec.convert({"metadata": {"name": "n"}, "status": {"addresses": listed}}, LiveNode)

    inside = node(("Hostname", "n"), ("InternalIP", "10.0.0.2"))
    assert node_addresses([inside, node(("InternalIP", "10.0.0.1"))]) == ("10.0.0.1", "10.0.0.2")
    assert node_addresses([inside, node(("ExternalIP", "192.0.2.1"))]) == ("192.0.2.1",)
    assert node_addresses([]) == ()


def test_a_gateway_is_ready_with_one_available_proxy() -> None:
    told = service(clusterIP="10.96.0.7")
    assert not row(None, told).ready
    assert not row(live(status={"availableReplicas": 0}), told).ready
    assert row(live(status={"availableReplicas": 1}), told).ready


def test_a_load_balancer_that_never_comes_is_explained() -> None:
    found = row(live(status={"availableReplicas": 1}), service("LoadBalancer", clusterIP="10.96.0.7"), "LoadBalancer")
    assert found.reason == "AddressNotAssigned"
    assert "gateway_service_type" in found.problem


def test_a_quota_that_leaves_no_pods_is_told() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: tiny"}
    found = row(live(status={"conditions": [condition]}), service(clusterIP="10.96.0.7"))
    assert (found.reason, found.ready) == ("NoResources", False)
    assert "exceeded quota: tiny" in found.problem


def test_a_rollout_without_progress_is_no_problem_while_a_proxy_serves() -> None:
    condition = {"type": "Progressing", "status": "False", "message": "it has timed out progressing."}
    stuck = live(status={"conditions": [condition]})
    assert "timed out" in row(stuck, service(clusterIP="10.96.0.7")).problem
    serving = live(status={"conditions": [condition], "availableReplicas": 1})
    assert row(serving, service(clusterIP="10.96.0.7")).problem == ""


def test_what_went_wrong_when_it_was_made_goes_before_what_is_there() -> None:
    found = row_of(
        name="x",
        service_type="ClusterIP",
        service=service(clusterIP="10.96.0.7"),
        deployment=live(status={"availableReplicas": 1}),
        trouble=Trouble("AddressNotUsable", "no"),
    )
    assert (found.reason, found.problem, found.addresses) == ("AddressNotUsable", "no", ("10.96.0.7",))


@pytest.mark.parametrize(
    ("told", "spec", "replaced"),
    [
        (service(clusterIP="10.96.0.7"), {"type": "ClusterIP", "clusterIP": "10.96.0.8"}, True),
        (service(clusterIP="10.96.0.7"), {"type": "ClusterIP", "clusterIP": "10.96.0.7"}, False),
        (service(clusterIP="10.96.0.7"), {"type": "ClusterIP"}, False),
        (service("LoadBalancer"), {"type": "LoadBalancer", "loadBalancerClass": "a.io/b"}, True),
        (service("LoadBalancer", loadBalancerClass="a.io/b"), {"type": "LoadBalancer"}, True),
        (service("LoadBalancer", loadBalancerClass="a.io/b"), {"type": "ClusterIP"}, False),
        (service("ClusterIP"), {"type": "LoadBalancer", "loadBalancerClass": "a.io/b"}, False),
    ],
)
def test_a_service_is_replaced_only_for_what_cannot_be_changed(told: Live, spec: JSON, replaced: bool) -> None:
    assert must_be_replaced(told, {"kind": "Service", "spec": spec}) is replaced


def test_nothing_but_a_service_is_ever_replaced() -> None:
    assert not must_be_replaced(live({}), {"kind": "Deployment", "spec": {"clusterIP": "1"}})


@pytest.mark.parametrize(
    ("kind", "reason", "message", "requested", "told"),
    [
        ("Service", "Invalid", "provided IP is not in the valid range", True, "AddressNotUsable"),
        ("Service", "Invalid", "spec.ports: Required value", False, "Invalid"),
        ("Deployment", "Invalid", "spec: odd", True, "Invalid"),
        ("Service", "Forbidden", "exceeded quota: tiny", False, "NoResources"),
        ("Service", "Forbidden", "the namespace is being terminated", False, "Pending"),
        ("Service", "InternalError", "etcd", True, "Pending"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_specification(
    kind: str, reason: str, message: str, requested: bool, told: str
) -> None:
    trouble = refusal(kind, "x", reason, message, requested=requested)
    assert trouble.reason == told
    assert message in trouble.message
