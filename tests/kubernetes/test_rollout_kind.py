"""Rollouts as objects of a real cluster, with two replicas beside it: judged by all proxies, moved by one replica."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.crowd import crowd
from tests.support.kubernetes import JSON, Cluster, condition, eventually
from tests.support.programs import FAIRLEAD, Serving, reached
from tests.support.replicas import Replicas
from tests.support.routing import Server, backend_server
from tests.support.watched import watched

pytestmark = [pytest.mark.usefixtures("crds"), pytest.mark.timeout(400)]

HOST = "shop.example.com"
LEADS = "this replica leads"
ANALYSIS = {"interval": "1s", "minRequests": 20, "successRate": 95, "failures": 2, "deadline": "2m"}


def service(name: str, port: int) -> JSON:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": port}}]
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints},
    }


def edge(port: int) -> tuple[JSON, JSON]:
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    backends = [{"group": "fairlead.dev", "kind": "Service", "name": "shop", "port": 80}]
    gateway: JSON = {"metadata": {"name": "edge"}, "spec": {"gatewayClassName": "fairlead", "listeners": listeners}}
    route: JSON = {
        "metadata": {"name": "shop"},
        "spec": {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": [{"backendRefs": backends}]},
    }
    version = "gateway.networking.k8s.io/v1"
    return {"apiVersion": version, "kind": "Gateway", **gateway}, {"apiVersion": version, "kind": "HTTPRoute", **route}


def rollout(*steps: JSON, **spec: Any) -> JSON:
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "shop"},
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "shop"},
            "stable": {"group": "fairlead.dev", "kind": "Service", "name": "shop"},
            "canary": {"group": "fairlead.dev", "kind": "Service", "name": "shop-v2", "port": 80},
            "steps": list(steps),
            "analysis": ANALYSIS,
            **spec,
        },
    }


class Scene:
    """Two replicas beside the cluster, the first of which leads, and a Gateway of theirs on loopback."""

    def __init__(
        self, cluster: Cluster, children: Children, namespace: str, replicas: Replicas, stable: Server, canary: Server
    ) -> None:
        self._cluster = cluster
        self.children = children
        self.namespace = namespace
        self.replicas = replicas
        self.stable, self.canary = stable, canary
        self.port = free_port()
        services = service("shop", stable.server_port), service("shop-v2", canary.server_port)
        cluster.apply(*services, *edge(self.port), namespace=namespace)
        self.first = replicas.start("one")
        eventually(lambda: leads(self.first), "the first to lead")
        self.second = replicas.start("two")

    def envoys(self, *at: str, flags: tuple[str, ...] = ()) -> None:
        """Start one at each of these replicas alone, or with no name one that knows both."""
        for name in at:
            self.replicas.envoy(f"envoy-{name or 'both'}", *flags, only=name)
        eventually(lambda: reached(self.port, HOST), "the gateway to answer")

    def roll_out(self, *steps: JSON, **spec: Any) -> None:
        self._cluster.apply(rollout(*steps, **spec), namespace=self.namespace)

    @property
    def object(self) -> JSON:
        return self._cluster.get(f"/apis/fairlead.dev/v1alpha1/namespaces/{self.namespace}/rollouts/shop")

    def reaches(self, **wanted: Any) -> JSON:
        """Wait until the status says so; the object as it is then."""

        def so() -> JSON | None:
            found = self.object
            state = found.get("status", {}).get("rollout", {})
            return found if all(state.get(name) == value for name, value in wanted.items()) else None

        return eventually(so, f"the rollout to be {wanted}")

    def route(self) -> JSON:
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/httproutes/shop"
        return self._cluster.get(path)

    def events(self) -> list[JSON]:
        """The Events about the Rollout, in their order."""
        selector = "involvedObject.kind%3DRollout,involvedObject.name%3Dshop"
        found = self._cluster.get(f"/api/v1/namespaces/{self.namespace}/events?fieldSelector={selector}")["items"]
        return sorted(found, key=lambda item: int(item["metadata"]["resourceVersion"]))


def leads(replica: Serving) -> bool:
    return LEADS in replica.child.log.read_text()


def command(replica: Serving, namespace: str, *words: str) -> subprocess.CompletedProcess[str]:
    server = f"http://127.0.0.1:{replica.api}"
    return subprocess.run(
        [*FAIRLEAD, "rollout", *words, "-n", namespace, "--server", server],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def scene(cluster: Cluster, children: Children, namespace: str, kubeconfig: Path) -> Iterator[Scene]:
    replicas = Replicas(children, namespace, kubeconfig, "--load-report-interval", "0.5")
    with backend_server("stable") as stable, backend_server("canary") as canary:
        yield Scene(cluster, children, namespace, replicas, stable, canary)


def essence(state: JSON) -> JSON:
    return {name: state[name] for name in ("phase", "step", "weight", "revision")}


def test_a_bad_version_is_taken_back_a_good_one_promoted_and_the_route_is_as_its_owner_wrote_it(
    cluster: Cluster, scene: Scene
) -> None:
    scene.envoys("one", "two")
    before = scene.route()
    with crowd(scene.port, HOST) as visitors, watched(cluster, scene.namespace, "rollouts") as versions:
        scene.canary.failing = True
        scene.roll_out({"weight": 20, "pause": "1s"}, {"weight": 60, "pause": "1s"})
        bad = scene.reaches(phase="RolledBack")
        told = bad["status"]["rollout"]
        assert (told["step"], told["weight"], told["reason"]) == (1, 0, "CheckFailed")
        assert told["canary"]["succeeded"] == 0
        assert 40 <= told["canary"]["failed"] <= len(scene.canary.seen)
        progressing = condition(bad, "Progressing")
        assert progressing is not None
        assert (progressing["status"], progressing["reason"]) == ("False", "CheckFailed")
        for kind in ("Accepted", "ResolvedRefs", "Progressing"):
            said = condition(bad, kind)
            assert said is not None
            assert said["observedGeneration"] == bad["metadata"]["generation"], kind
        failed = visitors.statuses[500]
        scene.canary.failing = False
        scene.roll_out({"weight": 20, "pause": "1s"}, {"weight": 60, "pause": "1s"}, version="mended")
        good = scene.reaches(phase="Promoted")
        assert good["status"]["rollout"]["canary"]["failed"] == 0
        assert {one["observedGeneration"] for one in good["status"]["conditions"]} == {good["metadata"]["generation"]}
    assert set(visitors.statuses) == {200, 500}
    assert visitors.statuses[500] == failed == len(scene.canary.seen) - _good(scene.canary)

    after = scene.route()
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    writers = {entry["manager"]: entry.get("subresource") for entry in after["metadata"]["managedFields"]}
    assert writers == {"tests": None, "fairlead-status": "status"}, "nobody but its owner has a say in its spec"

    states = [one["status"]["rollout"] for one in versions.of("Rollout/shop") if one.get("status", {}).get("rollout")]
    revisions = [state["revision"] for state in states]
    assert revisions == sorted(revisions), "no replica told what another had moved on from"
    assert len({tuple(essence(state).items()) for state in states}) == len(set(revisions)), "one state for each"

    events = eventually(lambda: found if "Completed" in _reasons(found := scene.events()) else None, "the events")
    assert [reason for reason in _reasons(events) if reason != "Pending"] == [
        *("Step", "CheckFailed", "CheckFailed"),
        *("Step", "Step", "Completed"),
    ]
    assert [one["type"] for one in events if one["reason"] == "CheckFailed"] == ["Warning"] * 2
    assert {one["involvedObject"]["uid"] for one in events} == {bad["metadata"]["uid"]}
    assert len({one["reportingInstance"] for one in events}) == 1, "one replica acts"
    shown = cluster.kubectl("-n", scene.namespace, "describe", "rollouts.fairlead.dev", "shop")
    assert "Failed 2 checks in a row" in shown


def _reasons(events: list[JSON]) -> list[str]:
    return [one["reason"] for one in events]


def _good(server: Server) -> int:
    """How many requests came after the backend was mended; those before were all failures."""
    return len(server.seen) - server.failed


def test_who_leads_judges_by_proxies_that_know_the_other_replica_alone(scene: Scene) -> None:
    scene.envoys("two", flags=("--report-times",))
    with crowd(scene.port, HOST):
        scene.canary.failing = True
        scene.roll_out({"weight": 30, "pause": "1s"})
        bad = scene.reaches(phase="RolledBack")["status"]["rollout"]
        assert bad["reason"] == "CheckFailed"
        assert 40 <= bad["canary"]["failed"] <= len(scene.canary.seen)
        assert bad["stable"]["succeeded"] <= len(scene.stable.seen)
        scene.canary.failing = False
        scene.roll_out({"weight": 30, "pause": "1s"}, version="mended")
        scene.reaches(phase="Promoted")
        scene.canary.delay = 0.6
        latency = {"percentile": 90, "max": "400ms"}
        slow = {"interval": "1s", "minRequests": 20, "latency": latency, "failures": 1, "deadline": "2m"}
        scene.roll_out({"weight": 50, "pause": "1s"}, version="slow", analysis=slow)
        late = scene.reaches(phase="RolledBack")["status"]["rollout"]
        assert "(limit 400 ms)" in late["message"], "times are told too"
        scene.canary.delay = 0.0
    assert "RolledBack" in scene.first.child.log.read_text()


def test_with_proxies_at_both_each_request_counts_once(scene: Scene) -> None:
    scene.envoys("one", "two")
    with crowd(scene.port, HOST):
        scene.roll_out({"weight": 50, "pause": "8s"}, analysis={**ANALYSIS, "minRequests": 200})
        state = scene.reaches(phase="Promoted")["status"]["rollout"]
        asked = len(scene.canary.seen), len(scene.stable.seen)
    assert 200 <= state["canary"]["succeeded"] <= asked[0]
    assert 0 < state["stable"]["succeeded"] <= asked[1]
    assert state["canary"]["failed"] == state["stable"]["failed"] == 0


def test_the_one_that_acts_is_killed_in_the_middle_and_the_other_goes_on(scene: Scene) -> None:
    scene.envoys("")
    with crowd(scene.port, HOST) as visitors:
        scene.roll_out({"weight": 20, "pause": "1s"}, {"weight": 60, "pause": "1s", "approval": True})
        held = scene.reaches(step=2, reason="AwaitingApproval")["status"]["rollout"]
        refused = command(scene.second, scene.namespace, "resume", "shop")
        assert refused.returncode == 1
        assert "Another replica moves it. Ask the replica that leads (" in refused.stderr
        scene.replicas.kill(scene.first)
        seen = len(scene.canary.seen)
        eventually(lambda: len(scene.canary.seen) > seen + 20, "the canary to keep its share")
        eventually(lambda: leads(scene.second), "the other to lead")
        now = scene.object["status"]["rollout"]
        assert (now["step"], now["weight"]) == (held["step"], held["weight"]) == (2, 60)
        resumed = command(scene.second, scene.namespace, "resume", "shop")
        # The step's pause was over long ago: the last step may be done before the answer is.
        assert (resumed.returncode, "Approved" in resumed.stdout or "Promoted" in resumed.stdout) == (0, True)
        scene.reaches(phase="Promoted")
        eventually(lambda: _everything(scene), "the canary to get everything")
    assert set(visitors.statuses) == {200}


def _everything(scene: Scene) -> bool:
    canary, stable = len(scene.canary.seen), len(scene.stable.seen)
    eventually(lambda: len(scene.canary.seen) > canary + 50 or len(scene.stable.seen) > stable, "requests")
    return len(scene.stable.seen) == stable


def test_people_hold_it_let_it_go_on_promote_it_and_take_it_back(scene: Scene) -> None:
    scene.roll_out({"weight": 20, "pause": "10m"})
    scene.reaches(phase="Progressing", step=1)

    def run(*words: str) -> str:
        done = command(scene.first, scene.namespace, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Progressing  1/1   20 %" in run("status")
    for word, wanted in {
        "pause": {"phase": "Paused", "weight": 20},
        "resume": {"phase": "Progressing", "weight": 20},
        "promote": {"phase": "Promoted", "weight": 100},
        "abort": {"phase": "RolledBack", "weight": 0},
    }.items():
        assert f"{wanted['phase']}, the canary has {wanted['weight']} %" in run(word, "shop")
        scene.reaches(**wanted)
    shown = command(scene.second, scene.namespace, "status", "shop").stdout
    assert "RolledBack" in shown, "who does not act shows how far it is"
    reasons = {"Step", "Paused", "PromotedByHand", "Aborted"}
    eventually(lambda: reasons <= set(_reasons(scene.events())), "the events")
