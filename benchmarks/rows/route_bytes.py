"""One HTTPRoute among many changes: how many bytes go to each proxy of the gateway?

Bytes are those of the responses of all route types (RDS, SRDS) and of listeners, before HTTP/2's framing.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.report import Bar, Reading, Result
from benchmarks.simulator import Simulator
from benchmarks.systems import Factory, Workload, free_port

NAME = "route-bytes"
_CHANGES = 5
_TYPES = ("lds", "rds", "srds")


def run(bench: Bench) -> list[Result]:
    """Change a few hosts, one after the other."""

    def measure(factory: Factory, directory: Path) -> list[Reading]:
        size = bench.size
        workload = Workload(services=1, endpoints=1, hosts=size.byte_hosts, gateway_port=free_port())
        with factory(workload, directory) as system, Simulator() as simulator:
            node_id, metadata = system.gateway()
            simulator.connect(system.xds, count=size.byte_proxies, node_id=node_id, metadata=metadata)
            simulator.wait_synced()
            system.program.settle()
            simulator.counters(reset=True)
            for i in range(_CHANGES):
                write = system.route_write(i % size.byte_hosts, f"m-{i}.example.com")
                deadline = time.monotonic() + 30
                wanted = (i + 1) * size.byte_proxies
                simulator.send(write)
                while _sum(simulator, "responses") < wanted:
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"change {i} did not reach every proxy in 30 s")
                    time.sleep(0.01)
                system.program.settle()
            each = _sum(simulator, "bytes") / (_CHANGES * size.byte_proxies)
        return [Reading(f"one of {size.byte_hosts} hosts, per proxy", each, "B", Bar(at_most=2000))]

    return bench.compare(NAME, measure)


def _sum(simulator: Simulator, what: str) -> int:
    types = simulator.counters()["types"]
    return sum(types[kind][what] for kind in _TYPES)
