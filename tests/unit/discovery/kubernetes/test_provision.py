from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from discovery.kubernetes.provision import (
    CA,
    CONTENT,
    DRAIN_SECONDS,
    GATEWAY_NAME,
    OF_GATEWAY,
    Files,
    Settings,
    content_of,
    manifests,
)
from discovery.kubernetes.provisioned import PARTS
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayparameters import GatewayParametersSpec
from mesh.model import ObjectKey
from mesh.objects import find
from mesh.tables import Present
from tests.support.model import Model

JSON = dict[str, Any]
SETTINGS = Settings(image="example.com/envoy:1", image_pull_policy="IfNotPresent", service_type="ClusterIP")
FILES = Files({"bootstrap.json": '{"a": 1}', "drain.json": "{}"}, "-----BEGIN CERTIFICATE-----\n")
HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}


def made(
    parameters: JSON | None = None,
    *,
    name: str = "edge",
    listeners: list[JSON] | None = None,
    settings: Settings = SETTINGS,
    files: Files = FILES,
    **spec: Any,
) -> dict[str, JSON]:
    """The manifests of a Gateway, by kind."""
    document = {
        "kind": "Gateway",
        "metadata": {"name": name, "uid": "0-0-1"},
        "spec": {"gatewayClassName": "fairlead", "listeners": listeners or [HTTP], **spec},
    }
    model = Model()
    model.apply(yaml.safe_dump(document), source="kubernetes:one")
    row = model.engine.get(GATEWAYS, GatewayKey("default", name))
    gateway = find(Present(model.engine), Gateway, ObjectKey("Gateway", "default", name))
    assert row is not None
    assert gateway is not None
    wanted = msgspec.convert(parameters or {}, GatewayParametersSpec)
    found = manifests(gateway, row, wanted, settings, files)
    if found:
        assert [manifest["kind"] for manifest in found] == [part.kind for part in PARTS]
    return {manifest["kind"]: manifest for manifest in found}


def pod(manifest: dict[str, JSON]) -> JSON:
    spec: JSON = manifest["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(manifest: dict[str, JSON]) -> JSON:
    [only] = pod(manifest)["containers"]
    found: JSON = only
    return found


def argument(manifest: dict[str, JSON], flag: str) -> str | None:
    words = container(manifest)["args"]
    return str(words[words.index(flag) + 1]) if flag in words else None


def test_equal_gateways_give_equal_manifests() -> None:
    assert made() == made()


def test_pods_may_do_nothing_that_a_restricted_namespace_forbids() -> None:
    found = made()
    security = pod(found)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    assert container(found)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod(found)["automountServiceAccountToken"] is False
    assert found["ServiceAccount"]["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod(found).keys()


def test_everything_goes_with_the_gateway_and_says_whose_it_is() -> None:
    for manifest in made(name="e" * 200).values():
        metadata = manifest["metadata"]
        [owner] = metadata["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Gateway", "0-0-1", True)
        assert metadata["annotations"][OF_GATEWAY] == "e" * 200
        assert len(metadata["name"]) <= 63
        assert len(metadata["labels"][GATEWAY_NAME]) <= 63


def test_labels_and_annotations_of_the_infrastructure_are_on_everything_and_on_the_pods() -> None:
    found = made(infrastructure={"labels": {"team": "red"}, "annotations": {"a.io/b": "c"}})
    template = found["Deployment"]["spec"]["template"]
    for metadata in (template["metadata"], *(manifest["metadata"] for manifest in found.values())):
        assert metadata["labels"]["team"] == "red"
        assert metadata["annotations"]["a.io/b"] == "c"


def test_labels_of_the_infrastructure_cannot_take_the_place_of_ours() -> None:
    found = made(infrastructure={"labels": {GATEWAY_NAME: "other"}, "annotations": {OF_GATEWAY: "other"}})
    for manifest in found.values():
        assert manifest["metadata"]["labels"][GATEWAY_NAME] == "edge"
        assert manifest["metadata"]["annotations"][OF_GATEWAY] == "edge"
    assert found["Service"]["spec"]["selector"][GATEWAY_NAME] == "edge"


def test_a_listener_more_is_a_port_more_and_restarts_no_proxy() -> None:
    before, after = made(), made(listeners=[HTTP, {**HTTP, "name": "more", "port": 8080}])
    assert [port["port"] for port in after["Service"]["spec"]["ports"]] == [80, 8080]
    assert before["Deployment"] == after["Deployment"]
    assert before["ConfigMap"] == after["ConfigMap"]


def test_listeners_that_share_a_port_share_its_port() -> None:
    found = made(listeners=[{**HTTP, "hostname": "a.com"}, {**HTTP, "name": "b", "hostname": "b.com"}])
    [port] = found["Service"]["spec"]["ports"]
    assert port["name"] == "http-80"


def test_a_listener_whose_certificate_is_missing_keeps_its_port() -> None:
    tls = {"certificateRefs": [{"name": "missing"}]}
    found = made(listeners=[HTTP, {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}])
    assert [port["name"] for port in found["Service"]["spec"]["ports"]] == ["http-80", "https-443"]


def test_nothing_runs_a_gateway_without_a_listener_that_is_accepted() -> None:
    assert made(listeners=[{"name": "odd", "port": 81, "protocol": "example.com/ODD"}]) == {}
    assert made(addresses=[{"type": "example.com/odd", "value": "x"}]) == {}


def test_a_new_bootstrap_restarts_the_proxies_and_a_new_authority_does_not() -> None:
    before = made()
    renewed = made(files=Files(FILES.start, "other"))
    assert renewed["Deployment"] == before["Deployment"]
    assert renewed["ConfigMap"]["data"][CA] == "other"
    changed = made(files=Files({**FILES.start, "bootstrap.json": "{}"}, FILES.ca))
    assert changed["Deployment"]["spec"]["template"] != before["Deployment"]["spec"]["template"]


def test_the_hash_of_a_manifest_changes_with_what_is_in_it() -> None:
    before, after = made(), made({"replicas": 2})
    assert content_of(before["Deployment"]) != content_of(after["Deployment"])
    assert content_of(before["Service"]) == content_of(after["Service"])
    assert all(CONTENT in manifest["metadata"]["annotations"] for manifest in before.values())


def test_replicas_are_left_to_others_where_nobody_says_how_many() -> None:
    assert "replicas" not in made()["Deployment"]["spec"]
    assert made({"replicas": 0})["Deployment"]["spec"]["replicas"] == 0


def test_evictions_take_one_proxy_at_a_time_unless_told_otherwise() -> None:
    budget = made()["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert made({"minAvailable": 2})["PodDisruptionBudget"]["spec"]["minAvailable"] == 2


def test_a_rollout_takes_no_proxy_away_before_another_is_ready() -> None:
    found = made()
    assert found["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    probe = container(found)["readinessProbe"]
    assert (probe["periodSeconds"], probe["httpGet"]["path"]) == (1, "/ready")
    assert "initialDelaySeconds" not in probe


def test_a_proxy_drains_before_it_ends_and_has_the_time_for_it() -> None:
    for seconds in (DRAIN_SECONDS, 60):
        found = made({"drainSeconds": seconds})
        assert container(found)["lifecycle"]["preStop"]["exec"]["command"][0] == container(found)["command"][0]
        assert pod(found)["terminationGracePeriodSeconds"] > seconds
    assert "lifecycle" not in container(made({"drainSeconds": 0}))


def test_parameters_reach_the_pods() -> None:
    found = made(
        {
            "envoyImage": "a/b:c",
            "logLevel": "debug",
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}],
            "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}},
            "podAnnotations": {"a.io/b": "c"},
        }
    )
    assert container(found)["image"] == "a/b:c"
    assert argument(found, "--log-level") == "debug"
    assert pod(found)["nodeSelector"] == {"disk": "ssd"}
    [toleration] = pod(found)["tolerations"]
    assert toleration == {"key": "edge", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}
    assert container(found)["resources"] == {"limits": {"cpu": "1500m", "memory": "1Gi"}}
    assert found["Deployment"]["spec"]["template"]["metadata"]["annotations"]["a.io/b"] == "c"
    assert argument(found, "--concurrency") == "2"
    assert argument(made(), "--concurrency") is None


def test_a_proxy_names_its_pod_in_its_identity() -> None:
    assert argument(made(), "--service-node") == "gateway~default~edge~$(POD_NAME)"


def test_the_token_is_for_the_control_plane_alone() -> None:
    found = made(settings=msgspec.structs.replace(SETTINGS, token_audience="mesh", token_seconds=600))
    [token] = [source for volume in pod(found)["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    assert token["serviceAccountToken"] == {"audience": "mesh", "expirationSeconds": 600, "path": "token"}
    assert pod(found)["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"] == "edge-fairlead"


def test_the_service_is_of_the_type_that_is_asked_for() -> None:
    assert made()["Service"]["spec"]["type"] == "ClusterIP"
    found = made(
        {
            "serviceType": "LoadBalancer",
            "loadBalancerClass": "a.io/b",
            "externalTrafficPolicy": "Local",
            "serviceAnnotations": {"cloud.io/internal": "true"},
        }
    )
    spec = found["Service"]["spec"]
    assert (spec["type"], spec["loadBalancerClass"], spec["externalTrafficPolicy"]) == (
        "LoadBalancer",
        "a.io/b",
        "Local",
    )
    assert found["Service"]["metadata"]["annotations"]["cloud.io/internal"] == "true"
    assert "cloud.io/internal" not in found["Deployment"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ClusterIP", {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"]}),
        ("LoadBalancer", {"loadBalancerIP": "10.96.0.7"}),
        ("NodePort", {}),
    ],
)
def test_addresses_are_asked_of_the_service_and_never_taken_from_others(kind: str, fields: JSON) -> None:
    addresses = [{"value": "fd00::7"}, {"value": "10.96.0.7"}, {"type": "Hostname", "value": "a.com"}]
    spec = made({"serviceType": kind}, addresses=addresses)["Service"]["spec"]
    asked = {name: spec[name] for name in ("clusterIP", "clusterIPs", "loadBalancerIP") if name in spec}
    assert asked == fields
    assert "externalIPs" not in spec
