from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.kinds import KINDS
from mesh.statuses import KINDS_WITH_STATUS
from scripts.manifests import FILE, made
from tests.support.helm import CHART, ChartError, render
from tests.support.kubernetes import JSON, Cluster

pytestmark = pytest.mark.timeout(600)  # the first of them builds the renderer: a minute or two on a new machine


def objects(values: JSON | None = None) -> dict[str, JSON]:
    return {item["kind"]: item for item in yaml.safe_load_all(render(values)) if item}


def container(values: JSON | None = None) -> JSON:
    (found,) = objects(values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def test_the_plain_manifests_are_what_the_chart_makes() -> None:
    assert FILE.read_text() == made(), "the manifests are old: run `make manifests`"


def test_the_defaults_make_everything() -> None:
    assert set(objects()) == {
        "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Secret", "Deployment", "Service",
        "PodDisruptionBudget", "NetworkPolicy", "GatewayClass",
    }  # fmt: skip


def test_optional_parts_can_be_left_out() -> None:
    fewer = objects(
        {
            "podDisruptionBudget": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "gatewayClass": {"create": False},
            "apiTokensSecret": "mine",
        }
    )
    assert not {"PodDisruptionBudget", "NetworkPolicy", "GatewayClass", "Secret"} & set(fewer)
    volumes = fewer["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "api-tokens", "secret": {"secretName": "mine"}} in volumes


def test_settings_become_environment_variables_that_the_server_knows() -> None:
    from fairlead.settings import describe

    known = {info.variable for info in describe()}
    given = {
        one["name"]: one["value"]
        for one in container({"settings": {"quiet_period": 0.5, "log_level": "debug"}})["env"]
        if "value" in one
    }
    assert given["FAIRLEAD_QUIET_PERIOD"] == "0.5"
    assert given["FAIRLEAD_LOG_LEVEL"] == "debug"
    assert [name for name in given if name not in known] == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"replicas": "two"}, "/replicas"),
        ({"replica": 2}, "'replica' not allowed"),
        ({"gateway": {"serviceType": "Loadbalancer"}}, "/gateway/serviceType"),
        ({"settings": {"logLevel": "debug"}}, "'logLevel' does not match"),
        ({"settings": {"files": ["a"]}}, "/settings/files"),
        ({"gatewayClass": {"name": "A B"}}, "/gatewayClass/name"),
        ({"image": {"tag": 1}}, "/image/tag"),
        ({"namespaces": ["A B"]}, "/namespaces/0"),
    ],
)
def test_wrong_values_are_refused_with_their_path(values: JSON, says: str) -> None:
    with pytest.raises(ChartError) as refused:
        render(values)
    assert says in str(refused.value)


def test_every_value_has_a_place_in_the_schema() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    def missing(values: Any, node: JSON, path: str) -> list[str]:
        if not isinstance(values, dict) or "properties" not in node:
            return []
        return [
            problem
            for name, value in values.items()
            for problem in (
                missing(value, node["properties"][name], f"{path}.{name}")
                if name in node["properties"]
                else [f"{path}.{name}"]
            )
        ]

    assert missing(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "") == []


def test_every_kind_that_is_watched_may_be_read() -> None:
    rules = objects()["ClusterRole"]["rules"]
    granted = {(group, name) for rule in rules for group in rule["apiGroups"] for name in rule["resources"]}
    assert [kind.name for kind in KINDS.values() if (kind.group, kind.plural) not in granted] == []


def test_every_kind_that_has_a_status_may_be_told_it() -> None:
    granted = {
        (verb, group, name)
        for rule in objects()["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for name in rule["resources"]
        for verb in rule["verbs"]
    }
    told = [KINDS[name] for name in KINDS_WITH_STATUS]
    wanted = {
        (verb, kind.group, f"{kind.plural}{at}") for kind in told for verb, at in (("patch", "/status"), ("get", ""))
    }
    assert wanted - granted == set()
    assert {(group, name) for _, group, name in granted if name.endswith("/status")} == {
        (kind.group, f"{kind.plural}/status") for kind in told
    }


def test_with_namespaces_what_fairlead_keeps_for_itself_is_granted_in_its_own() -> None:
    [own] = [one for one in yaml.safe_load_all(render({"namespaces": ["one"]})) if one and one["kind"] == "Role"]
    granted = {(resource, verb) for rule in own["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert {("configmaps", "get"), ("configmaps", "create"), ("configmaps", "patch")} <= granted


def test_with_namespaces_what_weighs_is_granted_in_these_alone() -> None:
    made = [item for item in yaml.safe_load_all(render({"namespaces": ["one", "two"]})) if item]
    roles = {item["metadata"]["name"]: item["rules"] for item in made if item["kind"] == "ClusterRole"}
    [everywhere] = [item["roleRef"]["name"] for item in made if item["kind"] == "ClusterRoleBinding"]
    granted = {name for rule in roles[everywhere] for name in rule["resources"]}
    assert not {"secrets", "deployments", "services", "pods"} & granted
    assert {verb for rule in roles[everywhere] for verb in rule["verbs"]} <= {"get", "list", "watch", "patch", "create"}
    [whole] = roles.keys() - {everywhere}
    bound = {item["metadata"]["namespace"] for item in made if item.get("roleRef", {}).get("name") == whole}
    assert bound == {"one", "two"}
    of_whole = {(group, name) for rule in roles[whole] for group in rule["apiGroups"] for name in rule["resources"]}
    of_all = {(group, name) for rule in roles[everywhere] for group in rule["apiGroups"] for name in rule["resources"]}
    assert of_all <= of_whole
    given = {one["name"]: one.get("value") for one in container({"namespaces": ["one", "two"]})["env"]}
    assert given["FAIRLEAD_KUBERNETES_NAMESPACES"] == "one,two"


def test_pods_are_restricted_as_kubernetes_asks(cluster: Cluster, new_namespace: Any) -> None:
    """The strictest of Kubernetes' standards for pods, enforced by the API server, has nothing against ours."""
    namespace = new_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    template = objects()["Deployment"]["spec"]["template"]
    spec = {**template["spec"], "serviceAccountName": "default", "automountServiceAccountToken": False}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try"}, "spec": spec}
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)


def test_the_api_server_takes_every_object(cluster: Cluster, crds: None, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "\n---\n".join(yaml.safe_dump(item) for item in objects().values()).replace("fairlead-system", "default")
    )
    said = cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert said.count("serverside-applied") == len(objects())


def test_identities_are_an_authority_that_replicas_share_and_a_second_way_in() -> None:
    made = objects({"identities": {"enabled": True, "passphraseSecret": "mine"}})
    (serving,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one for one in serving["env"]}
    assert env["FAIRLEAD_CA"]["value"] == "secret:fairlead-authority"
    assert env["FAIRLEAD_CA_PASSPHRASE"]["valueFrom"] == {"secretKeyRef": {"name": "mine", "key": "passphrase"}}
    ports = {port["name"]: port for port in made["Service"]["spec"]["ports"]}
    assert ports["xds-tokens"]["targetPort"] in {port["name"] for port in serving["ports"]}
    assert {"port": "xds-tokens", "protocol": "TCP"} in made["NetworkPolicy"]["spec"]["ingress"][0]["ports"]
    [named] = [rule["resourceNames"] for rule in made["Role"]["rules"] if rule["verbs"] == ["get", "update"]]
    assert named == ["fairlead-authority", "fairlead-authority-join-tokens"]


def test_the_component_for_kubectl_does_what_the_chart_does(cluster: Cluster) -> None:
    """As the local kubectl builds it, which is what users run."""
    folder = CHART.parent
    with tempfile.TemporaryDirectory(dir=folder) as made_in:
        kustomization = {"resources": ["../manifests"], "components": ["../identities"]}
        Path(made_in, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        built = cluster.kubectl("kustomize", made_in)
    made = {item["kind"]: item for item in yaml.safe_load_all(built) if item}
    chart = objects({"identities": {"enabled": True}, "apiTokensSecret": "fairlead-api-tokens"})

    def about(found: dict[str, JSON]) -> Any:
        (serving,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
        env = {one["name"]: one for one in serving["env"]}
        names = ("FAIRLEAD_CA", "FAIRLEAD_CA_PASSPHRASE", "FAIRLEAD_XDS_TOKENS")
        service = {port["name"]: port for port in found["Service"]["spec"]["ports"]}
        ingress = found["NetworkPolicy"]["spec"]["ingress"]
        ports = {port["name"]: port for port in serving["ports"]}
        return [env[name] for name in names], service, ports, ingress

    assert about(made) == about(chart)
    granted = [rule.get("resourceNames") for rule in made["Role"]["rules"]]
    assert ["fairlead-authority", "fairlead-authority-join-tokens"] in granted
