"""A cluster of three servers that loses its leader and its quorum, while requests run through a real Envoy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Children
from tests.support.consul_cluster import Member
from tests.support.consul_mesh import ConsulMesh, route
from tests.support.programs import start_backend

pytestmark = [pytest.mark.envoy, pytest.mark.faults, pytest.mark.timeout(300)]


def test_leader_that_is_lost_and_a_quorum_that_is_lost_for_a_minute_cost_no_request(
    children: Children, consul: Path
) -> None:
    servers = [Member(children, consul, f"s{number}", servers=3) for number in range(3)]
    client = Member(children, consul, "client", servers=0).join(*servers)
    for server in servers:
        server.join(*(other for other in servers if other is not server)).start()
    client.start().wait_leader()
    ports = {number: start_backend(children, "web", number=number) for number in ("1", "2", "3")}
    first = client.register("web", ports["1"])
    mesh = ConsulMesh(children, "--consul", client.url, objects=[route("web")])
    mesh.wait_ok("web")

    with Background(mesh.port, "web") as traffic:
        mesh.wait(lambda: any(server.leads() for server in servers), "a leader")
        leader = next(server for server in servers if server.leads())
        leader.kill()
        client.wait_leader()
        second = client.register("web", ports["2"])
        mesh.wait(lambda: traffic.answered("web-v1-2"), "a change under the new leader")

        another = next(server for server in servers if server is not leader)
        another.kill()
        mesh.wait(
            lambda: "NoLeader" in mesh.problems() and mesh.is_stale("web"), "the lost quorum to be said", timeout=60
        )
        began, asked = time.monotonic(), 0
        while time.monotonic() < began + 60:  # a whole minute without, and everything stands
            assert mesh.count("web", 20).keys() == {"web-v1-1", "web-v1-2"}
            assert "NoLeader" in mesh.problems()
            assert mesh.is_stale("web")
            asked += 20
        assert asked > 100
        leader.start()
        another.start()
        client.wait_leader()
        client.deregister(second)
        client.register("web", ports["3"])
        mesh.wait(lambda: traffic.answered("web-v1-3"), "a change after the quorum is back")
        mesh.wait(lambda: traffic.silent_for("web-v1-2") > 0.5, "the deregistered one to be gone")
        mesh.wait(lambda: mesh.is_fresh("web") and not mesh.problems(), "all to be well")
    assert first == f"web-{ports['1']}"
    assert traffic.requests > 100
    assert not traffic.failures


def test_stale_reads_go_on_without_a_leader_for_as_long_as_is_allowed(children: Children, consul: Path) -> None:
    servers = [Member(children, consul, f"s{number}", servers=2) for number in range(2)]
    servers[0].join(servers[1]).start()
    servers[1].join(servers[0]).start().wait_leader()
    servers[0].wait_leader()
    mesh_of = ("--consul-reads", "stale", "--consul-max-stale", "40")
    leads = lambda: [server for server in servers if server.leads()]  # noqa: E731
    children.wait_until(lambda: len(leads()) == 1, what="a leader")
    (leader,) = leads()
    follower = next(server for server in servers if server is not leader)
    follower.register("web", start_backend(children, "web"))
    mesh = ConsulMesh(children, "--consul", follower.url, *mesh_of, objects=[route("web")])
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        leader.kill()
        mesh.wait(lambda: not follower.client.request("GET", "/v1/status/leader").json(), "the loss to be noticed")
        before = mesh.metric('fairlead_consul_failures_total{reason="NoLeader"}')
        assert mesh.is_fresh("web")
        mesh.wait(lambda: "TooOld" in mesh.problems() and mesh.is_stale("web"), "it to be too old", timeout=240)
        assert mesh.metric('fairlead_consul_failures_total{reason="NoLeader"}') == before == 0
        leader.start().wait_leader()
        mesh.wait(lambda: mesh.is_fresh("web") and not mesh.problems(), "all to be well", timeout=180)
    assert not traffic.failures
