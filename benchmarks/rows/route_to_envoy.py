"""One HTTPRoute among many changes, a real Envoy answers by it.

Every host has a route of its own. A change makes one host redirect to a new name; the clock starts before the change
is sent to the server (for ours a PUT) and stops when a request through Envoy gets the new Location, asked for every
200 µs. Envoy's floor is the same RouteConfiguration, captured on its way over SotW, given to an Envoy as a file.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.envoy import envoy, file_bootstrap
from benchmarks.report import Bar, Reading, Result, percentile
from benchmarks.simulator import Probe, Simulator
from benchmarks.systems import Factory, System, Workload, free_port

NAME = "route-to-envoy"
_PAUSE = 0.05
_STEP = 7919  # a prime, so that changes are spread over the hosts
_TIMEOUT = 120.0


def run(bench: Bench) -> list[Result]:
    """Change one host after the other, for each number of hosts of the size, over delta and over SotW."""

    def measure(factory: Factory, directory: Path) -> list[Reading]:
        readings = []
        medians = []
        for hosts in bench.size.hosts:
            workload = Workload(services=1, endpoints=1, hosts=hosts, gateway_port=free_port())
            # A server of its own for each number of hosts, so that none inherits another's memory.
            with tempfile.TemporaryDirectory(dir=directory) as place, Simulator() as simulator:
                here = Path(place)
                (here / "server").mkdir()
                with factory(workload, here / "server") as system:
                    delta = _changes(bench, system, simulator, workload, here, sotw=False)
                    sotw = _changes(bench, system, simulator, workload, here, sotw=True)
                floor = _floor(bench, simulator, workload, here)
            medians.append(percentile(delta, 50))
            note = f"floor p50 {percentile(floor, 50):.1f} ms"
            times_floor = percentile(sotw, 50) / percentile(floor, 50)
            readings += [
                Reading(f"{hosts} hosts, delta: p50", medians[-1], "ms", Bar(at_most=10)),
                Reading(f"{hosts} hosts, delta: p99", percentile(delta, 99), "ms"),
                Reading(f"{hosts} hosts, SotW: p50", percentile(sotw, 50), "ms"),
                Reading(f"{hosts} hosts, SotW: times Envoy's floor", times_floor, "x", Bar(at_most=1.5), note),
            ]
        flat = medians[-1] / medians[0]
        readings.append(Reading(f"delta: {hosts} hosts against {bench.size.hosts[0]}", flat, "x"))
        return readings

    return bench.compare(NAME, measure)


def _changes(
    bench: Bench, system: System, simulator: Simulator, workload: Workload, directory: Path, *, sotw: bool
) -> list[float]:
    """Milliseconds of each change, through a fresh Envoy."""
    tap = simulator.tap(system.xds)
    bootstrap = system.bootstrap("gateway", xds=tap, sotw=sotw, admin_port=free_port())
    protocol = "sotw" if sotw else "delta"
    url = f"http://127.0.0.1:{workload.gateway_port}/"
    times = []
    with envoy(bootstrap, directory, f"envoy-{protocol}") as proxy:
        # One change more than counts: the first also waits until Envoy has its configuration.
        for i in range(bench.size.route_changes + 1):
            host = i * _STEP % workload.hosts
            name = f"{protocol[:4]}-{i:05}.example.com"
            probe = Probe(url, f"host-{host}.example.com", name)
            answer = simulator.probe(probe, write=system.route_write(host, name), timeout=_TIMEOUT)
            if i == 0:
                proxy.settle()
                system.program.settle()
            else:
                times.append(answer["answered_ms"])
            time.sleep(_PAUSE)
    return times


def _floor(bench: Bench, simulator: Simulator, workload: Workload, directory: Path) -> list[float]:
    """Milliseconds of each change of the captured RouteConfiguration in a file."""
    name = simulator.floor_from_tap()
    path = directory / "routes" / "routes.pb"
    path.parent.mkdir()
    simulator.floor_write(str(path))
    port = free_port()
    # The last host that the SotW run changed redirects to the text that the swaps replace.
    last = bench.size.route_changes
    text = f"sotw-{last:05}.example.com"
    host = last * _STEP % workload.hosts
    times = []
    with envoy(file_bootstrap(path, route=name, port=port, admin_port=free_port()), directory, "envoy-floor") as proxy:
        url = f"http://127.0.0.1:{port}/"
        hostname = f"host-{host}.example.com"
        simulator.probe(Probe(url, hostname, text), timeout=_TIMEOUT)
        proxy.settle()
        for i in range(bench.size.route_changes):
            swapped = f"file-{i:05}.example.com"
            probe = Probe(url, hostname, swapped)
            times.append(simulator.floor_change(str(path), before=text, after=swapped, probe=probe)["answered_ms"])
            text = swapped
            time.sleep(_PAUSE)
    return times
