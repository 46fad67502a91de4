"""A Gateway is created in a cluster, and pods are made to run it: how long until it is Programmed?

The clock starts with the API server's answer to the creation and stops when a watch of the benchmark's own tells that
the Gateway is Programmed; its Deployment must then have a ready pod. Needs a cluster whose pods reach this machine, and
the proxy's image on its node. One Gateway after the other, each removed before the next.
"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cluster import NoClusterError, Site
from benchmarks.report import Bar, Reading, Result, percentile
from benchmarks.systems import free_port
from tests.support.kubernetes import JSON, condition, eventually

NAME = "kubernetes-gateway"
IMAGE = os.environ.get("FAIRLEAD_GATEWAY_IMAGE", "fairlead-envoy:dev")
_TIMEOUT = 60.0
_ENVOY_GATEWAY = "Envoy Gateway 1.9 on such a node: 13 s"


def run(bench: Bench) -> list[Result]:
    """Create one after the other."""

    def measure(site: Site) -> list[Reading]:
        space, simulator = site.namespace, site.simulator
        times = []
        address = f"{space.host}:{free_port()}"
        image = [
            "--gateway-image",
            IMAGE,
            "--gateway-image-pull-policy",
            "Never",
            "--gateway-service-type",
            "ClusterIP",
        ]
        tokens = ["--xds-tokens", address, "--xds-names", space.host, "--gateway-xds", address]
        with site.fairlead(*tokens, *image, "--insecure-xds"):
            for i in range(bench.size.cluster_gateways):
                name = f"edge-{i}"
                space.watch(simulator, "Gateway")
                made = simulator.send_all([space.create(space.gateway(8080, name=name))])
                times.append((_programmed(site, name) - made["last_at"]) / 1000)
                if not _ready(site, name):
                    raise RuntimeError(f"{name} is Programmed and has no ready pod")
                simulator.send(space.remove("Gateway", name))
                _wait_gone(site, name)
        note = f"of {len(times)}; {_ENVOY_GATEWAY}"
        return [
            Reading("created to Programmed, p50", percentile(times, 50), "s", Bar(at_most=3), note),
            Reading("created to Programmed, slowest", max(times), "s"),
        ]

    return bench.in_cluster(NAME, measure)


def _programmed(site: Site, name: str) -> float:
    """The moment at which a Gateway was told Programmed."""
    deadline = time.monotonic() + _TIMEOUT
    seen = 0
    while time.monotonic() < deadline:
        for line in site.simulator.watched(known=seen, timeout=1.0):
            seen += 1
            found = condition(line["event"]["object"], "Programmed")
            if line["event"]["object"]["metadata"]["name"] == name and found and found["status"] == "True":
                return float(line["at"])
        if why := _lacking_image(site, name):
            raise NoClusterError(why)
    item = site.namespace.cluster.get(site.namespace.path("Gateway", name))
    raise RuntimeError(f"{name} is not Programmed after {_TIMEOUT:g} s: {condition(item, 'Programmed')}")


def _pods(site: Site, gateway: str) -> list[JSON]:
    selector = f"gateway.networking.k8s.io/gateway-name%3D{gateway}"
    path = f"/api/v1/namespaces/{site.namespace.name}/pods?labelSelector={selector}"
    return list(site.namespace.cluster.get(path)["items"])


def _wait_gone(site: Site, gateway: str) -> None:
    eventually(lambda: not _pods(site, gateway), f"the pods of {gateway} to be gone", seconds=_TIMEOUT)


def _ready(site: Site, gateway: str) -> bool:
    return any((condition(pod, "Ready") or {}).get("status") == "True" for pod in _pods(site, gateway))


def _lacking_image(site: Site, gateway: str) -> str:
    for pod in _pods(site, gateway):
        for container in pod.get("status", {}).get("containerStatuses") or []:
            waiting: dict[str, Any] = container["state"].get("waiting") or {}
            if waiting.get("reason") == "ErrImageNeverPull":
                return f"the image {IMAGE} is not on the node: run `make images`, or name one in FAIRLEAD_GATEWAY_IMAGE"
    return ""
