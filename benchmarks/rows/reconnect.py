"""Proxies come back to a server where nothing changed, and to one that was restarted meanwhile.

They say which version of every resource they hold, so nothing needs to be sent.
"""

from __future__ import annotations

from benchmarks.bench import Bench, connect
from benchmarks.report import Bar, Reading, Result
from benchmarks.simulator import Simulator
from benchmarks.systems import System

NAME = "reconnect"


def run(bench: Bench) -> list[Result]:
    """Reconnect the whole fleet twice."""

    def measure(system: System, simulator: Simulator) -> list[Reading]:
        connect(system, simulator, bench.size.proxies)
        simulator.disconnect()
        system.program.settle()
        readings = _return(system, simulator, "reconnect")
        simulator.disconnect()
        system.restart()
        system.program.settle()
        return readings + _return(system, simulator, "after a restart")

    return bench.compare_fleets(NAME, measure)


def _return(system: System, simulator: Simulator, label: str) -> list[Reading]:
    simulator.counters(reset=True)
    before = system.program.cpu_seconds()
    simulator.reconnect(system.xds)
    # Nothing has to be answered, so there is no last answer to wait for: the server has read everything when it is
    # idle again.
    system.program.settle(at_least=2)
    cpu = system.program.cpu_seconds() - before
    got = simulator.counters()
    note = f"{got['stream_errors']} streams were refused or broke" if got["stream_errors"] else ""
    return [
        Reading(f"{label}: resources sent", got["total"]["resources"], "", Bar(at_most=0), note),
        Reading(f"{label}: server CPU", cpu, "s", Bar(at_most=0.5)),
        Reading(f"{label}: sent", got["total"]["bytes"] / 1e6, "MB"),
    ]
