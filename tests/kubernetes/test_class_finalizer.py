"""A GatewayClass that Gateways use, in a real API server: it stays until the last of them is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from discovery.kubernetes.class_finalizer import FINALIZER, ClassFinalizer
from discovery.kubernetes.config import Config, resource
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.informer import Informer
from discovery.kubernetes.sinks import ConfigSink
from discovery.kubernetes.wire import Reader
from mesh.kinds import KINDS
from tests.support.followed_cluster import said
from tests.support.kubernetes import JSON, Cluster
from tests.support.kubernetes_api import Line, until

pytestmark = pytest.mark.usefixtures("crds")

GATEWAY_API = "gateway.networking.k8s.io/v1"


def gateway(name: str, class_name: str) -> JSON:
    spec = {"gatewayClassName": class_name, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    return {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def used(cluster: Cluster, namespace: str) -> Iterator[JSON]:
    """A class of ours with somebody else's finalizer too, named as the namespace; it goes, whoever holds it."""
    item = {
        "apiVersion": GATEWAY_API,
        "kind": "GatewayClass",
        "metadata": {"name": namespace, "finalizers": ["example.com/another"]},
        "spec": {"controllerName": "fairlead.dev/gateway-controller"},
    }
    cluster.apply(item)
    yield item
    if cluster.find(cluster.path(item)) is not None:
        none = {"metadata": {"finalizers": None}}
        cluster.request("PATCH", cluster.path(item), none, content_type="application/merge-patch+json")
        cluster.delete(item)


@contextlib.asynccontextmanager
async def keeping(kubeconfig: Path, namespace: str) -> AsyncIterator[Line]:
    """The finalizer at work, for the class and the Gateways of one namespace."""
    connection = Connection(KubeConfig(str(kubeconfig)))
    line = Line(connection)
    informers: list[Informer[Any]] = []
    finalizer = ClassFinalizer(line, settled=lambda: all(informer.synced for informer in informers))
    config = Config("kubernetes:x", observer=finalizer.observe)
    for kind, at in ((KINDS["GatewayClass"], ("", namespace)), (KINDS["Gateway"], (namespace, ""))):
        sink = ConfigSink(config, kind, namespace=at[0], name=at[1])
        informers.append(Informer(line, resource(kind, *at), Reader(dict[str, Any]), sink, lambda _: None))
    finalizer.lead(True)
    tasks = [asyncio.get_running_loop().create_task(work.run()) for work in (*informers, finalizer)]
    try:
        await until(lambda: all(informer.synced for informer in informers), "all to be read")
        yield line
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()


async def test_a_class_in_use_stays_until_its_last_gateway_is_gone_and_others_finalizers_are_left_alone(
    cluster: Cluster, namespace: str, kubeconfig: Path, used: JSON
) -> None:
    path = cluster.path(used)

    def finalizers() -> set[str]:
        return set(cluster.get(path)["metadata"].get("finalizers", []))

    await said(cluster.apply, gateway("one", namespace), gateway("two", namespace), namespace=namespace)
    async with keeping(kubeconfig, namespace) as line:
        await until(lambda: finalizers() == {FINALIZER, "example.com/another"}, "the finalizer")
        await said(cluster.request, "DELETE", path)
        for name in ("one", "two"):
            assert FINALIZER in finalizers()
            where = {"name": name, "namespace": namespace}
            await said(cluster.delete, {**gateway(name, namespace), "metadata": where}, wait=30.0)
        await until(lambda: finalizers() == {"example.com/another"}, "the finalizer to go")
        assert len(line.sent) == 2


async def test_a_class_is_written_to_once_it_is_used(
    cluster: Cluster, namespace: str, kubeconfig: Path, used: JSON
) -> None:
    await said(cluster.apply, gateway("one", "another"), namespace=namespace)
    async with keeping(kubeconfig, namespace) as line:
        assert line.sent == []
        await said(cluster.apply, gateway("two", namespace), namespace=namespace)
        await until(lambda: FINALIZER in cluster.get(cluster.path(used))["metadata"]["finalizers"], "the finalizer")
        assert len(line.sent) == 1
