"""Real Consul agents that keep their state and can be killed and started again: servers, clusters, datacenters."""

from __future__ import annotations

import signal
from pathlib import Path

from fairlead.demo.consul_scene import no_grpc
from fairlead.errors import CommandError
from fairlead.processes import Children
from tests.support.consul import ConsulAgent, free_ports

_KINDS = ("http", "dns", "serf-lan", "serf-wan", "server")


class Member(ConsulAgent):
    """An agent with a data directory. `start` and `kill` it as often as you like; its ports stay."""

    def __init__(
        self, children: Children, binary: Path, name: str, *arguments: str, datacenter: str = "dc1", servers: int = 1
    ) -> None:
        """`servers`: how many servers the cluster has; 0 makes a client agent."""
        self.children = children
        self.name = name
        self.folder = children.folder / f"consul-{name}"
        self.ports = dict(zip(_KINDS, free_ports(len(_KINDS)), strict=True))
        self.arguments = arguments
        self.joined: tuple[str, ...] = ()
        self.port = self.ports["http"]
        self.token = ""
        self._command = [
            *(str(binary), "agent", "-node", name, "-datacenter", datacenter, "-data-dir", str(self.folder)),
            *("-bind", "127.0.0.1", "-client", "127.0.0.1", *no_grpc(str(binary)), "-log-level", "warn"),
            *(flag for kind, port in self.ports.items() for flag in (f"-{kind}-port", str(port))),
            *(("-server", "-bootstrap-expect", str(servers)) if servers else ()),
        ]

    def join(self, *others: Member, wan: bool = False) -> Member:
        """Have it join these when it starts."""
        flag, kind = ("-retry-join-wan", "serf-wan") if wan else ("-retry-join", "serf-lan")
        self.joined += tuple(part for other in others for part in (flag, f"127.0.0.1:{other.ports[kind]}"))
        return self

    def start(self) -> Member:
        """Run it."""
        quick = 'performance { raft_multiplier = 1 } retry_interval = "1s" retry_interval_wan = "1s"'
        command = [*self._command, "-hcl", quick, *self.joined, *self.arguments]
        self.child = self.children.start(f"consul-{self.name}", command)
        return self

    def kill(self) -> None:
        """End it without mercy."""
        self.children.started.remove(self.child)
        self.child.signal_group(signal.SIGKILL)
        self.child.process.wait(60)

    def wait_leader(self, *, of: str = "") -> Member:
        """Wait until it knows a leader, of its own datacenter or of another one."""
        query = f"?dc={of}" if of else ""

        def leads() -> bool:
            try:
                return bool(self.client.request("GET", f"/v1/catalog/service/consul{query}").json())
            except CommandError:
                return False

        self.children.wait_until(leads, what=f"{self.name} to know a leader of {of or 'its own'}", timeout=120)
        return self

    def leads(self) -> bool:
        """Whether it says that it is the leader itself."""
        try:
            said = self.client.request("GET", "/v1/status/leader").json()
        except CommandError:
            return False
        return bool(said == f"127.0.0.1:{self.ports['server']}")
