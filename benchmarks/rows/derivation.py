"""One endpoint among many services moves: what does deriving everything that follows from it cost?

In this process, without sources, streams or proxies: all tables of the model and of translation, with a sidecar that
sees every service; one commit per change, until the new ClusterLoadAssignment stands there as bytes. The bar asks for a
cost that is flat from 100 to 5,000 services.
"""

from __future__ import annotations

import gc
import time

from benchmarks.bench import Bench
from benchmarks.report import Bar, Reading, Result, merge, percentile
from benchmarks.systems import FIRST_MARKER, address_of
from mesh.model import (
    AUDIENCES,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    Audience,
    Connected,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    ServicePort,
)
from mesh.tables import Change, Engine
from xds.translate.cluster_tables import ASSIGNMENTS
from xds.translate.tables import TABLES

NAME = "derivation"
_SOURCE = "benchmark"
_STEP = 7919  # a prime, so that changes are spread over the services


def run(bench: Bench) -> list[Result]:
    """Move one endpoint of one service after the other, for each number of services of the size."""
    if not bench.measures_ours:
        return []
    readings = []
    medians = []
    for services in bench.size.derivation_services:
        times = _times(services, bench.size.large_endpoints, bench.size.derivation_changes)
        medians.append(percentile(times, 50))
        readings += [
            Reading(f"{services} services: p50", medians[-1], "ms", Bar(at_most=1)),
            Reading(f"{services} services: p99", percentile(times, 99), "ms"),
        ]
    first, last = bench.size.derivation_services[0], bench.size.derivation_services[-1]
    readings.append(Reading(f"{last} services against {first}", medians[-1] / medians[0], "x"))
    return merge(NAME, readings, [])


def _times(services: int, endpoints: int, changes: int) -> list[float]:
    """Milliseconds of each change's commit."""
    engine = Engine(TABLES)
    known = DiscoveredService(ports=(ServicePort("http", 80, "HTTP"),))
    sidecar = Audience("sidecar", "default", "svc-0", port=8080, ingress_port=15006, egress_port=15001)
    batch = [Change(AUDIENCES, sidecar, Connected())]
    for i in range(services):
        batch.append(Change(DISCOVERED_SERVICES, DiscoveredServiceKey(_SOURCE, "default", f"svc-{i}"), known))
        batch.append(_moved(i, endpoints, 8080))
    engine.commit(batch)
    gc.collect()
    gc.freeze()  # as the server does after its first build
    times = []
    for i in range(changes):
        change = _moved(i * _STEP % services, endpoints, FIRST_MARKER + i)
        started = time.perf_counter()
        commit = engine.commit([change])
        times.append((time.perf_counter() - started) * 1000)
        if len(commit.of(ASSIGNMENTS)) != 1:
            raise RuntimeError(f"one moved endpoint changed {len(commit.of(ASSIGNMENTS))} assignments")
    gc.unfreeze()
    return times


def _moved(service: int, endpoints: int, port: int) -> Change:
    """The change by which the first endpoint of a service listens on a port."""
    rows = tuple(
        Endpoint(address=address_of(service, j), ports=(("http", 8080 if j else port),)) for j in range(endpoints)
    )
    key = DiscoveredEndpointsKey(_SOURCE, "default", f"svc-{service}", "0")
    return Change(DISCOVERED_ENDPOINTS, key, DiscoveredEndpoints(rows))
