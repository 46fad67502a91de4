"""One endpoint changes, every one of many simulated delta proxies gets it.

The clock starts before the change is sent to the server and stops when the last proxy has received it. The server's
CPU, its part in taking the change and in reading the ACKs included, is divided by the number of deliveries.
"""

from __future__ import annotations

import time

from benchmarks.bench import Bench, connect
from benchmarks.report import Bar, Reading, Result, percentile
from benchmarks.simulator import Simulator
from benchmarks.systems import FIRST_MARKER, System

NAME = "endpoint-fanout"
_JUDGED = 200  # the fleet for which the table states bars


def run(bench: Bench) -> list[Result]:
    """Change one service after the other, for each fleet of the size."""

    def measure(system: System, simulator: Simulator) -> list[Reading]:
        size = bench.size
        readings = []
        marker = FIRST_MARKER
        for proxies in size.fanout:
            connect(system, simulator, proxies)
            write = system.endpoint_write()
            simulator.counters(reset=True)
            before = system.program.cpu_seconds()
            times = []
            for i in range(size.fanout_changes):
                marker += 1
                one = write.fill(service=i % size.services, marker=marker)
                times.append(simulator.change(one, marker=marker)["last_ms"])
                time.sleep(0.05)
            system.program.settle()
            cpu = system.program.cpu_seconds() - before
            delivery = cpu * 1e6 / (proxies * size.fanout_changes)
            bytes_each = simulator.counters()["total"]["bytes"] / (proxies * size.fanout_changes)
            judged = proxies == _JUDGED
            readings += [
                Reading(f"{proxies} proxies: to the last, p50", percentile(times, 50), "ms"),
                Reading(
                    f"{proxies} proxies: to the last, p99",
                    percentile(times, 99),
                    "ms",
                    Bar(at_most=50, ratio=0.5) if judged else Bar(),
                ),
                Reading(
                    f"{proxies} proxies: CPU per delivery",
                    delivery,
                    "µs",
                    Bar(at_most=250, ratio=0.5) if judged else Bar(),
                ),
                Reading(f"{proxies} proxies: bytes per delivery", bytes_each, "B"),
            ]
        return readings

    return bench.compare_fleets(NAME, measure)
