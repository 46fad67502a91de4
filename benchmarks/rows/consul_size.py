"""Fairlead beside a large Consul catalog: how much larger is it than without, and what does it do when nothing happens?

1,000 services with 10 instances each at full size, every query open. Memory and CPU are taken once it has come to rest,
beside a server that has nothing to do.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.consul import agent, instances
from benchmarks.ours import Server
from benchmarks.report import Bar, Reading, Result, merge
from benchmarks.simulator import Simulator

NAME = "consul-size"
_INSTANCES = 10
_WINDOW = 3.5  # times the usual one: every query ends its wait of a minute within it


def run(bench: Bench) -> list[Result]:
    """Load, start, wait, look."""
    if not bench.measures_ours:
        return []
    size = bench.size
    folder = tempfile.TemporaryDirectory(prefix="bench-consul-")
    with folder as name, agent(Path(name)) as made, Simulator() as simulator:
        directory = Path(name)
        simulator.send_all(instances(made, size.services, _INSTANCES))
        (directory / "empty").mkdir()
        empty, _, _ = _rest(Server(directory / "empty", "--insecure-xds"), 1.0)
        flags = ["--consul", made.url, "--consul-polls", str(size.services + 100)]
        rss, idle, ready = _rest(Server(directory, *flags, "--insecure-xds"), size.idle_seconds * _WINDOW)
    label = f"{size.services} services x {_INSTANCES}"
    readings = [
        Reading(f"{label}: RSS over the empty server", (rss - empty) / 1e6, "MB", Bar(at_most=120)),
        Reading(
            f"{label}: idle CPU", idle * 100, "% of a core", Bar(at_most=5), f"over {size.idle_seconds * _WINDOW:g} s"
        ),
        Reading("until ready", ready, "s"),
    ]
    return merge(NAME, readings, [])


def _rest(server: Server, seconds: float) -> tuple[float, float, float]:
    """Memory and idle CPU of a server that has come to rest, which ends then; and how long it took to be ready."""
    try:
        time.sleep(15)  # at the start waits are short, to find out how many queries the agent takes
        server.program.settle(timeout=180)
        before = server.program.cpu_seconds()
        time.sleep(seconds)
        return server.program.rss_bytes(), (server.program.cpu_seconds() - before) / seconds, server.seconds_to_ready
    finally:
        server.program.stop()
