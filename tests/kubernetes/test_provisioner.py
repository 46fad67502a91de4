"""What keeps Gateways' proxies in place, on a real API server with a line that fails; pods never run here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from discovery.kubernetes.api import ApiError
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.provision import Files, Settings
from discovery.kubernetes.provisioner import Provisioner
from discovery.kubernetes.source import KubernetesSource
from mesh.all_tables import TABLES
from mesh.gateways import GATEWAYS as MODEL_GATEWAYS
from mesh.model import PROVISIONED, Provisioned, ProvisionedKey
from mesh.tables import Change, Engine
from tests.support.kubernetes import JSON, Cluster
from tests.support.kubernetes_api import Line, until

SOURCE = "kubernetes:test"

pytestmark = pytest.mark.usefixtures("crds")


class Counted(Line):
    """A line that counts the watches that were opened on it."""

    opened = 0

    async def lines(self, path: str, **named: Any) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(super().lines(path, **named)) as lines:  # type: ignore[type-var]
            async for line in lines:
                self.opened += not line
                yield line


class Plane:
    """A replica's part that has to do with proxies: a source, the model, and the provisioner."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.namespace = namespace
        self.line, self.sources = Counted(connection), Counted(connection)
        self.engine = Engine(TABLES)
        self.source = KubernetesSource("test", self.sources, namespaces=[namespace])
        self.bootstrap = "{}"
        self.provisioner = Provisioner(
            self.line,
            self.engine,
            source=SOURCE,
            settings=Settings(image="example.com/no-such-image:1", service_type="ClusterIP"),
            render=lambda *_: Files({"bootstrap.json": self.bootstrap}, "PEM"),
            submit=self.take,
            settled=lambda: self.source.settled,
            namespaces=[namespace],
        )

    async def follow(self) -> None:
        async for batch in self.source.batches():
            self.take(batch)

    def take(self, changes: Iterable[Change]) -> None:
        self.provisioner.note(self.engine.commit(tuple(changes)))

    def row(self, name: str = "edge") -> Provisioned | None:
        return self.engine.get(PROVISIONED, ProvisionedKey(self.namespace, name, SOURCE))

    def problem(self) -> str:
        row = self.row()
        return row.problem if row is not None else ""

    def has_address(self) -> bool:
        row = self.row()
        return row is not None and bool(row.addresses)

    def idle(self) -> bool:
        if self.provisioner._running:
            return False
        expected = len(self.provisioner._informers), len(self.source._watches)
        return self.line.opened >= expected[0] and self.sources.opened >= expected[1]

    def writes(self) -> int:
        """Those that were answered."""
        return self.provisioner._applier.writes


Run = Callable[..., contextlib.AbstractAsyncContextManager[Plane]]


@pytest.fixture
def run(kubeconfig: Path, namespace: str) -> Run:
    """Runs replicas, leading unless told otherwise."""

    @contextlib.asynccontextmanager
    async def start(*, leading: bool = True, cut: bool = False) -> AsyncIterator[Plane]:
        connection = Connection(KubeConfig(str(kubeconfig)))
        plane = Plane(connection, namespace)
        plane.provisioner.lead(leading)
        plane.line.cut = cut
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(plane.follow()), loop.create_task(plane.provisioner.run())]
        try:
            yield plane
            # A request that is cancelled before its answer leaves its connection to the garbage collector.
            await until(plane.idle, "all watches to be open and nothing else to be asked")
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    return start


@pytest.fixture
def gateway(cluster: Cluster, namespace: str) -> Iterator[JSON]:
    """A Gateway of a class of ours."""
    kind = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": namespace},
        "spec": {"controllerName": "fairlead.dev/gateway-controller"},
    }
    item = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": namespace},
        "spec": {"gatewayClassName": namespace, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    }
    cluster.apply(kind, item)
    yield item
    cluster.delete(kind)


def deployments(cluster: Cluster, namespace: str) -> list[JSON]:
    found: list[JSON] = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
    return found


async def test_five_objects_cost_five_writes_and_none_later(run: Run, gateway: JSON) -> None:
    async with run() as plane:
        await until(plane.has_address, "an address")
        await until(lambda: plane.writes() == 5, "five writes")
    async with run() as another:
        await until(another.has_address, "the address again")
        await until(lambda: another.source.settled, "everything to be read")
        another.provisioner.renew()
        await until(another.idle, "it to have looked at everything")
        assert another.writes() == 0


async def test_who_does_not_lead_tells_what_is_there_and_writes_nothing(run: Run, gateway: JSON) -> None:
    async with run(leading=False) as follower, run() as leader:
        await until(leader.has_address, "the leader to have made it")
        await until(follower.has_address, "the follower to see it")
        await until(lambda: follower.row() == leader.row(), "both to see the same")
        assert follower.writes() == 0


async def test_a_line_that_is_cut_delays_and_loses_nothing(run: Run, gateway: JSON) -> None:
    async with run(cut=True) as plane:
        await until(lambda: plane.row() is not None, "the source to have read everything")
        assert not plane.has_address()
        plane.line.cut = False
        await until(plane.has_address, "an address once the line is there")


async def test_a_refusal_is_told_until_it_is_over(run: Run, gateway: JSON) -> None:
    def forbid(_method: str, path: str) -> Exception | None:
        return ApiError(403, "Forbidden", "exceeded quota: tiny") if "/services/" in path else None

    async with run() as plane:
        plane.line.refuse = forbid
        await until(lambda: "exceeded quota: tiny" in plane.problem(), "the refusal to be told")
        row = plane.row()
        assert row is not None
        assert row.reason == "NoResources"
        plane.line.refuse = lambda *_: None
        await until(plane.has_address, "the Service after all")
        await until(lambda: plane.problem() == "", "the problem to be over")


async def test_other_bootstraps_change_the_pods_and_equal_ones_do_not(
    run: Run, cluster: Cluster, namespace: str, gateway: JSON
) -> None:
    async with run() as plane:
        await until(lambda: plane.writes() == 5, "five writes")
        plane.provisioner.renew()
        plane.bootstrap = '{"new": 1}'
        plane.provisioner.renew()
        await until(lambda: plane.writes() == 7, "a ConfigMap and a Deployment")
        await until(lambda: deployments(cluster, namespace)[0]["metadata"]["generation"] == 2, "new pods")


async def test_a_class_that_is_gone_takes_no_proxies_with_it(
    run: Run, cluster: Cluster, namespace: str, gateway: JSON
) -> None:
    async with run() as plane:
        await until(lambda: plane.writes() == 5 and plane.has_address(), "five writes and the address")
        [before] = deployments(cluster, namespace)
        cluster.request("DELETE", f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{namespace}")
        await until(lambda: not plane.engine.rows(MODEL_GATEWAYS), "the class to be gone")
        assert plane.has_address()
        kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": namespace}}
        cluster.apply({**kind, "spec": {"controllerName": "fairlead.dev/gateway-controller"}})
        await until(lambda: plane.engine.rows(MODEL_GATEWAYS), "the class again")
        [after] = deployments(cluster, namespace)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_rival_that_changes_our_fields_is_answered_and_not_raced(
    run: Run, cluster: Cluster, namespace: str, gateway: JSON
) -> None:
    async with run() as plane:
        await until(lambda: plane.writes() == 5, "five writes")
        [deployment] = deployments(cluster, namespace)
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment['metadata']['name']}"
        paused = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
        cluster.request("PATCH", path, paused, content_type="application/merge-patch+json")

        def ours() -> bool:
            spec = cluster.get(path)["spec"]["template"]["spec"]
            return bool(spec["terminationGracePeriodSeconds"] == 25)

        await until(ours, "our value")
        assert plane.writes() <= 7
