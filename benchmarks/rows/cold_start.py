"""A server starts with a large configuration: how long until it is ready, and how large is it then?

Ours is measured from SQLite (the bar) and from a folder of files; the peer builds its content from its flags, so its
figures are a floor, not a like.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.ours import Fairlead
from benchmarks.report import Bar, Reading, Result, merge
from benchmarks.systems import Workload, free_port
from benchmarks.theirs import Peer

NAME = "cold-start"


def run(bench: Bench) -> list[Result]:
    """Start once from each source."""
    size = bench.size
    workload = Workload(
        services=size.large_services, endpoints=size.large_endpoints, hosts=size.large_hosts, gateway_port=free_port()
    )
    ours: list[Reading] = []
    peer: list[Reading] = []
    if bench.measures_ours:
        ours = _from_store(workload) + _from_files(workload)
    if "peer" in bench.systems:
        peer = _peer(workload)
    return merge(NAME, ours, peer)


def _from_store(workload: Workload) -> list[Reading]:
    place = tempfile.TemporaryDirectory(prefix="bench-ours-")
    with place as directory, Fairlead(workload, Path(directory), in_store=True) as system:
        system.restart()
        system.program.settle()
        return _readings("from SQLite", system.seconds_to_ready, system.program.rss_bytes(), judged=True)


def _from_files(workload: Workload) -> list[Reading]:
    place = tempfile.TemporaryDirectory(prefix="bench-ours-")
    with place as directory, Fairlead(workload, Path(directory)) as system:
        system.program.settle()
        return _readings("from files", system.seconds_to_ready, system.program.rss_bytes(), judged=False)


def _peer(workload: Workload) -> list[Reading]:
    with tempfile.TemporaryDirectory(prefix="bench-peer-") as directory:
        started = time.monotonic()
        with Peer(workload, Path(directory)) as system:
            seconds = time.monotonic() - started
            system.program.settle()
            return _readings("from SQLite", seconds, system.program.rss_bytes(), judged=False, note="from flags")


def _readings(source: str, seconds: float, rss: int, *, judged: bool, note: str = "") -> list[Reading]:
    return [
        Reading(f"{source}: until ready", seconds, "s", Bar(at_most=6) if judged else Bar(), note),
        Reading(f"{source}: RSS", rss / 1e6, "MB", Bar(at_most=350) if judged else Bar()),
    ]
