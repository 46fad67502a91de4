"""Statuses on a real API server: read by the program's source, derived by its model, written by its writer."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from discovery.kubernetes.api import ApiError
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.definitions import Definitions
from discovery.kubernetes.source import KubernetesSource
from discovery.kubernetes.status_pacing import LONGEST
from discovery.kubernetes.status_writer import StatusWriter
from mesh.all_tables import TABLES
from mesh.features import names
from mesh.tables import Change, Engine
from tests.support.kubernetes import PATIENCE, Cluster, condition
from tests.support.kubernetes_api import Line, until

JSON = dict[str, Any]
OURS = "fairlead.dev/test-status-controller"
THEIRS = "example.com/test-controller"
GATEWAY_API = "/apis/gateway.networking.k8s.io/v1"
AUDITED: JSON = {
    "type": "example.com/Audited",
    "status": "True",
    "reason": "Yes",
    "message": "",
    "lastTransitionTime": "2025-01-01T00:00:00Z",
}

pytestmark = pytest.mark.usefixtures("crds")


@pytest.fixture(autouse=True)
def another_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another controller than the Fairlead that may be at work in the same cluster."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("mesh.", "discovery.")) and hasattr(module, "CONTROLLER_NAME"):
            monkeypatch.setattr(module, "CONTROLLER_NAME", OURS)


class Plane:
    """A replica's part that has to do with statuses: a source, the model, and the writer."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.line = Line(connection)
        self.engine = Engine(TABLES)
        self.writer = StatusWriter(self.line, source="kubernetes:test")
        self.source = KubernetesSource("test", connection, namespaces=[namespace], observer=self.writer.observe)

    async def follow(self) -> None:
        async for batch in self.source.batches():
            self.take(batch)

    def take(self, changes: Iterable[Change]) -> None:
        self.writer.note(self.engine.commit(tuple(changes)))

    def writes(self, plural: str) -> int:
        return sum(f"/{plural}/" in path for _, path in self.line.sent)


Run = Callable[..., contextlib.AbstractAsyncContextManager[Plane]]


@pytest.fixture
def run(kubeconfig: Path, namespace: str) -> Run:
    """Runs replicas, leading unless told otherwise."""

    @contextlib.asynccontextmanager
    async def start(*, leading: bool = True) -> AsyncIterator[Plane]:
        connection = Connection(KubeConfig(str(kubeconfig)))
        plane = Plane(connection, namespace)
        plane.writer.lead(leading)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(plane.follow()), loop.create_task(plane.writer.run())]
        try:
            yield plane
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    return start


@pytest.fixture
def classes(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """The names of a GatewayClass of ours and of a foreign one."""
    names = tuple(f"test-status-{secrets.token_hex(3)}-{whose}" for whose in ("ours", "theirs"))
    items = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": name},
            "spec": {"controllerName": controller},
        }
        for name, controller in zip(names, (OURS, THEIRS), strict=True)
    ]
    cluster.apply(*items)
    yield names[0], names[1]
    for item in items:
        cluster.delete(item)


class World:
    """What a test does to the cluster, in its namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def path(self, plural: str, name: str) -> str:
        return f"{GATEWAY_API}/namespaces/{self.namespace}/{plural}/{name}"

    def gateway(self, class_name: str, *listeners: str) -> None:
        self.cluster.apply(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "edge"},
                "spec": {
                    "gatewayClassName": class_name,
                    "listeners": [
                        {"name": name, "port": 8000 + at, "protocol": "HTTP"}
                        for at, name in enumerate(listeners or ("http",))
                    ],
                },
            },
            namespace=self.namespace,
        )

    def route(self, name: str = "r", *parents: str, rules: Sequence[JSON] = ({},)) -> JSON:
        item: JSON = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name},
            "spec": {"parentRefs": [{"name": parent} for parent in parents or ("edge",)], "rules": rules},
        }
        return self.cluster.apply(item, namespace=self.namespace)[0]

    def get(self, plural: str, name: str) -> JSON:
        return self.cluster.get(self.path(plural, name))

    def status(self, plural: str, name: str) -> JSON:
        found: JSON = self.get(plural, name).get("status", {})
        return found

    def write_status(self, plural: str, name: str, status: JSON) -> None:
        """As another controller does."""
        self.cluster.request(
            "PATCH",
            f"{self.path(plural, name)}/status",
            {"status": status},
            content_type="application/merge-patch+json",
        )

    def accepted(self) -> bool:
        found = condition(self.get("gateways", "edge"), "Accepted")
        return found is not None and bool(found["status"] == "True")

    def attached(self, gateway: str = "edge") -> int:
        listeners = self.status("gateways", gateway).get("listeners", [])
        return sum(one["attachedRoutes"] for one in listeners)

    def verdicts(self, name: str = "r") -> dict[str, str]:
        parents = self.status("httproutes", name).get("parents", [])
        return {
            one["parentRef"]["name"]: next(each["reason"] for each in one["conditions"] if each["type"] == "Accepted")
            for one in parents
            if one["controllerName"] == OURS
        }


@pytest.fixture
def world(cluster: Cluster, namespace: str) -> World:
    return World(cluster, namespace)


async def test_class_gateway_and_route_are_told_their_state(
    run: Run, world: World, classes: tuple[str, str], cluster: Cluster
) -> None:
    world.gateway(classes[0])
    world.route()
    async with run() as plane:
        await until(lambda: world.attached() == 1 and world.verdicts() == {"edge": "Accepted"}, "the statuses")
        class_path = f"{GATEWAY_API}/gatewayclasses/{classes[0]}"

        def is_true(kind: str) -> bool:
            return bool((condition(cluster.get(class_path), kind) or {}).get("status") == "True")

        await until(lambda: is_true("Accepted"), "the class to be told too")
        found = cluster.get(class_path)
        assert [one["name"] for one in found["status"]["supportedFeatures"]] == list(names())
        gateway = world.get("gateways", "edge")
        assert {one["observedGeneration"] for one in gateway["status"]["conditions"]} == {1}
        assert (condition(gateway, "Accepted") or {})["status"] == "True"
        assert await Definitions(plane.line, "kubernetes:test", plane.take).look()
        await until(lambda: is_true("SupportedVersion"), "the class to be told of its definitions")
        foreign = cluster.get(f"{GATEWAY_API}/gatewayclasses/{classes[1]}")
        assert (condition(foreign, "Accepted") or {})["status"] == "Unknown", "left alone"
        await until(lambda: plane.writer.waiting == 0, "rest")
        sent = len(plane.line.sent)
        world.gateway(classes[0], "http", "more")
        await until(lambda: [one["name"] for one in world.status("gateways", "edge")["listeners"]][1:], "a listener")
        again = world.get("gateways", "edge")
        assert {one["observedGeneration"] for one in again["status"]["conditions"]} == {2}
        before, after = condition(gateway, "Accepted"), condition(again, "Accepted")
        assert before is not None
        assert after is not None
        assert before["lastTransitionTime"] == after["lastTransitionTime"]
        await until(lambda: plane.writer.waiting == 0, "rest")
        assert len(plane.line.sent) - sent <= 2


async def test_what_other_controllers_wrote_stays(run: Run, world: World, classes: tuple[str, str]) -> None:
    world.gateway(classes[0])
    world.route("r", "edge", "other")
    entry = {"parentRef": {"name": "other"}, "controllerName": THEIRS, "conditions": [AUDITED]}
    world.write_status("httproutes", "r", {"parents": [entry]})
    world.write_status("gateways", "edge", {"conditions": [AUDITED]})
    async with run():
        await until(lambda: world.verdicts().get("edge") == "Accepted", "our entry")
        await until(world.accepted, "our conditions")
        assert world.status("httproutes", "r")["parents"][0]["conditions"] == [AUDITED]
        assert condition(world.get("gateways", "edge"), AUDITED["type"]) == AUDITED
        world.route("r", "other")
        await until(lambda: "edge" not in world.verdicts(), "the end of our entry")
        kept = world.status("httproutes", "r")["parents"]
        assert [one["conditions"] for one in kept if one["controllerName"] == THEIRS] == [[AUDITED]]


async def test_a_gateway_that_changes_to_another_class_is_left_as_if_we_had_never_been_there(
    run: Run, world: World, classes: tuple[str, str]
) -> None:
    world.gateway(classes[0])
    world.route()
    async with run() as plane:
        await until(lambda: world.attached() == 1, "the status")
        world.gateway(classes[1])
        await until(lambda: "listeners" not in world.status("gateways", "edge"), "the end of our status")
        await until(lambda: world.verdicts() == {}, "the end of our entry")
        conditions = world.status("gateways", "edge")["conditions"]
        assert {one["status"] for one in conditions} == {"Unknown"}, "the API server's default"
        await until(lambda: plane.writer.waiting == 0, "rest")
        sent = len(plane.line.sent)
        world.write_status("gateways", "edge", {"conditions": [AUDITED]})
        await until(lambda: condition(world.get("gateways", "edge"), AUDITED["type"]), "the foreign condition")
        await until(lambda: plane.writer.waiting == 0, "rest")
        assert len(plane.line.sent) == sent


async def test_a_route_that_the_api_server_takes_and_we_refuse_is_told_why_and_its_last_good_form_stands(
    run: Run, world: World, classes: tuple[str, str]
) -> None:
    world.gateway(classes[0])
    world.route()
    async with run():
        await until(lambda: world.attached() == 1 and world.verdicts() == {"edge": "Accepted"}, "the statuses")
        expression = {"path": {"type": "RegularExpression", "value": "/(a"}}
        world.route("r", rules=[{"matches": [expression]}])
        world.route("never-good", rules=[{"matches": [expression]}])
        await until(lambda: world.verdicts("r") == {"edge": "UnsupportedValue"}, "the refusal")
        await until(lambda: world.verdicts("never-good") == {"edge": "UnsupportedValue"}, "the other refusal")
        (entry,) = world.status("httproutes", "r")["parents"]
        accepted = entry["conditions"][0]
        assert (accepted["type"], accepted["status"], accepted["observedGeneration"]) == ("Accepted", "False", 2)
        assert "spec.rules[0].matches[0].path" in accepted["message"]
        assert "Generation 1 stands." in accepted["message"]
        assert world.attached() == 1
        world.route()
        await until(lambda: world.verdicts() == {"edge": "Accepted"}, "the end of the refusal")


async def test_a_replica_that_does_not_lead_writes_nothing_and_one_that_takes_over_only_what_differs(
    run: Run, world: World, classes: tuple[str, str]
) -> None:
    world.gateway(classes[0])
    world.route()
    async with run() as leader, run(leading=False) as follower:
        await until(lambda: world.attached() == 1 and world.verdicts() == {"edge": "Accepted"}, "the statuses")
        await until(lambda: leader.writer.waiting == 0, "rest")
        leader.writer.lead(leading=False)
        follower.writer.lead(leading=True)
        await until(lambda: follower.writer.waiting == 0, "the follower to compare")
        assert follower.line.sent == []
        world.route("second")
        await until(lambda: world.attached() == 2, "the new leader's write")
        assert leader.writes("httproutes") == 1


async def test_two_that_both_think_they_lead_do_not_fight(run: Run, world: World, classes: tuple[str, str]) -> None:
    async with run() as one, run() as two:
        world.gateway(classes[0])
        for at in range(20):
            world.route(f"r{at}")
        await until(lambda: world.attached() == 20, "the status")
        await until(lambda: all(world.verdicts(f"r{at}") for at in range(20)), "all routes")
        await until(lambda: one.writer.waiting == 0 and two.writer.waiting == 0, "rest")
        came_through = one.writer.writes + two.writer.writes
        version = world.get("gateways", "edge")["metadata"]["resourceVersion"]
        await asyncio.sleep(0.5)  # nothing is to happen: there is no condition to wait for
        assert world.get("gateways", "edge")["metadata"]["resourceVersion"] == version
        assert one.writer.writes + two.writer.writes == came_through
        assert came_through <= 20 + 10 + 4


async def test_a_write_from_something_older_is_refused_and_decided_anew(
    run: Run, world: World, classes: tuple[str, str]
) -> None:
    world.gateway(classes[0])
    entry = {"parentRef": {"name": "other"}, "controllerName": THEIRS, "conditions": [AUDITED]}
    async with run() as plane:

        async def overtake(_method: str, path: str) -> None:
            if "/httproutes/" in path and len(plane.line.sent) < 6:
                plane.line.before = None
                await asyncio.to_thread(world.write_status, "httproutes", "r", {"parents": [entry]})

        await until(world.accepted, "the gateway")
        plane.line.before = overtake
        world.route()
        await until(lambda: world.verdicts() == {"edge": "Accepted"}, "our entry")
        parents = world.status("httproutes", "r")["parents"]
        assert [one["controllerName"] for one in parents] == [THEIRS, OURS]


async def test_what_could_not_be_written_while_the_server_was_away_is_written_when_it_is_back(
    run: Run, world: World, classes: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    world.gateway(classes[0])
    async with run() as plane:
        await until(world.accepted, "the gateway")
        plane.line.cut = True
        world.route("one")
        await until(lambda: "the line is cut" in caplog.text, "the trouble to be told")
        plane.line.cut = False
        plane.line.refuse = lambda *_: ApiError(429, "TooManyRequests", "slow down", retry_after=0.3)
        world.route("two")
        await until(lambda: "slow down" in caplog.text, "the other trouble to be told")
        plane.line.refuse = lambda *_: None
        await until(lambda: world.attached() == 2 and world.verdicts("one") and world.verdicts("two"), "the statuses")
        assert caplog.text.count("the line is cut") == 1


async def test_who_writes_over_our_status_is_answered_less_and_less_often(
    run: Run, world: World, classes: tuple[str, str]
) -> None:
    world.gateway(classes[0])
    async with run() as plane:
        await until(world.accepted, "the gateway")
        rival = {**AUDITED, "type": "Accepted", "status": "False"}
        began = time.monotonic()
        rewritten = 0
        while time.monotonic() < began + 4 or rewritten < 2:
            if (condition(world.get("gateways", "edge"), "Accepted") or {})["status"] == "True":
                world.write_status("gateways", "edge", {"conditions": [rival]})
                rewritten += 1
            assert time.monotonic() < began + PATIENCE, "it is never answered"
            await asyncio.sleep(0.02)
        assert 1 <= plane.writes("gateways") <= 8


async def test_a_deleted_object_is_forgotten(run: Run, world: World, classes: tuple[str, str]) -> None:
    world.gateway(classes[0])
    async with run() as plane:
        await until(world.accepted, "the gateway")
        plane.line.refuse = lambda _, path: ApiError(500, "Internal", "x") if "httproutes" in path else None
        world.route()
        await until(lambda: plane.writes("httproutes"), "an attempt")
        world.cluster.request("DELETE", world.path("httproutes", "r"))
        await until(lambda: plane.writer.waiting == 0, "nothing left to be written")


@pytest.mark.slow
@pytest.mark.timeout(600)  # 45 s on a machine that does nothing else
async def test_a_thousand_routes_cost_their_gateway_few_writes_and_it_is_right_soon_after_the_last(
    run: Run, world: World, classes: tuple[str, str]
) -> None:
    world.gateway(classes[0])
    count = 1000
    async with run() as plane:
        await until(world.accepted, "the gateway")
        plane.line.sent.clear()
        began = time.monotonic()
        await _in_threads(lambda at: world.route(f"r{at}"), count)
        last = time.monotonic()
        await until(lambda: world.attached() == count, "all routes to be counted")  # `make bench` measures how soon
        took = time.monotonic() - last
        await until(lambda: plane.writer.waiting == 0, "rest")
        rest = time.monotonic()
        assert count <= plane.writes("httproutes") <= count * 1.05, "some are refused where others write too"
        of_gateway = plane.writes("gateways")
        assert of_gateway <= 10 + (rest - began) / LONGEST
        await _in_threads(lambda at: world.cluster.request("DELETE", world.path("httproutes", f"r{at}")), count)
        await until(lambda: world.attached() == 0, "none to be counted")
        assert plane.writes("gateways") <= 20 + (time.monotonic() - began) / LONGEST
    print(f"right {took:.2f} s after the last, {of_gateway} writes, {plane.writes('gateways')} with the deletions")


async def _in_threads(do: Callable[[int], Any], count: int) -> None:
    """Do it `count` times, eight at a time."""

    def share(begin: int) -> None:
        for at in range(begin, count, 8):
            do(at)

    await asyncio.gather(*(asyncio.to_thread(share, begin) for begin in range(8)))
