"""What Fairlead may not see is among its problems, with the right that is missing, until it is given."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from fairlead.processes import Children, free_port
from tests.support.api_line import as_user
from tests.support.followed_cluster import CORE_RULE, OTHER_RULE, ROLE, SLICES_RULE, account, know_rights, may
from tests.support.kubernetes import JSON, Cluster, condition, eventually
from tests.support.programs import FAIRLEAD, Serving, answers, ask, start_backend, start_envoy, start_serve

PARTS: tuple[JSON, ...] = (
    {"apiGroups": [""], "resources": ["serviceaccounts", "configmaps"], "verbs": ["list", "watch"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list", "watch"]},
)
DEPLOYMENTS: JSON = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]}


async def test_that_what_runs_gateways_may_not_be_watched_is_a_problem_until_it_may(
    children: Children, cluster: Cluster, crds: None, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    xds, api = free_port(), free_port()
    flags = ["--kubernetes-namespaces", namespace, "--kubernetes-lease", f"{namespace}/fairlead"]
    flags += ["--gateway-xds", f"127.0.0.1:{xds}", "--xds", f"127.0.0.1:{xds}", "--api", f"127.0.0.1:{api}"]
    async with account(cluster, namespace, kubeconfig, tmp_path) as limited:
        rules = (CORE_RULE, SLICES_RULE, OTHER_RULE, *PARTS)
        await may(cluster, namespace, *rules)
        command = [*FAIRLEAD, "serve", "--kubernetes", str(limited), "--store", f"sqlite:{tmp_path}/store.db", *flags]
        serving = Serving(children.start("serve", command), xds, api)

        def problems() -> list[JSON]:
            found = serving.client.request("GET", "/api/v1/problems").json()["items"]
            return [one for one in found if "Deployments of Gateways" in json.dumps(one)]

        await asyncio.to_thread(eventually, lambda: answers(serving.client, "/readyz"), "it to be ready")
        [problem] = await asyncio.to_thread(eventually, lambda: problems() or None, "the problem")
        assert "allow `list` and `watch` of deployments (group 'apps')" in json.dumps(problem)
        assert serving.child.log.read_text().count("Deployments of Gateways") == 1
        await may(cluster, namespace, *rules, DEPLOYMENTS)
        await asyncio.to_thread(eventually, lambda: not problems(), "the problem to be over")


RBAC = "rbac.authorization.k8s.io"
GATEWAY_API = "gateway.networking.k8s.io/v1"


def role(*rules: JSON) -> tuple[JSON, ...]:
    """An account, and what it may do in its namespace and nowhere else."""
    metadata = {"name": "s"}
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": ROLE, "kind": "Role", "metadata": metadata, "rules": list(rules)},
        {
            "apiVersion": ROLE,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "s"},
            "subjects": [{"kind": "ServiceAccount", "name": "s"}],
        },
    )


def test_rights_in_one_namespace_will_do_where_only_that_is_watched(
    children: Children, cluster: Cluster, crds: None, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    statuses = {**OTHER_RULE, "resources": ["gateways/status", "httproutes/status"], "verbs": ["patch"]}
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "patch"]}
    core = {**CORE_RULE, "resources": ["services", "pods"]}
    rules = core, SLICES_RULE, OTHER_RULE, statuses, lease
    *account, binding = role(*rules)
    binding["subjects"][0]["namespace"] = namespace
    port, backend = free_port(), start_backend(children, "web")
    spec = {
        "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": backend}}],
    }
    listener = {
        "name": "http",
        "port": port,
        "protocol": "HTTP",
        "allowedRoutes": {
            "namespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        },
    }
    refs = [{"group": "fairlead.dev", "kind": "Service", "name": "web", "port": 80}]
    cluster.apply(
        *(*account, binding),
        {"apiVersion": "fairlead.dev/v1alpha1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec},
        {
            "apiVersion": GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {"gatewayClassName": "fairlead", "listeners": [listener]},
        },
        {
            "apiVersion": GATEWAY_API,
            "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": refs}]},
        },
        namespace=namespace,
    )
    know_rights(cluster, namespace, rules, within=namespace)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/s/token"
    token = cluster.request("POST", path, {"spec": {"expirationSeconds": 600}})["status"]["token"]
    limited = as_user(kubeconfig, token, tmp_path / "account.yaml")
    serving = start_serve(
        children,
        *("--kubernetes", str(limited), "--kubernetes-namespaces", namespace),
        *("--kubernetes-lease", f"{namespace}/fairlead"),
    )
    start_envoy(children, "gateway", "edge", "--namespace", namespace, xds=serving.xds)
    eventually(lambda: ask(port, "x").status == 200, "an answer")

    def accepted() -> bool:
        gateway = cluster.get(f"/apis/{GATEWAY_API}/namespaces/{namespace}/gateways/edge")
        return (condition(gateway, "Accepted") or {}).get("status") == "True"

    eventually(accepted, "the status")

    def forbidden() -> dict[str, str]:
        told = serving.client.request("GET", "/api/v1/problems").json()["items"]
        problems = [one["problem"] for one in told]
        return {one["file"].split()[-1]: one["level"] for one in problems if one["code"] == "Forbidden"}

    beyond = {"Namespace": "warning", "Node": "warning", "GatewayClass": "warning"}
    eventually(lambda: forbidden() == beyond, "what may not be seen to be told")
