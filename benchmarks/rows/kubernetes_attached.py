"""Many HTTPRoutes come to a Gateway of a cluster and go again: when is its status right, after how many writes?

A watch of the benchmark's own tells of every version of the Gateway. The clock starts with the API server's answer to
the last creation (deletion) and stops when the watch tells the right `attachedRoutes`. Eight routes are created
(deleted) at a time; a real Envoy of the Gateway is connected.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cluster import GATEWAY, Site, route
from benchmarks.report import Bar, Reading, Result
from tests.support.kubernetes import condition, eventually

NAME = "kubernetes-attached"
_TIMEOUT = 120.0
_ENVOY_GATEWAY = "Envoy Gateway 1.9 on such a node: 16.9 s, 211 writes"


def run(bench: Bench) -> list[Result]:
    """Create all, wait, delete all, wait."""
    count = bench.size.cluster_attached

    def measure(site: Site) -> list[Reading]:
        space, simulator = site.namespace, site.simulator
        site.backend("backend")
        simulator.send(space.create(space.gateway(site.port)))
        routes = [route(f"host-{i}", "backend") for i in range(count)]
        with site.fairlead() as server, site.proxy(server.xds):
            server.program.settle()
            space.watch(simulator, "Gateway")
            made = simulator.send_all([space.create(item) for item in routes])
            attached = _when(site, count) - made["last_at"]
            right = time.monotonic()
            eventually(lambda: _accepted(site) == count, "every route to say Accepted", seconds=_TIMEOUT, every=0.2)
            accepted = attached / 1000 + time.monotonic() - right
            server.program.settle()
            writes = len(simulator.watched())
            gone = simulator.send_all([space.remove("HTTPRoute", item["metadata"]["name"]) for item in routes])
            detached = _when(site, 0, after=writes) - gone["last_at"]
            server.program.settle()
            versions = len(simulator.watched())
        return [
            Reading(
                f"{count} created, attachedRoutes right",
                max(0.0, attached / 1000),
                "s after the last",
                Bar(at_most=3),
                f"creating took {made['seconds']:.1f} s; {_ENVOY_GATEWAY}",
            ),
            Reading(f"{count} created, all of them say Accepted", accepted, "s after the last"),
            Reading(
                f"{count} deleted, attachedRoutes right",
                max(0.0, detached / 1000),
                "s after the last",
                Bar(at_most=5),
                f"deleting took {gone['seconds']:.1f} s",
            ),
            Reading("writes to the Gateway", versions, "", Bar(at_most=100), f"{writes} of them while routes came"),
        ]

    return bench.in_cluster(NAME, measure)


def _when(site: Site, count: int, *, after: int = 0) -> float:
    """The moment from which on the Gateway says that so many routes are attached."""
    seen = after
    while True:
        lines = site.simulator.watched(known=seen, timeout=_TIMEOUT)
        if not lines:
            raise RuntimeError(f"attachedRoutes is not {count} after {_TIMEOUT:g} s")
        seen += len(lines)
        if _attached(lines[-1]["event"]) == count:
            return float(lines[-1]["at"])


def _accepted(site: Site) -> int:
    listed = site.namespace.cluster.get(site.namespace.path("HTTPRoute"))["items"]
    return sum(
        condition({"status": parent}, "Accepted") is not None
        for item in listed
        for parent in item.get("status", {}).get("parents", [])
    )


def _attached(event: dict[str, Any]) -> int | None:
    item = event["object"]
    if item["metadata"]["name"] != GATEWAY:
        return None
    listeners = item.get("status", {}).get("listeners") or [{}]
    attached = listeners[0].get("attachedRoutes")
    return None if attached is None else int(attached)
