"""A Consul server that keeps what it is told: to be killed and started again, with ACLs or TLS where a test asks."""

from __future__ import annotations

import http.client
import json
import signal
from pathlib import Path
from typing import Any

from fairlead.client import Client, RefusedError
from fairlead.demo.consul_scene import no_grpc
from fairlead.errors import CommandError
from fairlead.processes import Child, Children
from tests.support.consul import free_ports

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
        self.port, self.https_port, server, serf = free_ports(4)
        ports = {"http": self.port, "dns": -1, "serf_wan": -1, "server": server, "serf_lan": serf}
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
        return Client(self.url, timeout=30)

    def start(self, *, leads: bool = True) -> ConsulServer:
        """Run it, also again, and wait until it answers; `leads`: and leads itself, and its KV can be asked."""
        command = [str(self._binary), "agent", "-config-file", str(self.config), *no_grpc(str(self._binary))]
        self.child = self._children.start(self.name, command)

        def up() -> bool:
            try:
                self.client.request("GET", "/v1/kv/none?consistent" if leads else "/v1/status/leader")
            except RefusedError as refused:  # no such key, or one that not everybody may read
                return leads and refused.status in (http.client.NOT_FOUND, http.client.FORBIDDEN)
            except CommandError:
                return False
            return not leads

        self._children.wait_until(up, what=f"{self.name} to answer", timeout=120)
        return self

    def kill(self) -> None:
        """As a power cut does it."""
        assert self.child is not None
        self.child.signal_group(signal.SIGKILL)
        self.child.process.wait(60)
        self._children.started.remove(self.child)
        self.child = None
