"""A cluster followed by `KubernetesSource` as tests look at it, and accounts that may do less than an administrator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from discovery.copies import Copies
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.source import KubernetesSource
from mesh.model import DECLARED, DISCOVERED_SERVICES
from mesh.refusals import REFUSED
from mesh.tables import Change
from tests.support.api_line import as_user
from tests.support.kubernetes import JSON, Cluster

DEADLINE = 40.0


def name_of(change: Change) -> tuple[str, ...]:
    """An object by kind, namespace and name; other rows with the word for their table in front."""
    if change.table is DECLARED:
        return change.key[:3]
    if change.table is REFUSED:
        return ("refused", *change.key[:3])
    return ("service" if change.table is DISCOVERED_SERVICES else "endpoints", *change.key[1:])


class Follower:
    """Applies a source's batches, and waits until they show something."""

    def __init__(self, kubeconfig: Path, *, copies: Copies | None = None, **options: Any) -> None:
        self.api = Connection(KubeConfig(str(kubeconfig)))
        self.source = KubernetesSource("east", self.api, copies=copies, **options)
        self.rows: dict[tuple[str, ...], Any] = {}
        self.batches: list[int] = []
        self._news = asyncio.Condition()

    async def follow(self) -> None:
        async with contextlib.aclosing(self.source.batches()) as batches:
            async for batch in batches:
                for change in batch:
                    key = name_of(change)
                    if change.row is None:
                        self.rows.pop(key, None)
                    else:
                        self.rows[key] = change.row
                async with self._news:
                    self.batches.append(len(batch))
                    self._news.notify_all()

    async def until(self, holds: Callable[[], object], *, seconds: float = DEADLINE) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(holds)

    def codes(self) -> set[str]:
        return {problem.code for problem in self.source.problems if problem.level == "error"}

    def addresses(self, namespace: str, service: str = "web") -> set[str]:
        return {
            endpoint.address
            for key, row in self.rows.items()
            if key[:3] == ("endpoints", namespace, service)
            for endpoint in row.endpoints
        }


@contextlib.asynccontextmanager
async def following(kubeconfig: Path, *, synced: bool = True, **options: Any) -> AsyncIterator[Follower]:
    follower = Follower(kubeconfig, **options)
    task = asyncio.get_running_loop().create_task(follower.follow())
    try:
        if synced:
            await follower.until(lambda: follower.batches)
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await follower.api.close()


async def said(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """A call of the synchronous client, beside the loop."""
    return await asyncio.to_thread(call, *arguments, **named)


ROLE = "rbac.authorization.k8s.io/v1"
CORE_RULE = {"apiGroups": [""], "resources": ["services", "pods", "nodes", "namespaces"], "verbs": ["list", "watch"]}
SLICES_RULE = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
OTHER_RULE = {
    "apiGroups": ["gateway.networking.k8s.io", "fairlead.dev"],
    "resources": ["*"],
    "verbs": ["list", "watch"],
}


@contextlib.asynccontextmanager
async def account(cluster: Cluster, namespace: str, kubeconfig: Path, folder: Path) -> AsyncIterator[Path]:
    """A kubeconfig of a service account that may list and watch what a cluster role named as the namespace says."""
    await said(
        cluster.apply, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}}, namespace=namespace
    )
    binding = {
        "apiVersion": ROLE,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace},
        "subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": namespace}],
    }
    await may(cluster, namespace, CORE_RULE, SLICES_RULE, OTHER_RULE)
    await said(cluster.apply, binding)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/s/token"
    token = await said(cluster.request, "POST", path, {"spec": {"expirationSeconds": 600}})
    try:
        yield as_user(kubeconfig, token["status"]["token"], folder / "account.yaml")
    finally:
        await said(cluster.delete, binding)
        await said(cluster.delete, {"apiVersion": ROLE, "kind": "ClusterRole", "metadata": {"name": namespace}})


async def may(cluster: Cluster, name: str, *rules: JSON) -> None:
    role = {"apiVersion": ROLE, "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}
    await said(cluster.apply, role)
