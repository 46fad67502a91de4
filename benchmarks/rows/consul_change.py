"""An instance registers in Consul, then deregisters, and a real Envoy acknowledges each.

The clock starts with the answer of Consul's agent and stops when Envoy's ACK of the endpoints with it, or without it,
passes the tap before the server. All queries fit the cap. The Envoy is a gateway with a route to each service.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.consul import Agent, agent, instances, objects
from benchmarks.envoy import envoy
from benchmarks.ours import Server
from benchmarks.ours import run as command
from benchmarks.report import Bar, Reading, Result, merge, percentile
from benchmarks.simulator import Simulator
from benchmarks.systems import FIRST_MARKER, free_port

NAME = "consul-change"
_PAUSE = 0.05
_TIMEOUT = 60.0


def run(bench: Bench) -> list[Result]:
    """Register one instance after the other, and deregister it."""
    if not bench.measures_ours:
        return []
    size = bench.size
    folder = tempfile.TemporaryDirectory(prefix="bench-consul-")
    with folder as name, agent(Path(name)) as made, Simulator() as simulator:
        directory, port = Path(name), free_port()
        simulator.send_all(instances(made, size.cluster_services, 1))
        config = directory / "config.yaml"
        config.write_text("\n---\n".join(map(json.dumps, objects(port, size.cluster_services))))
        flags = ["--consul", made.url, "--consul-polls", "1000", "--files", directory / "config.yaml"]
        server = Server(directory, *flags, "--insecure-xds")
        try:
            readings = _measure(bench, made, simulator, server, directory)
        finally:
            server.program.stop()
    return merge(NAME, readings, [])


def _measure(bench: Bench, made: Agent, simulator: Simulator, server: Server, directory: Path) -> list[Reading]:
    size = bench.size
    tap = simulator.tap(server.xds)
    flags = ["--namespace", "default", "--name", "edge", "--xds", tap, "--admin-port", str(free_port()), "-o", "json"]
    came: list[float] = []
    went: list[float] = []
    with envoy(json.loads(command("bootstrap", "gateway", *flags)), directory, "envoy") as proxy:
        deadline = time.monotonic() + _TIMEOUT
        while simulator.tap_counters()["types"]["eds"]["resources"] < size.cluster_services:
            if time.monotonic() > deadline:
                raise RuntimeError("Envoy did not get its endpoints")
            time.sleep(0.05)
        proxy.settle()
        for i in range(size.cluster_endpoint_changes):
            at = i % size.cluster_services
            service, marker = f"svc-{at}", FIRST_MARKER + 2 * i
            own = f"{service}-new"
            answer = simulator.change(made.register(service, own, "1.0.0.1", marker), marker=marker)
            came.append(answer["last_ms"] - answer["accepted_ms"])
            time.sleep(_PAUSE)
            answer = simulator.change(made.deregister(service, own), marker=marker + 1, goes=marker)
            went.append(answer["last_ms"] - answer["accepted_ms"])
            time.sleep(_PAUSE)
        rejections = simulator.tap_counters()["rejections"]
    return [
        Reading("registered to ACK, p50", percentile(came, 50), "ms", note="after Consul's answer"),
        Reading("registered to ACK, p99", percentile(came, 99), "ms", Bar(at_most=200)),
        Reading("deregistered to ACK, p50", percentile(went, 50), "ms", note="after Consul's answer"),
        Reading("deregistered to ACK, p99", percentile(went, 99), "ms", Bar(at_most=200)),
        Reading("rejected responses", rejections, "", Bar(at_most=0)),
    ]
