"""What the rows need of a server under measurement, the same for both. Must not measure."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from benchmarks.processes import Program
from benchmarks.simulator import Write

FIRST_MARKER = 20_000
"""Markers of endpoint changes are ports from here up; every other endpoint listens on 8080."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a server is loaded with: services `svc-I`, and routes of `host-I.example.com` on one gateway."""

    services: int
    endpoints: int
    hosts: int = 0
    gateway_port: int = 0


class System(Protocol):
    """A running server with a workload."""

    name: str
    program: Program
    xds: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def restart(self) -> None:
        """End the server with SIGTERM and start it again with the same content; the addresses may change."""

    def endpoint_write(self) -> Write:
        """The change of service {service}: its first endpoint listens on port {marker} from now on."""

    def route_write(self, host: int, redirect: str) -> Write:
        """The change of one host: it answers 302 to another host name from now on."""

    def sidecar(self) -> tuple[str, dict[str, Any]]:
        """Node id and metadata of proxy {i}, a sidecar that sees all services."""

    def gateway(self) -> tuple[str, dict[str, Any]]:
        """Node id and metadata of proxy {i}, an instance of the one gateway."""

    def bootstrap(self, kind: str, *, xds: str, sotw: bool, admin_port: int) -> dict[str, Any]:
        """A bootstrap for a real Envoy of kind `gateway` or `sidecar` that finds its server at `xds`."""


class Factory(Protocol):
    """Starts a server with a workload, with a directory for its files."""

    def __call__(self, workload: Workload, directory: Path) -> System:
        """Start it, and return when it serves."""


def address_of(service: int, endpoint: int) -> str:
    """The address of one endpoint; distinct for up to 65,536 services of up to 254 endpoints."""
    return f"10.{service >> 8 & 255}.{service & 255}.{endpoint + 1}"


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
