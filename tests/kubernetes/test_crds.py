from __future__ import annotations

from typing import Any

import pytest

from mesh.kinds import KINDS
from mesh.kinds.crd import our_kinds
from tests.support.kubernetes import JSON, Cluster, Refused, eventually

pytestmark = pytest.mark.usefixtures("crds")

_OURS = "fairlead.dev/v1alpha1"


def service(**spec: Any) -> JSON:
    ports = [{"name": "http", "port": 80}]
    return {"apiVersion": _OURS, "kind": "Service", "metadata": {"name": "reviews"}, "spec": {"ports": ports, **spec}}


def subset(**spec: Any) -> JSON:
    return {"apiVersion": _OURS, "kind": "ServiceSubset", "metadata": {"name": "reviews-v2"}, "spec": spec}


def parameters(**spec: Any) -> JSON:
    return {"apiVersion": _OURS, "kind": "GatewayParameters", "metadata": {"name": "small"}, "spec": spec}


def test_the_api_server_finds_every_crd_in_order(cluster: Cluster) -> None:
    listed = cluster.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    ours = {item["metadata"]["name"]: item for item in listed if item["spec"]["group"] == "fairlead.dev"}
    assert {f"{kind.plural}.fairlead.dev" for kind in our_kinds()} <= set(ours)
    for name, item in ours.items():
        conditions = {one["type"]: (one["status"], one.get("message")) for one in item["status"]["conditions"]}
        assert conditions["Established"][0] == "True", name
        assert conditions["NamesAccepted"][0] == "True", name
        assert "NonStructuralSchema" not in conditions, f"{name}: {conditions}"


def test_a_good_service_is_taken_with_its_defaults(cluster: Cluster, namespace: str) -> None:
    endpoint = {"address": "10.0.0.1", "ports": {"http": 8080}}
    (made,) = cluster.apply(service(endpoints=[endpoint]), namespace=namespace)
    assert made["spec"]["ports"] == [{"name": "http", "port": 80, "protocol": "HTTP"}]
    assert made["spec"]["endpoints"][0] | endpoint == made["spec"]["endpoints"][0]
    assert made["spec"]["endpoints"][0]["weight"] == 1
    assert made["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (service(ports=[]), "spec.ports in body should have at least 1 items"),
        (service(ports=[{"port": 70000}]), "spec.ports[0].port in body should be less than or equal to 65535"),
        (service(ports=[{"port": 80, "protocol": "SMTP"}]), 'spec.ports[0].protocol: Unsupported value: "SMTP"'),
        (service(ports=[{"port": 80}, {"name": "b", "port": 80}]), "duplicate"),
        (service(ports=[{"port": 80, "name": "UPPER"}]), "spec.ports[0].name in body should match"),
        (service(ports=[{"port": "80"}]), "expected numeric (int or float), got string"),
        (service(endpoints=[{"address": ""}]), "spec.endpoints[0].address in body should be at least 1 chars long"),
        (service(endpoints=[{"address": "1" * 46}]), "may not be more than 45"),
        (service(endpoints=[{"address": "10.0.0.1", "weigth": 3}]), "weigth: field not declared in schema"),
        (service(endpoints=[{"address": "10.0.0.1", "labels": {"v": "a b"}}]), "spec.endpoints[0].labels.v in body"),
        (service(exportTo=["*", "*"]), "duplicate"),
        (service(exportTo=["prod\n"]), "spec.exportTo[0] in body should match"),
        (parameters(replicas=-1), "spec.replicas in body should be greater than or equal to 0"),
        (parameters(resources={"limits": {"cpu": "a lot"}}), "spec.resources.limits.cpu in body should match"),
        (parameters(serviceType="None"), 'spec.serviceType: Unsupported value: "None"'),
        (parameters(logLevel="loud"), 'spec.logLevel: Unsupported value: "loud"'),
        (parameters(replica=1), "spec.replica: field not declared in schema"),
        (subset(service="reviews"), "spec.labels: Required value"),
        (subset(service="reviews", labels={}), "spec.labels in body should have at least 1 properties"),
        (subset(labels={"version": "v2"}), "spec.service: Required value"),
        ({**subset(), "spec": None}, "spec in body must be of type object"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_bad_object_is_refused_with_its_path(cluster: Cluster, namespace: str, item: JSON, says: str) -> None:
    with pytest.raises(Refused) as refused:
        cluster.apply(item, namespace=namespace)
    assert refused.value.status in {400, 422, 500}
    assert says in refused.value.message
    plural = KINDS[item["kind"]].plural
    assert cluster.get(f"/apis/{_OURS}/namespaces/{namespace}/{plural}")["items"] == []


def test_two_appliers_share_the_ports_of_a_service(cluster: Cluster, namespace: str) -> None:
    cluster.apply(service(), namespace=namespace, manager="one")
    more = service(ports=[{"name": "grpc", "port": 90, "protocol": "GRPC"}])
    (merged,) = cluster.apply(more, namespace=namespace, manager="two")
    assert [port["port"] for port in merged["spec"]["ports"]] == [80, 90]


def test_a_status_is_written_apart_from_the_spec(cluster: Cluster, namespace: str) -> None:
    (made,) = cluster.apply(service(), namespace=namespace)
    path = cluster.path(made)
    fact = {"type": "Accepted", "status": "False", "reason": "Test", "message": "no good", "observedGeneration": 1}
    status = {"conditions": [{**fact, "lastTransitionTime": "2026-01-01T00:00:00Z"}], "shadowed": ["files:a.yaml"]}
    patched = cluster.request(
        "PATCH", f"{path}/status", {"status": status}, content_type="application/merge-patch+json"
    )
    assert patched["status"] == status
    assert patched["metadata"]["generation"] == 1
    ignored = cluster.request("PATCH", path, {"status": None}, content_type="application/merge-patch+json")
    assert ignored["status"] == status


def test_kubectl_shows_columns_short_names_and_words(cluster: Cluster, namespace: str) -> None:
    cluster.apply(service(), subset(service="reviews", labels={"version": "v2"}), namespace=namespace)
    # Documents of what there is follow a CRD by a moment.
    everything = eventually(
        lambda: cluster.kubectl("-n", namespace, "get", "fairlead", "-o", "wide"), "kubectl to know the category"
    )
    assert "service.fairlead.dev/reviews" in everything
    assert "servicesubset.fairlead.dev/reviews-v2" in everything
    services = cluster.kubectl("-n", namespace, "get", "flsvc").splitlines()
    assert services[0].split() == ["NAME", "PORT", "ACCEPTED", "AGE"]
    assert services[1].split()[:2] == ["reviews", "80"]
    subsets = cluster.kubectl("-n", namespace, "get", "subset").splitlines()
    assert subsets[0].split() == ["NAME", "SERVICE", "ACCEPTED", "RESOLVED", "AGE"]
    assert subsets[1].split()[:2] == ["reviews-v2", "reviews"]
    explain = ("explain", "services.spec.endpoints.weight", "--api-version", _OURS)
    eventually(lambda: "Its share of the requests." in cluster.kubectl(*explain), "kubectl to know the words")


def test_gateway_api_s_experimental_channel_is_there(cluster: Cluster) -> None:
    kinds = {item["kind"] for item in cluster.get("/apis/gateway.networking.k8s.io/v1")["resources"]}
    assert {"GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute"} <= kinds
