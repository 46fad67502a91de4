"""An endpoint becomes ready in a cluster, a real Envoy acknowledges it.

The clock starts when a watch of the benchmark's own tells of the EndpointSlice and stops when Envoy's ACK of the new
endpoints passes the tap before the server. The slices are written by hand: each endpoint is made unready first, and
then ready on a port that no other has. Which of the two watches the API server serves first is chance, so single times
may be below zero. The Envoy is a gateway with a route to each Service.
"""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.cluster import Site, endpoint_slice, route, service
from benchmarks.report import Bar, Reading, Result, percentile
from benchmarks.simulator import Write
from benchmarks.systems import FIRST_MARKER, address_of

NAME = "kubernetes-endpoint"
_PAUSE = 0.05
_TIMEOUT = 60.0


def run(bench: Bench) -> list[Result]:
    """Make one endpoint after the other ready."""
    size = bench.size

    def measure(site: Site) -> list[Reading]:
        simulator = site.simulator
        _load(site, size.cluster_services, size.endpoints)
        with site.fairlead() as server:
            tap = simulator.tap(server.xds)
            with site.proxy(tap) as proxy:
                _wait_loaded(site, size.cluster_services)
                proxy.settle()
                server.program.settle()
                site.namespace.watch(simulator, "EndpointSlice")
                acks: dict[int, float] = {}
                answered = []
                for i in range(size.cluster_endpoint_changes):
                    at, marker = i % size.cluster_services, FIRST_MARKER + i
                    simulator.send(_state(site, at, ready=False))
                    time.sleep(_PAUSE)
                    answer = simulator.change(_state(site, at, ready=True, port=marker), marker=marker)
                    acks[marker] = answer["sent_at"] + answer["last_ms"]
                    answered.append(answer["last_ms"] - answer["accepted_ms"])
                    time.sleep(_PAUSE)
                events = _events(site)
                rejections = simulator.tap_counters()["rejections"]
        times = [at - events[marker] for marker, at in acks.items()]
        return [
            Reading("slice event to ACK, p50", percentile(times, 50), "ms", Bar(at_most=20), "slices by hand"),
            Reading("slice event to ACK, p99", percentile(times, 99), "ms", Bar(at_most=100)),
            Reading("API server's answer to ACK, p50", percentile(answered, 50), "ms"),
            Reading("API server's answer to ACK, p99", percentile(answered, 99), "ms"),
            Reading("rejected responses", rejections, "", Bar(at_most=0)),
        ]

    return bench.in_cluster(NAME, measure)


def _load(site: Site, services: int, endpoints: int) -> None:
    space = site.namespace
    writes = [space.create(space.gateway(site.port))]
    for i in range(services):
        name = f"svc-{i}"
        writes += [
            space.create(service(name, headless=True)),
            space.create(endpoint_slice(name, [address_of(i, 0)], port=8080)),
            space.create(route(name, name)),
        ]
        if endpoints > 1:
            others = [address_of(i, j) for j in range(1, endpoints)]
            writes.append(space.create(endpoint_slice(name, others, port=8080, name="2")))
    site.simulator.send_all(writes)


def _wait_loaded(site: Site, services: int) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while (got := site.simulator.tap_counters()["types"]["eds"]["resources"]) < services:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Envoy got the endpoints of {got} services of {services} in {_TIMEOUT:g} s")
        time.sleep(0.05)


def _state(site: Site, at: int, *, ready: bool, port: int = 8080) -> Write:
    """The change of the slice with a service's first endpoint; a merge patch replaces lists whole."""
    name = f"svc-{at}"
    endpoint = {"addresses": [address_of(at, 0)], "conditions": {"ready": ready}}
    change = {"endpoints": [endpoint], "ports": [{"name": "http", "port": port}]}
    write = site.namespace.patch("EndpointSlice", f"{name}-1", change)
    return replace(write, resource=f"{site.namespace.name}/{name}:80")


def _events(site: Site) -> dict[int, float]:
    """When the watch told of each marker."""
    found: dict[int, float] = {}
    for line in site.simulator.watched():
        item = line["event"]["object"]
        if item["endpoints"][0]["conditions"]["ready"]:
            found.setdefault(item["ports"][0]["port"], line["at"])
    return found
