from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bench import connect
from benchmarks.processes import HERE
from benchmarks.simulator import Simulator, SimulatorError, Write
from benchmarks.systems import Workload
from benchmarks.theirs import Peer

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="the simulator is a Go program, and there is no `go`"),
    pytest.mark.timeout(900),  # the first build of the Go programs takes minutes on a busy machine
]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    with Peer(Workload(services=3, endpoints=2, hosts=4), tmp_path) as running:
        yield running


def test_the_go_parts_pass_their_own_tests() -> None:
    go = shutil.which("go")
    assert go is not None
    result = subprocess.run([go, "test", "./..."], cwd=HERE, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_proxies_get_all_that_they_ask_for(peer: Peer, simulator: Simulator) -> None:
    connect(peer, simulator, 2)
    types = simulator.counters()["types"]
    assert {kind: row["resources"] for kind, row in types.items()} == {
        "cds": 6,
        "eds": 6,
        "lds": 2,
        "rds": 2,
        "srds": 0,
    }


def test_a_change_reaches_every_proxy(peer: Peer, simulator: Simulator) -> None:
    connect(peer, simulator, 3)
    simulator.counters(reset=True)
    answer = simulator.change(peer.endpoint_write().fill(service=1, marker=20_001), marker=20_001)
    assert 0 < answer["first_ms"] <= answer["last_ms"]
    assert simulator.counters()["types"]["eds"]["resources"] == 3


def test_returning_proxies_say_what_they_hold(peer: Peer, simulator: Simulator) -> None:
    connect(peer, simulator, 2)
    simulator.disconnect()
    peer.restart()
    simulator.counters(reset=True)
    simulator.reconnect(peer.xds)
    peer.program.settle()
    # A change arrives, so the streams are there; nothing else was sent again.
    simulator.change(peer.endpoint_write().fill(service=0, marker=20_001), marker=20_001)
    assert simulator.counters()["total"]["resources"] == 2


def test_a_broken_stream_is_counted(peer: Peer, simulator: Simulator) -> None:
    connect(peer, simulator, 1)
    peer.program.stop()
    deadline = time.monotonic() + 30
    while not simulator.counters()["stream_errors"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_change_that_nobody_could_get_is_an_error(peer: Peer, simulator: Simulator) -> None:
    with pytest.raises(SimulatorError, match="no proxy is connected"):
        simulator.change(peer.endpoint_write().fill(service=0, marker=20_001), marker=20_001)


def test_a_refused_change_is_an_error_with_the_servers_words(peer: Peer, simulator: Simulator) -> None:
    connect(peer, simulator, 1)
    with pytest.raises(SimulatorError, match="service"):
        simulator.change(peer.endpoint_write().fill(service=77, marker=20_001), marker=20_001)


def test_proxies_without_a_server_are_reported_as_not_synced(simulator: Simulator) -> None:
    simulator.connect("127.0.0.1:1", count=2, node_id="n~{i}", metadata={})
    with pytest.raises(SimulatorError, match="only 0 of 2 proxies"):
        simulator.wait_synced(timeout=0.3)


def test_a_write_fills_in_numbers_and_addresses() -> None:
    write = Write("PUT", "/svc-{service}", "10.{high}.{low}.1:{marker}", "svc-{service}:80")
    assert write.fill(service=258, marker=7) == Write("PUT", "/svc-258", "10.1.2.1:7", "svc-258:80")
