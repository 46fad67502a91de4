"""A server is ended and started again beside an agent with Consul's own limit of connections: when does it know all?

An agent may count the queries of the server that is gone until their waits have ended, as 1.8.7 does, and so has no
room for those of the next. That one remembers nothing of the first.
"""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.consul import CONSULS_OWN_LIMIT, agent, instances
from benchmarks.ours import Server
from benchmarks.report import Reading, Result, merge
from benchmarks.simulator import Simulator

NAME = "consul-restart"
_SERVICES = 150  # as many as `--consul-polls` unless it is said otherwise
_TIMEOUT = 300.0


def run(bench: Bench) -> list[Result]:
    """Load, start, wait, start again, look."""
    if not bench.measures_ours:
        return []
    services = min(bench.size.services, _SERVICES - 1)
    folder = tempfile.TemporaryDirectory(prefix="bench-consul-")
    with folder as name, agent(Path(name), connections=CONSULS_OWN_LIMIT) as made, Simulator() as simulator:
        simulator.send_all(instances(made, services, 1))
        for own in ("first", "second"):
            directory = Path(name) / own
            directory.mkdir()
            began = time.monotonic()
            server = Server(directory, "--consul", made.url, "--insecure-xds")
            try:
                known = _until(lambda: _known(server) == services + 1) - began  # noqa: B023 - `consul` is one more
                if own == "first":
                    time.sleep(
                        bench.size.idle_seconds
                    )  # at the start waits are short: an agent counts no query for long
                queries = _until(lambda: _open(server) == services + 1) - began  # noqa: B023
            finally:
                server.program.stop()
    label = f"{services} services, {CONSULS_OWN_LIMIT} connections"
    readings = [
        Reading(f"{label}: all known after a restart", known, "s"),
        Reading(f"{label}: all queries open", queries, "s"),
    ]
    return merge(NAME, readings, [])


def _until(condition: Callable[[], bool]) -> float:
    """When a condition came to hold."""
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{NAME}: gave up after {_TIMEOUT:g} s")
        time.sleep(0.1)
    return time.monotonic()


def _known(server: Server) -> int:
    with urllib.request.urlopen(f"http://{server.api}/api/v1/discovered/services?limit=1000", timeout=30) as answer:
        return sum(1 for item in json.load(answer)["items"] if not item["stale"])


def _open(server: Server) -> int:
    with urllib.request.urlopen(f"http://{server.api}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    [line] = [line for line in lines if line.startswith('fairlead_consul_queries{state="open"}')]
    return int(float(line.rpartition(" ")[2]))
