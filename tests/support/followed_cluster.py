"""A cluster followed by `KubernetesSource` as tests look at it, and accounts that may do less than an administrator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

from discovery.copies import Copies
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.source import KubernetesSource
from mesh.model import DECLARED, DISCOVERED_SERVICES
from mesh.problems import Problem
from mesh.refusals import REFUSED
from mesh.tables import Change
from tests.support.api_line import as_user
from tests.support.kubernetes import JSON, PATIENCE, Cluster, eventually

DEADLINE = PATIENCE
Right = tuple[str, str, str]
"""A verb, a group and a resource."""


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

    def troubles(self) -> list[Problem]:
        """What is wrong with the API server; not with objects: those may be of another test, on their way out."""
        found = (problem for problem in self.source.problems if problem.file.startswith(self.source.name))
        return [problem for problem in found if problem.level == "error"]

    def codes(self) -> set[str]:
        """What is wrong with the API server, by code."""
        return {problem.code for problem in self.troubles()}

    def of(self, namespace: str) -> dict[tuple[str, ...], Any]:
        """The rows of one namespace: others' come and go meanwhile."""
        return {key: row for key, row in self.rows.items() if namespace in key}

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

ALL_RULES = (CORE_RULE, SLICES_RULE, OTHER_RULE)


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
    await said(cluster.apply, binding)
    await may(cluster, namespace, *ALL_RULES)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/s/token"
    token = await said(cluster.request, "POST", path, {"spec": {"expirationSeconds": 600}})
    try:
        yield as_user(kubeconfig, token["status"]["token"], folder / "account.yaml")
    finally:
        await said(cluster.delete, binding)
        await said(cluster.delete, {"apiVersion": ROLE, "kind": "ClusterRole", "metadata": {"name": namespace}})


async def may(cluster: Cluster, name: str, *rules: JSON) -> None:
    """Let the account do what these rules say and nothing else, from when this returns on."""
    role = {"apiVersion": ROLE, "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}
    await said(cluster.apply, role)
    await said(know_rights, cluster, name, rules)


def know_rights(cluster: Cluster, namespace: str, rules: Iterable[JSON], *, within: str = "") -> None:
    """Wait until the API server lets the account `s` do just this (everywhere, or `within` a namespace).

    It hears of roles as everybody does, by watching them: until then it goes by what it knew.
    """
    given = _rights(rules)
    asked = sorted(given if within else given | _rights(ALL_RULES))

    def known() -> bool:
        return all(_allowed(cluster, namespace, right, within) == (right in given) for right in asked)

    eventually(known, f"the API server to know what the account of {namespace} may do")


def _rights(rules: Iterable[JSON]) -> set[Right]:
    return {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _allowed(cluster: Cluster, namespace: str, right: Right, within: str) -> bool:
    verb, group, resource = right
    plural, _, part = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": plural, "subresource": part, "namespace": within}
    spec = {"user": f"system:serviceaccount:{namespace}:s", "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])
