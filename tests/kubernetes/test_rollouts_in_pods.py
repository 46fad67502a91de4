"""Rollouts where Fairlead runs in pods with the rights of its chart, and its proxies too: what people install."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from fairlead.client import Client, RefusedError
from tests.support import rolled
from tests.support.audit import asked
from tests.support.installed import NAMESPACE, Installed
from tests.support.kubernetes import JSON, Cluster, condition, eventually
from tests.support.load import Load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = secrets.token_urlsafe(32)
VERSIONS = {"web": 0, "bad": 60, "good": 0}
"""The versions, and how many percent of their answers are errors."""


@pytest.fixture(scope="module")
def fairlead(
    cluster: Cluster, crds: None, images: None, place: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """Fairlead as installed, with reports of proxies that do not make tests wait."""
    installed = Installed(cluster, tmp_path_factory.mktemp("kustomization"), [place], FAIRLEAD_LOAD_REPORT_INTERVAL="1")
    installed.install()
    secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/fairlead-api-tokens"
    body = {"stringData": {"tokens": f"tests:write:{TOKEN}\n"}}
    cluster.request("PATCH", secret, body, content_type="application/merge-patch+json")
    installed.restart()
    yield installed
    installed.remove()


def scene() -> tuple[JSON, ...]:
    edge = rolled.gateway(80)
    reference = {"group": "fairlead.dev", "kind": "GatewayParameters", "name": "two"}
    edge["spec"]["infrastructure"] = {"parametersRef": reference}
    parameters: JSON = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "GatewayParameters",
        "metadata": {"name": "two"},
        "spec": {"replicas": 2, "serviceType": "ClusterIP", "reportTimes": True},
    }
    pods = [
        item
        for name, failing in VERSIONS.items()
        for item in (rolled.deployment(replicas=1, linger=1, name=name, failing=failing), rolled.service(name))
    ]
    return parameters, *pods, edge, rolled.route()


def rollout(canary: str, *steps: JSON) -> JSON:
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "web"},
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "web"},
            "stable": {"name": "web"},
            "canary": {"name": canary, "port": 80},
            "steps": list(steps),
            "analysis": {
                "interval": "2s",
                "minRequests": 20,
                "successRate": 95,
                "latency": {"percentile": 50, "max": "20s"},
                "failures": 2,
                "deadline": "3m",
            },
        },
    }


def leader(cluster: Cluster) -> str:
    """The pod that leads."""
    lease = cluster.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/fairlead")
    return str(lease["spec"].get("holderIdentity", "")).rpartition("_")[0]


def api(cluster: Cluster, pod: str) -> Client:
    """The API of one of its pods."""
    address = cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}")["status"]["podIP"]
    return Client(f"http://{address}:8080", timeout=30, token=TOKEN)


def test_a_bad_version_is_taken_back_a_good_one_promoted_though_the_leader_dies_and_no_right_is_missing(
    cluster: Cluster, fairlead: Installed, place: str
) -> None:
    cluster.apply(*scene(), namespace=place)
    edge = f"/apis/gateway.networking.k8s.io/v1/namespaces/{place}/gateways/edge"
    path = f"/apis/fairlead.dev/v1alpha1/namespaces/{place}/rollouts/web"

    def reaches(what: str, **wanted: object) -> JSON:
        def so() -> JSON | None:
            state = cluster.get(path).get("status", {}).get("rollout", {})
            return state if all(state.get(name) == value for name, value in wanted.items()) else None

        return eventually(so, what, seconds=200)

    def programmed() -> bool:
        found = condition(cluster.get(edge), "Programmed")
        return found is not None and found["status"] == "True"

    eventually(programmed, "the Gateway to be programmed", seconds=200)
    for name in VERSIONS:
        eventually(lambda name=name: rolled.is_ready(cluster, place, name), f"the pods of {name}", seconds=200)
    [address] = cluster.get(edge)["status"]["addresses"]
    with Load(address["value"]) as load:
        cluster.apply(rollout("bad", {"weight": 20, "pause": "2s"}, {"weight": 60, "pause": "2s"}), namespace=place)
        bad = reaches("the bad version to be taken back", phase="RolledBack")
        assert (bad["reason"], bad["weight"]) == ("CheckFailed", 0)
        assert bad["canary"]["failed"] > 0
        assert 0 < load.seen["503"] < load.seen["200"], load.seen

    steps = {"weight": 20, "pause": "2s"}, {"weight": 60, "pause": "2s", "approval": True}
    cluster.apply(rollout("good", *steps), namespace=place)
    with Load(address["value"]) as load:
        assert len(fairlead.pods()) == 2
        held = reaches("the second step", step=2, reason="AwaitingApproval")
        dead = eventually(lambda: pod if (pod := leader(cluster)) in fairlead.pods() else None, "a leader")
        (other,) = set(fairlead.pods()) - {dead}
        resume = f"/api/v1/namespaces/{place}/rollouts/web/resume"
        with pytest.raises(RefusedError, match="Another replica moves it"):
            api(cluster, other).request("POST", resume)
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", dead, "--force", "--grace-period=0")
        eventually(lambda: leader(cluster) not in ("", dead), "another leader")
        state = cluster.get(path)["status"]["rollout"]
        assert (state["step"], state["weight"]) == (held["step"], held["weight"]) == (2, 60)

        def approved() -> bool:
            api(cluster, leader(cluster)).request("POST", resume)
            return True

        eventually(approved, "it to take the approval")
        good = reaches("the good version to be promoted", phase="Promoted")
    assert good["canary"]["failed"] == 0
    assert good["canary"]["succeeded"] >= 40
    assert set(load.seen) == {"200"}, load.seen
    if "KUBECONFIG" not in os.environ:
        refused = {one for one in asked(since=fairlead.began) if one.code == 403}
        assert refused == set(), "Fairlead asks for what its chart does not grant"
        told = {(one.verb, one.resource, one.namespace) for one in asked(since=fairlead.began) if one.code < 300}
        assert ("create", "events", place) in told
        assert ("patch", "configmaps", NAMESPACE) in told, "the replica that does not act tells what it hears"
