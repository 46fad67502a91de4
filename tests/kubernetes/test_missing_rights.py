"""What Fairlead may not see is among its problems, with the right that is missing, until it is given."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from fairlead.processes import Children, free_port
from tests.support.followed_cluster import CORE_RULE, OTHER_RULE, SLICES_RULE, account, may
from tests.support.kubernetes import JSON, Cluster, eventually
from tests.support.programs import FAIRLEAD, Serving, answers

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
        await asyncio.to_thread(eventually, lambda: not problems(), "the problem to be over", seconds=60)
