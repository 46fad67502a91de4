"""What every row is given: a size, the servers to measure and a place for files. Owns no measurement itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.cluster import Site, find, site
from benchmarks.ours import Fairlead
from benchmarks.report import Reading, Result, merge
from benchmarks.simulator import Simulator
from benchmarks.size import Size
from benchmarks.systems import Factory, System, Workload
from benchmarks.theirs import Peer

SYSTEMS: Mapping[str, Factory] = {"peer": Peer, "ours": Fairlead}
"""In the order in which they are measured."""


class Row(Protocol):
    """A module in `rows/`: one row of the table; its docstring says what is measured, and from when to when."""

    NAME: str

    def run(self, bench: Bench) -> list[Result]:
        """Measure, and return the lines of the table."""


@dataclass(frozen=True)
class Bench:
    """One run."""

    size: Size
    systems: Mapping[str, Factory]

    @property
    def measures_ours(self) -> bool:
        """Whether Fairlead takes part."""
        return "ours" in self.systems

    def compare(self, row: str, measure: Callable[[Factory, Path], list[Reading]]) -> list[Result]:
        """Take the same readings of each server, in a directory of its own, one after the other."""
        readings: dict[str, list[Reading]] = {}
        for name, factory in self.systems.items():
            with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as directory:
                readings[name] = measure(factory, Path(directory))
        return merge(row, readings.get("ours", []), readings.get("peer", []))

    def compare_fleets(self, row: str, measure: Callable[[System, Simulator], list[Reading]]) -> list[Result]:
        """As `compare`, for rows about simulated sidecars of the size's services."""

        def one(factory: Factory, directory: Path) -> list[Reading]:
            with self.serving(factory, directory) as (system, simulator):
                return measure(system, simulator)

        return self.compare(row, one)

    def in_cluster(self, row: str, measure: Callable[[Site], list[Reading]]) -> list[Result]:
        """Take readings of Fairlead in a real Kubernetes, where no peer can be run.

        Raises:
            NoClusterError: there is no cluster.
        """
        if not self.measures_ours:
            return []
        kubeconfig = find()
        folder = tempfile.TemporaryDirectory(prefix="bench-kubernetes-")
        with folder as directory, site(kubeconfig, Path(directory)) as place:
            return merge(row, measure(place), [])

    @contextmanager
    def serving(self, factory: Factory, directory: Path) -> Iterator[tuple[System, Simulator]]:
        """A server loaded with the size's services, and a simulator."""
        # A sidecar of Fairlead's routes to each service by its name; the peer gives as many hosts to everyone.
        hosts = self.size.services
        workload = Workload(services=self.size.services, endpoints=self.size.endpoints, hosts=hosts)
        with factory(workload, directory) as system, Simulator() as simulator:
            yield system, simulator


def connect(system: System, simulator: Simulator, count: int) -> float:
    """Connect simulated sidecars, wait until they have everything and the server is idle; seconds to the last."""
    node_id, metadata = system.sidecar()
    simulator.connect(system.xds, count=count, node_id=node_id, metadata=metadata)
    seconds = simulator.wait_synced(timeout=300)
    system.program.settle()
    return seconds
