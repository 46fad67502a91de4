"""HTTPRoutes come to a cluster one by one; each host's answers through a real Envoy turn from 404 to 200.

The clock starts with the API server's answer to the creation and stops with the first 200, asked for every millisecond
from before the creation on; a 200 that is there before the API server has answered counts as 0. Every route has a host
of its own, all of them one Service. The next is created when the last answers, so what its status costs is in the
figures. `at N` are the routes of a window that ends with the Nth.
"""

from __future__ import annotations

from collections import Counter

from benchmarks.bench import Bench
from benchmarks.cluster import Site, route
from benchmarks.report import Bar, Reading, Result, percentile
from benchmarks.simulator import Turn

NAME = "kubernetes-routes"
_ENVOY_GATEWAY = "Envoy Gateway 1.9 on such a node at 300: p50 95 ms, p99 258 ms, 192 answers of 503"


def run(bench: Bench) -> list[Result]:
    """Create them all."""
    size = bench.size

    def measure(site: Site) -> list[Reading]:
        space, simulator = site.namespace, site.simulator
        site.backend("backend")
        simulator.send(space.create(space.gateway(site.port)))
        times: list[float] = []
        others: Counter[str] = Counter()
        with site.fairlead() as server, site.proxy(server.xds):
            # One more than counts: the first also brings the Service's cluster and opens the connections.
            simulator.turn(Turn(site.url, "first.example.com"), space.create(route("first", "backend")))
            server.program.settle()
            for i in range(size.cluster_routes[-1]):
                name = f"host-{i}"
                answer = simulator.turn(Turn(site.url, f"{name}.example.com"), space.create(route(name, "backend")))
                times.append(max(0.0, answer["turned_at"] - answer["answered_at"]))
                others.update(answer["others"])
        readings = []
        medians = []
        for count in size.cluster_routes:
            window = times[max(0, count - size.cluster_window) : count]
            medians.append(percentile(window, 50))
            note = _ENVOY_GATEWAY if count == 300 else ""
            readings += [
                Reading(f"404 to 200 at {count}, p50", medians[-1], "ms", Bar(at_most=25), note),
                Reading(f"404 to 200 at {count}, p99", percentile(window, 99), "ms", Bar(at_most=60)),
            ]
        found = ", ".join(f"{count} of {code}" for code, count in sorted(others.items()))
        return [
            *readings,
            Reading(f"p50 at {size.cluster_routes[-1]} against {size.cluster_routes[0]}", _over(medians), "x"),
            Reading("slowest of all", max(times), "ms"),
            Reading("answers of other codes", others.total(), "", Bar(at_most=0), found),
        ]

    return bench.in_cluster(NAME, measure)


def _over(medians: list[float]) -> float:
    return medians[-1] / max(medians[0], 0.001)
