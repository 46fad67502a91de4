"""Five thousand Services of ten endpoints each: what they cost Fairlead in memory, when idle, and per change."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from fairlead.processes import Child, Children
from tests.support.kubernetes import JSON, Cluster, eventually
from tests.support.programs import answers, start_serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVICES = 5_000
ENDPOINTS = 10
_AT_ONCE = 24
_TICKS = os.sysconf("SC_CLK_TCK")


def service(number: int) -> JSON:
    return {
        # kube-proxy leaves it alone
        "metadata": {"name": f"s{number}", "labels": {"service.kubernetes.io/service-proxy-name": "none"}},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    }


def endpoint_slice(number: int, *, last: int = 0) -> JSON:
    addresses = [f"10.{128 + number // 250}.{number % 250}.{index + 1}" for index in range(ENDPOINTS)]
    if last:
        addresses[-1] = f"10.255.255.{last}"
    return {
        "metadata": {
            "name": f"s{number}-x",
            "labels": {
                "kubernetes.io/service-name": f"s{number}",
                "service.kubernetes.io/service-proxy-name": "none",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


async def make(kubeconfig: Path, namespace: str) -> None:
    api = Connection(KubeConfig(str(kubeconfig)))
    slots = asyncio.Semaphore(_AT_ONCE)
    root = f"/namespaces/{namespace}"

    async def one(number: int) -> None:
        async with slots:
            body = json.dumps(service(number)).encode()
            await api.request("POST", f"/api/v1{root}/services", body=body, timeout=60.0)
            body = json.dumps(endpoint_slice(number)).encode()
            await api.request("POST", f"/apis/discovery.k8s.io/v1{root}/endpointslices", body=body, timeout=60.0)

    try:
        await asyncio.gather(*(one(number) for number in range(SERVICES)))
    finally:
        await api.close()


def resident(child: Child) -> int:
    """Megabytes."""
    return int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1_000_000


def processor(child: Child) -> float:
    """Seconds of the processor's time."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def test_many_services_fit_and_cost_nothing_while_nothing_changes(
    children: Children, cluster: Cluster, crds: None, namespace: str, kubeconfig: Path
) -> None:
    asyncio.run(make(kubeconfig, namespace))
    settings = ["--kubernetes-namespaces", namespace, "--kubernetes-lease", f"{namespace}/fairlead"]
    serving = start_serve(children, "--kubernetes", str(kubeconfig), *settings, ready=False)
    eventually(lambda: answers(serving.client, "/readyz"), "it to be ready", seconds=300)
    eventually(lambda: f", {SERVICES} services" in serving.child.log.read_text(), "it to say how many there are")

    def settled() -> bool:
        """Whether the copies are written: nothing is done any more."""
        before = processor(serving.child)
        time.sleep(2)  # the measure
        return processor(serving.child) - before < 0.05

    eventually(settled, "it to have written its copies", seconds=300)
    before, began = processor(serving.child), time.monotonic()
    time.sleep(10)  # the measure
    idle = (processor(serving.child) - before) / (time.monotonic() - began)
    print(f"{SERVICES} services: {resident(serving.child)} MB, idle {idle:.1%} of a core")
    assert resident(serving.child) <= 400
    assert idle <= 0.02
    for change in range(1, 4):
        patch = {"endpoints": endpoint_slice(7, last=change)["endpoints"]}
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/s7-x"
        before = processor(serving.child)
        cluster.request("PATCH", path, patch, content_type="application/merge-patch+json")
        time.sleep(1)  # the measure
        assert processor(serving.child) - before < 0.3, "a change costs what it changes"

    def arrived() -> bool:
        query = {"namespace": namespace, "service": "s7"}
        return b"10.255.255.3" in serving.client.request("GET", "/api/v1/discovered/endpoints", query=query).body

    eventually(arrived, "the last change")
