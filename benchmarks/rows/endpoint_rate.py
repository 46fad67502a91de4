"""Endpoints change at a steady rate; how old is the oldest change that some proxy has not yet got?

The age of a change runs from the moment it was due, so a server that is slow to take changes does not look better.
A change is over when every proxy has it or a later one of the same service. Changes do not wait for each other.
Last comes what one writer gets through that sends the next change when the last is answered: go-control-plane's cache
computes and sends all responses before an update returns.
"""

from __future__ import annotations

import time

from benchmarks.bench import Bench, connect
from benchmarks.report import Bar, Reading, Result
from benchmarks.simulator import Simulator
from benchmarks.size import Size
from benchmarks.systems import FIRST_MARKER, System

NAME = "endpoint-rate"


def run(bench: Bench) -> list[Result]:
    """Drive one service after the other."""

    def measure(system: System, simulator: Simulator) -> list[Reading]:
        size = bench.size
        connect(system, simulator, size.proxies)
        simulator.counters(reset=True)
        before = system.program.cpu_seconds()
        driven = simulator.drive(
            system.endpoint_write(),
            services=size.services,
            first_marker=FIRST_MARKER,
            per_second=size.rate,
            seconds=size.rate_seconds,
            drain=size.rate_drain,
        )
        cpu = system.program.cpu_seconds() - before
        got = simulator.counters()["types"]["eds"]
        if driven["failed_writes"]:
            raise RuntimeError(f"{driven['failed_writes']} changes were refused: {driven['first_failure']}")
        undelivered = driven["undelivered"]
        note = f"{undelivered} of {driven['changes']} not delivered {size.rate_drain:g} s after the last"
        return [
            Reading(
                "oldest undelivered change, at worst",
                driven["oldest_age_ms"] / 1000,
                "s",
                Bar(at_most=0.3),
                note if undelivered else "",
            ),
            Reading("oldest undelivered change, median over time", driven["median_age_ms"] / 1000, "s"),
            Reading("server CPU", cpu, "s", Bar(at_most=10)),
            Reading("until all was delivered", driven["seconds"], "s"),
            Reading("assignments sent", got["resources"], ""),
            Reading("responses sent", got["responses"], ""),
            Reading("one writer alone", _alone(system, simulator, size), "1/s"),
        ]

    return bench.compare_fleets(NAME, measure)


def _alone(system: System, simulator: Simulator, size: Size) -> float:
    """Changes per second of one writer that waits for each answer."""
    write = system.endpoint_write()
    started = time.monotonic()
    done = 0
    while (elapsed := time.monotonic() - started) < size.rate_seconds / 4:
        simulator.send(write.fill(service=done % size.services, marker=FIRST_MARKER - 1 - done % 9999))
        done += 1
    return done / elapsed
