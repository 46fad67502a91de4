"""Memory that each connected proxy adds to the server: RSS with the fleet idle, less RSS before it came, per proxy."""

from __future__ import annotations

from benchmarks.bench import Bench, connect
from benchmarks.report import Bar, Reading, Result
from benchmarks.simulator import Simulator
from benchmarks.systems import System

NAME = "proxy-memory"


def run(bench: Bench) -> list[Result]:
    """Connect the fleet to a server that has just started."""

    def measure(system: System, simulator: Simulator) -> list[Reading]:
        system.program.settle()
        before = system.program.rss_bytes()
        connect(system, simulator, bench.size.proxies)
        after = system.program.rss_bytes()
        each = (after - before) / bench.size.proxies / 1e3
        return [
            Reading(f"RSS per proxy, at {bench.size.proxies}", each, "kB", Bar(at_most=250)),
            Reading("RSS without proxies", before / 1e6, "MB"),
            Reading("RSS with all", after / 1e6, "MB"),
        ]

    return bench.compare_fleets(NAME, measure)
