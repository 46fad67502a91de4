"""A Consul server that keeps what it is told: to be killed and started again, with ACLs or TLS where a test asks."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from fairlead.client import Client
from fairlead.errors import CommandError
from fairlead.processes import Child, Children, free_port

MANAGEMENT = "11111111-2222-3333-4444-555555555555"


class ConsulServer:
    """One server that is its own cluster, on fixed ports of loopback. `start` it first."""

    def __init__(
        self, children: Children, binary: Path, name: str = "consul", config: dict[str, Any] | None = None
    ) -> None:
        self._children = children
        self._binary = binary
        self.name = name
        self.folder = children.folder / name
        self.folder.mkdir()
        self.port = free_port()
        ports = {"http": self.port, "dns": -1, "grpc": -1, "serf_wan": -1, "server": free_port(), "serf_lan": 0}
        while ports["serf_lan"] in {0, ports["server"], self.port}:
            ports["serf_lan"] = free_port()
        whole = {
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "data_dir": str(self.folder / "data"),
            "ports": ports,
            "performance": {"raft_multiplier": 1},
            **(config or {}),
        }
        self.config = self.folder / "consul.json"
        self.config.write_text(json.dumps(whole))
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        """Its API; where there are ACLs, as one who may do all."""
        return Client(self.url, timeout=10)

    def start(self, *, leads: bool = True) -> ConsulServer:
        """Run it, also again, and wait until it answers; `leads`: and leads itself."""
        self.child = self._children.start(self.name, [str(self._binary), "agent", "-config-file", str(self.config)])

        def up() -> bool:
            try:
                leader = self.client.request("GET", "/v1/status/leader").body.strip(b'"\n ')
            except CommandError:
                return False
            return bool(leader) or not leads

        self._children.wait_until(up, what=f"{self.name} to have a leader", timeout=60)
        return self

    def kill(self) -> None:
        """As a power cut does it."""
        assert self.child is not None
        self.child.signal_group(signal.SIGKILL)
        self.child.process.wait(30)
        self._children.started.remove(self.child)
        self.child = None
