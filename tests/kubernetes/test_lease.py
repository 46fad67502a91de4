"""Leader election against a real API server: two replicas, and what becomes of the lease when one goes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.lease import LEASE_DURATION, RETRY_PERIOD, Lease
from tests.support.kubernetes import Cluster
from tests.support.kubernetes_api import Line, until

NAME = "fairlead"
REPLICA = """
import asyncio, sys
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.lease import Lease

async def main():
    api = Connection(KubeConfig(sys.argv[1]))
    told = lambda leading: print("leading" if leading else "following", flush=True)
    await Lease(api, namespace=sys.argv[2], name="fairlead", identity="victim", changed=told).run()

asyncio.run(main())
"""


@pytest.fixture
async def api(kubeconfig: Path) -> AsyncIterator[Line]:
    connection = Connection(KubeConfig(str(kubeconfig)))
    yield Line(connection)
    await connection.close()


@contextlib.asynccontextmanager
async def running(lease: Lease) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.get_running_loop().create_task(lease.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def spec(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found = cluster.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}")["spec"]
    assert isinstance(found, dict)
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def replica(api: Any, namespace: str, identity: str, told: list[tuple[str, bool]]) -> Lease:
    return Lease(
        api,
        namespace=namespace,
        name=NAME,
        identity=identity,
        changed=lambda leading: told.append((identity, leading)),
    )


async def test_one_of_two_replicas_leads_and_the_other_takes_over_at_once_when_it_is_released(
    cluster: Cluster, api: Line, namespace: str
) -> None:
    told: list[tuple[str, bool]] = []
    one, two = (replica(api, namespace, name, told) for name in ("one", "two"))
    async with running(two) as second, running(one) as first:
        await until(lambda: one.leading or two.leading, "a leader")
        leader, follower = (one, two) if one.leading else (two, one)
        await until(lambda: follower.holder == leader.holder, "the follower to know")
        assert not follower.leading
        held = spec(cluster, namespace)
        assert held["holderIdentity"] == leader.holder
        assert (held["leaseDurationSeconds"], held["leaseTransitions"]) == (LEASE_DURATION, 0)
        (first if leader is one else second).cancel()
        await until(lambda: follower.leading, "the other to lead", seconds=LEASE_DURATION - RETRY_PERIOD)
        assert not leader.leading
    assert [leading for _, leading in told] == [True, False, True, False]
    assert spec(cluster, namespace)["holderIdentity"] == "", "released by the last, too"
    assert spec(cluster, namespace)["leaseTransitions"] == 1


@pytest.mark.slow
async def test_a_killed_leader_is_replaced_when_its_lease_has_run_out_and_not_before(
    cluster: Cluster, api: Line, kubeconfig: Path, namespace: str
) -> None:
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", REPLICA, str(kubeconfig), namespace, stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    assert await asyncio.wait_for(victim.stdout.readline(), 60) == b"leading\n"
    told: list[tuple[str, bool]] = []
    heir = replica(api, namespace, "heir", told)
    async with running(heir):
        await until(lambda: heir.holder == "victim", "the heir to know the leader")
        renewed = spec(cluster, namespace)["renewTime"]
        await until(lambda: spec(cluster, namespace)["renewTime"] != renewed, "a renewal")
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        left = spec(cluster, namespace)
        assert left["holderIdentity"] == "victim"
        await until(lambda: heir.leading, "the heir to lead")
        held = spec(cluster, namespace)
        assert (held["holderIdentity"], held["leaseTransitions"]) == ("heir", 1)
        assert moment(held["acquireTime"]) - moment(left["renewTime"]) >= timedelta(seconds=LEASE_DURATION)


@pytest.mark.slow
async def test_a_leader_that_is_cut_off_stops_leading_and_leads_again_when_it_can(api: Line, namespace: str) -> None:
    told: list[tuple[str, bool]] = []
    lease = replica(api, namespace, "one", told)
    async with running(lease):
        await until(lambda: told == [("one", True)], "the lease")
        api.cut = True
        await until(lambda: told[1:] == [("one", False)], "the end of leading")
        assert not lease.leading
        api.cut = False
        await until(lambda: lease.leading, "the lease again")


async def test_a_lease_that_somebody_deletes_or_writes_is_had_again(
    cluster: Cluster, api: Line, namespace: str
) -> None:
    told: list[tuple[str, bool]] = []
    lease = replica(api, namespace, "one", told)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}"
    async with running(lease):
        await until(lambda: lease.leading, "the lease")
        cluster.request("DELETE", path)
        await until(lambda: cluster.find(path) is not None and lease.leading, "the lease, made anew")
        note = {"metadata": {"annotations": {"a": "b"}}}
        cluster.request("PATCH", path, note, content_type="application/merge-patch+json")
        renewed = spec(cluster, namespace)["renewTime"]
        await until(lambda: spec(cluster, namespace)["renewTime"] != renewed, "a renewal after the conflict")
        assert lease.leading
