"""The Go program that plays the proxies and holds the stopwatch, as Python methods. Must not know what it measures.

Times in answers (`…_ms`) are milliseconds from just before a change is sent to the server, moments (`…_at`) those since
the simulator started.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from benchmarks.processes import build


class SimulatorError(RuntimeError):
    """What the simulator answered instead of a result."""


@dataclass(frozen=True)
class Write:
    """An HTTP request that makes one change, and the name of the EDS resource in which it must show.

    `{service}` and `{marker}` in the texts stand for numbers, `{high}` and `{low}` for the two bytes of the service's.
    """

    method: str
    url: str
    body: str = ""
    resource: str = ""
    content_type: str = ""

    def fill(self, *, service: int, marker: int) -> Write:
        """The request for one change."""

        def filled(text: str) -> str:
            numbers = {"service": service, "marker": marker, "high": service >> 8 & 255, "low": service & 255}
            for name, number in numbers.items():
                text = text.replace(f"{{{name}}}", str(number))
            return text

        return Write(self.method, filled(self.url), filled(self.body), filled(self.resource), self.content_type)


@dataclass(frozen=True)
class Probe:
    """A request to a real Envoy, repeated until the Location of its answer holds the expected text."""

    url: str
    host: str
    expect: str


@dataclass(frozen=True)
class Turn:
    """A host whose answers turn from one code to another, as the clients of a real Envoy at `url` see it."""

    url: str
    host: str
    before: int = 404
    after: int = 200


@dataclass(frozen=True)
class Credentials:
    """A client's to an API server: files in PEM and the value of `Authorization`; each may be empty."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    token: str = ""


class Simulator:
    """One running simulator; a context manager that ends it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([build("proxies")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()  # it ends with its input
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _do(self, op: str, *, timeout: float = 60.0, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"op": op, "timeout_seconds": timeout, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SimulatorError(f"the simulator ended during {op!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise SimulatorError(f"{op}: {answer['error']}")
        return answer["result"] or {}

    def connect(self, address: str, *, count: int, node_id: str, metadata: dict[str, Any]) -> None:
        """Open the streams of `count` new proxies at once; `{i}` in id and metadata is a proxy's number."""
        self._do("connect", address=address, count=count, node_id=node_id, metadata=metadata)

    def wait_synced(self, *, timeout: float = 120.0) -> float:
        """Seconds from opening the streams until every proxy had all that it asked for."""
        return float(self._do("wait_synced", timeout=timeout)["seconds"])

    def disconnect(self) -> None:
        """Close all streams; the proxies keep what they hold."""
        self._do("disconnect")

    def reconnect(self, address: str) -> None:
        """Open the streams of the same proxies again, with the versions that they hold."""
        self._do("reconnect", address=address)

    def counters(self, *, reset: bool = False) -> dict[str, Any]:
        """What the proxies received: per type and in total responses, resources, removed and bytes."""
        return self._do("counters", reset=reset)

    def send(self, write: Write) -> None:
        """Make a change and wait for the server's answer only."""
        self._do("write", write=asdict(write))

    def change(self, write: Write, *, marker: int, goes: int = 0, timeout: float = 60.0) -> dict[str, float]:
        """Make a change; `first_ms` and `last_ms` tell when the first and the last proxy had it.

        Where an endpoint goes, `goes` is its port; the marker is then any number above those before.
        """
        return self._do("change", write=asdict(write), marker=marker, goes=goes, timeout=timeout)

    def drive(
        self, write: Write, *, services: int, first_marker: int, per_second: float, seconds: float, drain: float
    ) -> dict[str, Any]:
        """Make changes at a steady rate; `oldest_age_ms` is the worst age of a change that some proxy lacked."""
        return self._do(
            "drive",
            write=asdict(write),
            services=services,
            first_marker=first_marker,
            per_second=per_second,
            seconds=seconds,
            timeout=drain,
        )

    def tap(self, upstream: str) -> str:
        """Stand before a server and return the address at which a real Envoy finds it."""
        return str(self._do("tap", address=upstream)["address"])

    def tap_counters(self, *, reset: bool = False) -> dict[str, Any]:
        """What went through the tap, as `counters`."""
        return self._do("tap_counters", reset=reset)

    def probe(self, probe: Probe, *, write: Write | None = None, timeout: float = 60.0) -> dict[str, float]:
        """Make a change (if any) and ask Envoy until it answers by it: `answered_ms`."""
        return self._do("probe", probe=asdict(probe), write=asdict(write) if write else {}, timeout=timeout)

    def floor_from_tap(self) -> str:
        """Keep the largest RouteConfiguration that went through the tap; its name, empty where there was none."""
        return str(self._do("floor_from_tap")["name"])

    def floor_write(self, path: str) -> None:
        """Write the kept RouteConfiguration as a file for Envoy."""
        self._do("floor_write", path=path)

    def floor_change(self, path: str, *, before: str, after: str, probe: Probe) -> dict[str, float]:
        """Replace a text in the file by one of equal length and ask Envoy until it answers by it."""
        return self._do("floor_change", path=path, before=before, after=after, probe=asdict(probe))

    # -- for a Kubernetes ---------------------------------------------------------------------------------------

    def use(self, credentials: Credentials) -> None:
        """Make all changes and watches with these credentials."""
        self._do("credentials", credentials=asdict(credentials))

    def send_all(self, writes: Sequence[Write], *, parallel: int = 8, timeout: float = 600.0) -> dict[str, float]:
        """Make many changes: `seconds` until all were answered, and `last_at`, when the last was."""
        return self._do("writes", writes=[asdict(write) for write in writes], parallel=parallel, timeout=timeout)

    def backend(self, host: str) -> str:
        """Answer requests at a free port of an address, and return both."""
        return str(self._do("backend", address=f"{host}:0")["address"])

    def turn(self, turn: Turn, write: Write, *, timeout: float = 60.0) -> dict[str, Any]:
        """Make a change and ask Envoy all the while: `answered_at`, `turned_at`, and how often `others` came."""
        return self._do("turn", turn=asdict(turn), write=asdict(write), timeout=timeout)

    def start_traffic(self, turn: Turn, *, connections: int) -> None:
        """Ask for a host without a pause until `end_traffic`."""
        self._do("traffic", turn=asdict(turn), count=connections)

    def end_traffic(self) -> dict[str, int]:
        """How many answers of each code there were."""
        return dict(self._do("traffic_end")["codes"])

    def watch(self, url: str) -> None:
        """Watch an API server, instead of what was watched before."""
        self._do("watch", address=url)

    def watched(self, *, known: int = 0, timeout: float = 0.0) -> list[dict[str, Any]]:
        """The lines of the watch (`at`, `event`) but the first `known`; with `timeout`, waits for one more."""
        return list(self._do("watched", known=known, timeout=timeout)["lines"])
