"""`fairlead demo --consul --kubeconfig`: a service moves out of real pods into a real Consul, and nothing is left."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.consul import required_consul
from tests.support.kubernetes import Cluster, eventually
from tests.support.programs import FAIRLEAD


@pytest.mark.slow
@pytest.mark.usefixtures("images")
@pytest.mark.timeout(600)
def test_the_demo_moves_a_service_from_pods_to_consul_and_leaves_nothing_in_the_cluster(cluster: Cluster) -> None:
    def namespaces() -> set[str]:
        items = cluster.get("/api/v1/namespaces")["items"]
        names = (item["metadata"]["name"] for item in items if item["status"]["phase"] == "Active")
        return {name for name in names if name.startswith("fairlead-demo-")}

    before = namespaces()
    command = ["demo", "--consul", str(required_consul()), "--kubeconfig", str(cluster.kubeconfig), "-o", "json"]
    made = subprocess.run([*FAIRLEAD, *command], capture_output=True, text=True, timeout=500, check=False)
    assert made.returncode == 0, made.stderr
    claims = {claim["name"]: claim for claim in json.loads(made.stdout)["claims"]}
    moved = claims["move"]
    assert moved["from"] == "kubernetes"
    assert len(moved["instances"]) == 2
    assert all(name.startswith("reviews-") for name in moved["instances"])
    assert set(moved["counts"]) == {"reviews-v1-1", "reviews-v1-2", "reviews-v2-1"}
    assert moved["failures"] == []
    assert moved["meanwhile"] > 300
    assert all(claim["failures"] == [] for claim in claims.values())
    eventually(lambda: namespaces() <= before, "the demo's namespace to be gone")
