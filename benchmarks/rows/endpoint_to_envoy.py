"""One endpoint changes, a real Envoy acknowledges it.

The clock starts before the change is sent to the server (for ours a PUT, which is answered when it is durable) and
stops when Envoy's ACK passes the tap before the server. The Envoy holds all services.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.envoy import envoy
from benchmarks.report import Bar, Reading, Result, percentile
from benchmarks.systems import FIRST_MARKER, Factory, free_port

NAME = "endpoint-to-envoy"


def run(bench: Bench) -> list[Result]:
    """Change one service after the other."""

    def measure(factory: Factory, directory: Path) -> list[Reading]:
        size = bench.size
        with bench.serving(factory, directory) as (system, simulator):
            tap = simulator.tap(system.xds)
            bootstrap = system.bootstrap("sidecar", xds=tap, sotw=False, admin_port=free_port())
            with envoy(bootstrap, directory, "envoy") as proxy:
                deadline = time.monotonic() + 120
                while simulator.tap_counters()["types"]["eds"]["resources"] < size.services:
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"Envoy did not get its endpoints:\n{proxy.output()[-3000:]}")
                    time.sleep(0.05)
                proxy.settle()
                write = system.endpoint_write()
                times, accepted = [], []
                for i in range(size.envoy_changes):
                    marker = FIRST_MARKER + i
                    one = write.fill(service=i % size.services, marker=marker)
                    answer = simulator.change(one, marker=marker)
                    times.append(answer["last_ms"])
                    accepted.append(answer["accepted_ms"])
                    time.sleep(0.02)
                rejections = simulator.tap_counters()["rejections"]
        note = f"the write itself p50 {percentile(accepted, 50):.2f} ms"
        return [
            Reading("change to ACK, p50", percentile(times, 50), "ms", Bar(at_most=5), note),
            Reading("change to ACK, p99", percentile(times, 99), "ms", Bar(at_most=20)),
            Reading("rejected responses", rejections, "", Bar(at_most=0)),
        ]

    return bench.compare(NAME, measure)
