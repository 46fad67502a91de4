"""Many proxies connect at once, knowing nothing, and get everything: the server's CPU until it is idle again."""

from __future__ import annotations

from benchmarks.bench import Bench, connect
from benchmarks.report import Bar, Reading, Result
from benchmarks.simulator import Simulator
from benchmarks.systems import System

NAME = "connect-cold"


def run(bench: Bench) -> list[Result]:
    """Connect the fleet once, to a server that has just started."""

    def measure(system: System, simulator: Simulator) -> list[Reading]:
        system.program.settle()
        before = system.program.cpu_seconds()
        seconds = connect(system, simulator, bench.size.proxies)
        cpu = system.program.cpu_seconds() - before
        got = simulator.counters()
        note = f"{got['stream_errors']} streams were refused or broke" if got["stream_errors"] else ""
        return [
            Reading(f"server CPU, {bench.size.proxies} proxies", cpu, "s", Bar(ratio=1)),
            Reading("until the last has everything", seconds, "s", note=note),
            Reading("sent", got["total"]["bytes"] / 1e6, "MB"),
            Reading("resources sent", got["total"]["resources"], ""),
        ]

    return bench.compare_fleets(NAME, measure)
