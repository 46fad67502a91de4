"""Much that changes all the time: every change arrives, none stays stale, and requests go on through a real Envoy."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Children
from tests.support.consul import ConsulAgent, start_agent
from tests.support.consul_mesh import ConsulMesh, route
from tests.support.programs import start_backend

pytestmark = [pytest.mark.envoy, pytest.mark.faults, pytest.mark.timeout(900)]

MANY_CONNECTIONS = ("-hcl", "limits { http_max_conns_per_client = 2000 }", "-log-level", "warn")


class Writer:
    """PUTs to an agent over a connection that stays open."""

    def __init__(self, agent: ConsulAgent) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def put(self, path: str, body: object = None) -> None:
        self._connection.request("PUT", path, body=json.dumps(body).encode() if body is not None else None)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said

    def register(self, name: str, own: str, address: str, port: int) -> None:
        check = {"CheckID": f"check:{own}", "TTL": "3600s", "Status": "passing"}
        self.put(
            "/v1/agent/service/register", {"Name": name, "ID": own, "Address": address, "Port": port, "Check": check}
        )

    def move(self, names: Sequence[str], address: str) -> None:
        """Give services of the node `outside` another address, 62 at a time.

        The catalog takes that at once. An agent syncs each of its own with its server by itself: 250 took 1.8 s on
        1.8.7 and 4 s on 1.15.4, which is no storm any more.
        """
        for at in range(0, len(names), 62):
            self.put("/v1/txn", [_set(name, address) for name in names[at : at + 62]])


def _set(name: str, address: str) -> dict[str, Any]:
    service = {"ID": name, "Service": name, "Address": address, "Port": 80}
    return {"Service": {"Verb": "set", "Node": "outside", "Service": service}}


def put_all(agent: ConsulAgent, paths: Iterable[str]) -> None:
    with Writer(agent) as writer:
        for path in paths:
            writer.put(path)


def addresses(mesh: ConsulMesh, service: str | None = None) -> dict[str, set[str]]:
    query = {"service": service} if service else {}
    found: dict[str, set[str]] = {}
    for item in mesh.serving.client.get("/api/v1/discovered/endpoints", **query)["items"]:
        found.setdefault(item["service"], set()).add(item["address"])
    return found


def arrived(mesh: ConsulMesh, names: Sequence[str], address: str) -> bool:
    """Whether all of these have that address and no other."""
    found = addresses(mesh)
    return all(found.get(name) == {address} for name in names)


def test_five_hundred_instances_that_flap_cost_no_request_and_end_as_consul_says(
    children: Children, consul: object
) -> None:
    agent = start_agent(children, consul, "consul", *MANY_CONNECTIONS)  # type: ignore[arg-type]
    port = start_backend(children, "web", host="0.0.0.0")
    ids = [f"web-{number}" for number in range(500)]
    with Writer(agent) as writer:
        for number, own in enumerate(ids):
            writer.register("web", own, f"127.1.{number // 250}.{number % 250 + 1}", port)
    mesh = ConsulMesh(children, "--consul", agent.url, objects=[route("web")])
    mesh.wait(lambda: len(addresses(mesh, "web").get("web", ())) == 500, "all instances")
    mesh.wait_ok("web")
    chance = random.Random(6)
    steady = set(ids[:5])
    with Background(mesh.port, "web") as traffic, ThreadPoolExecutor(4) as pool:
        for _ in range(6):
            states = {own: own in steady or chance.random() < 0.5 for own in ids}
            paths = [f"/v1/agent/check/{'pass' if up else 'fail'}/check:{own}" for own, up in states.items()]
            list(pool.map(lambda part: put_all(agent, part), [paths[at::4] for at in range(4)]))
            up = sum(states.values())
            mesh.wait(lambda up=up: len(addresses(mesh, "web")["web"]) == up, f"{up} of them")  # type: ignore[misc]
    assert traffic.requests > 100
    assert not traffic.failures


def test_every_change_of_250_services_in_50_rounds_arrives(children: Children, consul: object) -> None:
    agent = start_agent(children, consul, "consul", *MANY_CONNECTIONS)  # type: ignore[arg-type]
    names = [f"s{number}" for number in range(250)]
    with Writer(agent) as writer:
        writer.put("/v1/catalog/register", {"Node": "outside", "Address": "127.0.0.1"})
        writer.move(names, "10.0.0.1")
        flags = ["--consul", agent.url, "--consul-polls", "400"]
        mesh = ConsulMesh(children, *flags, objects=[route(name) for name in names[:20]])
        for number in range(1, 51):
            now = f"10.0.{number}.1"
            writer.move(names, now)
            mesh.wait(lambda now=now: arrived(mesh, names, now), f"round {number}")  # type: ignore[misc]
        held = json.dumps(mesh.envoy.config(eds=True))
        assert all(f"10.0.{number}.1" not in held for number in range(50)), "Envoy has the last round alone"
        assert "10.0.50.1" in held
    assert not mesh.problems()
