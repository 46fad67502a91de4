"""The informer against a real API server, with a kind of the test's own that comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from discovery.kubernetes import informer_state
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.informer import Informer
from discovery.kubernetes.informer_state import Resource
from discovery.kubernetes.wire import Key, Malformed, Reader
from tests.support.kubernetes import JSON, PATIENCE, Cluster

DEADLINE = PATIENCE


class Seen:
    """A sink that keeps what it is told, and waits until that is something."""

    def __init__(self) -> None:
        self.values: dict[Key, str] = {}
        self.pages = 0
        self._news = asyncio.Event()

    def key(self, item: JSON) -> Key:
        return Key(item["metadata"].get("namespace", ""), item["metadata"]["name"])

    def put(self, item: JSON) -> None:
        self.values[self.key(item)] = item.get("data", {}).get("value", "")

    def reject(self, malformed: Malformed) -> None:
        raise AssertionError(malformed)

    def remove(self, key: Key) -> None:
        self.values.pop(key, None)

    def retain(self, keys: frozenset[Key]) -> None:
        self.values = {key: value for key, value in self.values.items() if key in keys}

    def ring(self, _: bool) -> None:
        self.pages += 1
        self._news.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                await self._news.wait()
                self._news.clear()


@contextlib.asynccontextmanager
async def watching(kubeconfig: Path, resource: Resource) -> AsyncIterator[tuple[Seen, Informer[Any]]]:
    api = Connection(KubeConfig(str(kubeconfig)))
    seen = Seen()
    informer = Informer(api, resource, Reader(dict[str, Any]), seen, seen.ring)
    task = asyncio.get_running_loop().create_task(informer.run())
    try:
        yield seen, informer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await api.close()


def config_map(number: int, value: str) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"m{number}"},
        "data": {"value": value},
    }


def definition(group: str) -> JSON:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def test_a_list_of_many_pages_is_whole_and_the_watch_goes_on_from_it(
    cluster: Cluster, namespace: str, kubeconfig: Path
) -> None:
    await asyncio.to_thread(cluster.apply, *(config_map(number, "a") for number in range(7)), namespace=namespace)
    names = {Key(namespace, f"m{number}") for number in range(7)}
    resource = Resource("ConfigMap", (f"/api/v1/namespaces/{namespace}/configmaps",), page_size=2)
    async with watching(kubeconfig, resource) as (seen, informer):
        await seen.until(lambda: informer.synced)
        assert seen.pages >= 4
        assert names <= seen.values.keys()
        await asyncio.to_thread(cluster.apply, config_map(3, "b"), namespace=namespace)
        await seen.until(lambda: seen.values[Key(namespace, "m3")] == "b")


async def test_one_object_by_its_name_is_all_that_is_seen(cluster: Cluster, namespace: str, kubeconfig: Path) -> None:
    await asyncio.to_thread(cluster.apply, config_map(1, "a"), config_map(2, "a"), namespace=namespace)
    resource = Resource("ConfigMap", (f"/api/v1/namespaces/{namespace}/configmaps",), "metadata.name=m1")
    async with watching(kubeconfig, resource) as (seen, informer):
        await seen.until(lambda: informer.synced)
        assert seen.values.keys() == {Key(namespace, "m1")}
        await asyncio.to_thread(cluster.apply, config_map(2, "b"), config_map(1, "b"), namespace=namespace)
        await seen.until(lambda: seen.values == {Key(namespace, "m1"): "b"})
        await asyncio.to_thread(
            cluster.delete, config_map(1, "") | {"metadata": {"name": "m1", "namespace": namespace}}
        )
        await seen.until(lambda: not seen.values)


async def test_a_kind_that_is_defined_later_is_picked_up_and_one_that_is_taken_out_of_use_is_gone(
    cluster: Cluster, namespace: str, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_state, "MISSING_PAUSE", 0.5)
    monkeypatch.setattr(informer_state, "SUSPECT_PAUSE", 0.2)
    group = f"{namespace}.fairlead.dev"
    resource = Resource("Thing", (f"/apis/{group}/v1/things", f"/apis/{group}/v1beta1/things"))
    thing = {
        "apiVersion": f"{group}/v1beta1",
        "kind": "Thing",
        "metadata": {"name": "t", "namespace": namespace},
        "data": {"value": "a"},
    }
    try:
        async with watching(kubeconfig, resource) as (seen, informer):
            await seen.until(lambda: informer.synced)
            assert informer.missing
            assert informer.trouble is None
            await asyncio.to_thread(cluster.apply, definition(group))
            await seen.until(lambda: not informer.missing)
            path = f"/apis/{group}/v1beta1/namespaces/{namespace}/things"
            await asyncio.to_thread(cluster.request, "POST", path, thing)
            await seen.until(lambda: seen.values == {Key(namespace, "t"): "a"})
            await asyncio.to_thread(cluster.delete, definition(group))
            await seen.until(lambda: informer.missing and not seen.values)
    finally:
        await asyncio.to_thread(cluster.delete, definition(group))
