"""What registers over REST with a Fairlead that keeps registrations in Consul is in a real one, and expires there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.client import RefusedError
from fairlead.processes import Children
from tests.support.consul import ConsulAgent
from tests.support.consul_cluster import Member
from tests.support.consul_mesh import ConsulMesh, route
from tests.support.programs import Serving, start_backend, start_serve

ROOT = "/api/v1/registrations"
ONE = f"{ROOT}/default/web/one"


def serve(children: Children, agent: ConsulAgent, name: str = "serve") -> Serving:
    flags = ("--consul", agent.url, "--registrations", "consul")
    return start_serve(children, *flags, name=name, store=children.folder / f"{name}.db")


def put(serving: Serving, at: str = ONE, *, port: int = 9000, ttl: float = 60, **more: Any) -> dict[str, Any]:
    body = {"address": "127.0.0.1", "ports": {"http": port}, "ttlSeconds": ttl, **more}
    answer: dict[str, Any] = serving.client.request("PUT", at, body=body).json()
    return answer


def names(serving: Serving) -> list[str]:
    return [item["id"] for item in serving.client.get(ROOT)["items"]]


@pytest.mark.envoy
def test_it_takes_traffic_while_it_is_heard_from_and_leaves(children: Children, agent: ConsulAgent) -> None:
    port = start_backend(children, "web")
    mesh = ConsulMesh(children, "--consul", agent.url, "--registrations", "consul", objects=[route("web")])
    put(mesh.serving, port=port, labels={"version": "v2"}, weight=3)
    mesh.wait_ok("web")
    (endpoint,) = mesh.serving.client.get("/api/v1/discovered/endpoints", service="web")["items"]
    assert (endpoint["labels"]["version"], endpoint["weight"]) == ("v2", 3)
    mesh.serving.client.request("DELETE", ONE)
    mesh.wait_gone("web")
    put(mesh.serving, port=port, ttl=2)
    mesh.wait_ok("web")
    mesh.wait_gone("web")  # nothing is heard of it
    assert names(mesh.serving) == []


def test_any_server_of_the_agent_knows_it_as_it_was_registered(children: Children, agent: ConsulAgent) -> None:
    one, two = serve(children, agent, "one"), serve(children, agent, "two")
    made = put(one, labels={"version": "v2"}, weight=3)
    far = f"{ROOT}/shop/web/one"
    put(one, far, port=9001)
    found = two.client.get(ROOT)["items"]
    assert [(item["namespace"], item["id"], item["ports"]) for item in found] == [
        ("default", "one", {"http": 9000}),
        ("shop", "one", {"http": 9001}),
    ]
    assert found[0] | {"expiresInSeconds": 0} == made | {"expiresInSeconds": 0}
    two.client.request("DELETE", far)
    assert names(one) == ["one"]
    with pytest.raises(RefusedError) as refused:
        two.client.request("DELETE", far)
    assert refused.value.status == 404


def test_a_heartbeat_puts_it_back_where_the_agent_lost_it(children: Children, agent: ConsulAgent) -> None:
    serving = serve(children, agent)
    put(serving)
    put(serving)
    agent.deregister("web-one")
    assert names(serving) == []
    put(serving)
    assert names(serving) == ["one"]
    assert agent.client.request("GET", "/v1/health/service/web?passing=1").json()


def test_what_somebody_else_registered_is_left_alone(children: Children, agent: ConsulAgent) -> None:
    serving = serve(children, agent)
    agent.register("web", 7000, id="web-one")
    with pytest.raises(RefusedError, match="Somebody else registered web-one") as refused:
        put(serving)
    assert refused.value.status == 409
    with pytest.raises(RefusedError) as unknown:
        serving.client.request("DELETE", ONE)
    assert unknown.value.status == 404
    (kept,) = agent.client.request("GET", "/v1/catalog/service/web").json()
    assert kept["ServicePort"] == 7000


def test_meta_that_somebody_spoilt_makes_an_instance_none_of_ours(children: Children, agent: ConsulAgent) -> None:
    serving = serve(children, agent)
    put(serving)
    for ttl in ("inf", "nan", "-5", "0", "1e400", "soon"):
        key = f"default/web/{ttl.strip('-')}"
        meta = {"fairlead-registration": key, "fairlead-ttl": ttl, "fairlead-port-name": "http"}
        agent.register("web", 9, id=ttl, Meta=meta)
    assert names(serving) == ["one"]


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"ports": {"http": 1, "admin": 2}}, "ports"),
        ({"zone": "a"}, "zone"),
        ({"health": "Draining"}, "health"),
        ({"labels": {"a.b": "c"}}, "labels"),
        ({"labels": {"fairlead-namespace": "other"}}, "labels"),
        ({"weight": 100_000}, "weight"),
        ({"priority": 1}, "priority"),
    ],
)
def test_what_consul_cannot_say_is_refused_with_the_field(serving: Serving, more: dict[str, Any], path: str) -> None:
    with pytest.raises(RefusedError) as refused:
        put(serving, **more)
    assert refused.value.status == 422
    assert f": {path}: " in str(refused.value)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, consul: Path) -> Any:
    """A server beside an agent that nobody runs: nothing is asked of it."""
    with Children(tmp_path_factory.mktemp("registrations")) as children:
        yield serve_without(children)


def serve_without(children: Children) -> Serving:
    flags = ("--consul", "http://127.0.0.1:1", "--consul-optional", "--registrations", "consul")
    return start_serve(children, *flags, store=children.folder / "s.db")


def test_an_agent_that_is_away_is_told_with_503_and_a_return_is_noticed(children: Children, consul: Path) -> None:
    agent = Member(children, consul, "one").start().wait_leader()
    serving = serve(children, agent)
    put(serving)
    agent.kill()
    with pytest.raises(RefusedError, match="Consul's agent cannot do it now") as refused:
        put(serving)
    assert refused.value.status == 503
    agent.start().wait_leader()
    put(serving)
    assert names(serving) == ["one"]
