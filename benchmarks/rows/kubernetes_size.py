"""Fairlead beside a large cluster: how large is it, and what does it do when nothing happens?

Services, EndpointSlices (by hand) and HTTPRoutes are there before it starts; a real Envoy of their Gateway connects.
Memory and CPU are taken once every status is written and the program has come to rest.
"""

from __future__ import annotations

import time

from benchmarks.bench import Bench
from benchmarks.cluster import GATEWAY, Site, endpoint_slice, route, service
from benchmarks.report import Bar, Reading, Result
from benchmarks.systems import address_of
from tests.support.kubernetes import eventually

NAME = "kubernetes-size"
_PARALLEL = 8


def run(bench: Bench) -> list[Result]:
    """Load, start, wait, look."""
    size = bench.size

    def measure(site: Site) -> list[Reading]:
        space, simulator = site.namespace, site.simulator
        writes = [space.create(space.gateway(site.port))]
        for i in range(size.large_services):
            addresses = [address_of(i, j) for j in range(size.large_endpoints)]
            writes.append(space.create(service(f"svc-{i}")))
            writes.append(space.create(endpoint_slice(f"svc-{i}", addresses, port=8080)))
        writes += [space.create(route(f"host-{i}", f"svc-{i % size.large_services}")) for i in range(size.large_hosts)]
        simulator.send_all(writes, parallel=_PARALLEL)
        with site.fairlead() as server, site.proxy(server.xds):
            started = time.monotonic()
            eventually(lambda: _attached(site) == size.large_hosts, "all routes to be attached", seconds=120)
            server.program.settle(timeout=180)
            settled = time.monotonic() - started
            before = server.program.cpu_seconds()
            time.sleep(size.idle_seconds)
            idle = (server.program.cpu_seconds() - before) / size.idle_seconds
            rss = server.program.rss_bytes()
        label = f"{size.large_services} Services x {size.large_endpoints}, {size.large_hosts} routes"
        return [
            Reading(f"{label}: RSS", rss / 1e6, "MB", Bar(at_most=450)),
            Reading(f"{label}: idle CPU", idle * 100, "% of a core", Bar(at_most=1), f"over {size.idle_seconds:g} s"),
            Reading("until ready", server.seconds_to_ready, "s"),
            Reading("from then until all statuses are written", settled, "s"),
        ]

    return bench.in_cluster(NAME, measure)


def _attached(site: Site) -> int:
    item = site.namespace.cluster.get(site.namespace.path("Gateway", GATEWAY))
    return int(item["status"]["listeners"][0]["attachedRoutes"])
