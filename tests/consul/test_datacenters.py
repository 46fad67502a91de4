"""Two datacenters, joined over WAN: the second takes over, gives back, goes away and returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Children
from tests.support.consul_cluster import Member
from tests.support.consul_mesh import ConsulMesh, document, route
from tests.support.programs import start_backend

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(600)]


def two(children: Children, consul: Path) -> tuple[Member, Member]:
    """A server in `east` and one in `west` that know each other."""
    east = Member(children, consul, "e", datacenter="east").start()
    west = Member(children, consul, "w", datacenter="west").join(east, wan=True).start()
    east.wait_leader().wait_leader(of="west")
    return east, west


def test_second_datacenter_takes_over_gives_back_goes_away_and_returns(children: Children, consul: Path) -> None:
    east, west = two(children, consul)
    own = east.register("web", start_backend(children, "web", "east"))
    far = west.register("web", start_backend(children, "web", "west"))
    mesh = ConsulMesh(
        children, "--consul", east.url, "--consul-datacenters", "all", objects=[route("web"), route("far")]
    )
    mesh.wait_ok("web")
    mesh.wait(lambda: mesh.sources("web") == 2, "both datacenters")
    assert mesh.count("web", 30).keys() == {"web-east-1"}
    with Background(mesh.port, "web") as traffic:
        east.register("web", start_backend(children, "web", "east", "2"), id="spare")
        mesh.wait(lambda: traffic.answered("web-east-2"), "the spare one")
        east.check(own, "fail")
        mesh.wait(lambda: traffic.silent_for("web-east-1") > 0.5, "the critical one to be left out")
        assert not traffic.answered("web-west-1"), "there is one left in its own datacenter"
        east.maintain("spare", enable=True)
        mesh.wait(lambda: traffic.answered("web-west-1"), "the other datacenter to take over")
        assert mesh.count("web", 30).keys() == {"web-west-1"}
        east.check(own, "pass")
        mesh.wait(lambda: traffic.silent_for("web-west-1") > 0.5, "its own to have the traffic back")

        west.kill()
        mesh.wait(
            lambda: mesh.metric('fairlead_consul_services_stale{source="consul:west"}') > 0,
            "it to be stale",
        )
        assert mesh.count("web", 30).keys() == {"web-east-1"}
        assert not mesh.metric('fairlead_consul_services_stale{source="consul"}')
        west.start().wait_leader()
        mesh.wait(
            lambda: mesh.metric('fairlead_consul_services_stale{source="consul:west"}') == 0,
            "it to be back",
        )
        east.check(own, "fail")
        mesh.wait(lambda: traffic.silent_for("web-east-1") > 0.5, "the other datacenter again")
        assert mesh.count("web", 30).keys() == {"web-west-1"}
    assert not traffic.failures
    west.deregister(far)
    mesh.wait_gone("web")


def test_server_that_starts_while_the_agent_is_away_serves_all_datacenters_that_were_known(
    children: Children, consul: Path
) -> None:
    east, west = two(children, consul)
    west.register("far", start_backend(children, "far", "west"))
    mesh = ConsulMesh(children, "--consul", east.url, "--consul-datacenters", "all", objects=[route("far")])
    mesh.wait_ok("far")
    with Background(mesh.port, "far") as traffic:
        east.kill()
        mesh.serving.child.stop()
        children.started.remove(mesh.serving.child)
        mesh.serving = mesh.serve(xds=mesh.serving.xds)
        mesh.wait(lambda: mesh.is_stale("far"), "what was known, as stale")
        east.start().wait_leader().wait_leader(of="west")
        mesh.wait(lambda: mesh.is_fresh("far"), "it to be fresh")
    assert traffic.requests > 100
    assert not traffic.failures


def test_half_of_the_own_instances_critical_sends_a_part_elsewhere_where_they_are_told_as_unhealthy(
    children: Children, consul: Path
) -> None:
    east, west = two(children, consul)
    own = [east.register("web", start_backend(children, "web", "east", number)) for number in ("1", "2")]
    west.register("web", start_backend(children, "web", "west"))
    policy: dict[str, Any] = {
        "targetRefs": [{"kind": "Service", "name": "web"}],
        "loadBalancer": {"panicThreshold": 0, "locality": {"overprovisioningPercent": 140}},
    }
    flags = ["--consul-datacenters", "west", "--consul-unhealthy"]
    objects = [route("web"), document("TrafficPolicy", "web", policy)]
    mesh = ConsulMesh(children, "--consul", east.url, *flags, objects=objects)
    mesh.wait(lambda: mesh.sources("web") == 2, "both datacenters")
    mesh.wait_ok("web")
    mesh.wait(lambda: mesh.count("web", 40).keys() == {"web-east-1", "web-east-2"}, "its own to have all")
    east.check(own[0], "fail")
    # 50 % healthy, 140 % overprovisioned: 70 % stay.
    mesh.wait(lambda: 15 <= mesh.count("web", 100)["web-west-1"] <= 45, "some 30 of 100 elsewhere")
    assert not mesh.count("web", 100)["web-east-1"]
    east.check(own[1], "fail")
    mesh.wait(lambda: mesh.count("web", 40).keys() == {"web-west-1"}, "all elsewhere")
    west.check(f"web-{_port(mesh, 'west')}", "fail")
    mesh.wait_gone("web")
    policy["loadBalancer"] = {"type": "RoundRobin"}
    mesh.declare(document("TrafficPolicy", "web", policy))
    mesh.wait_ok("web", "unhealthy ones to be asked, as Envoy panics where no policy forbids it")


def _port(mesh: ConsulMesh, region: str) -> int:
    items = mesh.serving.client.get("/api/v1/discovered/endpoints", service="web")["items"]
    return int(next(port for item in items if item["region"] == region for port in item["ports"].values()))
