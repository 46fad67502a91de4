"""What a gateway's chain costs whose filters no route wants: CPU of Envoy for a request that it answers itself.

A host redirects, so that no backend takes part. A gateway of ours has a filter for everything that a policy may ask
for, and all sleep; beside them it chooses the scope, normalises the path, strips what strangers may not say and looks
for tokens. The peer gives Envoy the router and nothing else. One real Envoy with one worker over delta, some
connections in turn; the least of some rounds counts, since a busy machine only adds.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.envoy import envoy
from benchmarks.processes import Program
from benchmarks.report import Reading, Result
from benchmarks.simulator import Probe, Simulator
from benchmarks.systems import Factory, Workload, free_port

NAME = "filters-cost"
_ROUNDS = 6
_CONNECTIONS = 16
_REQUEST = b"GET / HTTP/1.1\r\nhost: host-0.example.com\r\n\r\n"
_ANSWER = b"HTTP/1.1 302"


def run(bench: Bench) -> list[Result]:
    """Have each server's Envoy redirect as many requests as the size says."""

    def measure(factory: Factory, directory: Path) -> list[Reading]:
        workload = Workload(services=1, endpoints=1, hosts=1, gateway_port=free_port())
        with factory(workload, directory) as system, Simulator() as simulator:
            bootstrap = system.bootstrap("gateway", xds=system.xds, sotw=False, admin_port=free_port())
            with envoy(bootstrap, directory, "envoy") as proxy:
                probe = Probe(f"http://127.0.0.1:{workload.gateway_port}/", "host-0.example.com", "to.example.com")
                simulator.probe(probe, write=system.route_write(0, "to.example.com"), timeout=60)
                proxy.settle()
                count = bench.size.filter_requests
                cost = min(_cpu(proxy, workload.gateway_port, count) for _ in range(_ROUNDS))
        return [Reading("a redirect: CPU of Envoy", cost * 1e6, "us")]

    return bench.compare(NAME, measure)


def _cpu(proxy: Program, port: int, count: int) -> float:
    """Seconds of CPU for a request, over about `count` of them."""
    with ExitStack() as stack:
        connections = [stack.enter_context(_dialled(port)) for _ in range(_CONNECTIONS)]
        rounds = count // _CONNECTIONS
        before = proxy.cpu_seconds()
        for _ in range(rounds):
            for connection in connections:
                connection.sendall(_REQUEST)
            for connection in connections:
                _read(connection)
        return (proxy.cpu_seconds() - before) / (rounds * _CONNECTIONS)


def _dialled(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _read(connection: socket.socket) -> None:
    """Read one answer, which ends with its headers."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        more = connection.recv(65_536)
        if not more:
            raise RuntimeError("Envoy closed the connection")
        received += more
    if not received.startswith(_ANSWER):
        raise RuntimeError(f"Envoy answered {received[:200]!r}")
