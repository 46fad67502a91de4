"""A real Consul for the rows about one: an agent of its own, what is registered there, and Fairlead beside it.

The agent takes as many connections as a row opens; its own limit is for others. Must not measure.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cluster import GATEWAY, GATEWAY_API, Manifest, NoClusterError
from benchmarks.processes import Program
from benchmarks.simulator import Write
from benchmarks.systems import address_of, free_port
from fairlead.demo.consul_scene import no_grpc
from tests.support.consul import consul_binary

_PLENTY = 4000
CONSULS_OWN_LIMIT = 200
"""How many connections of one address an agent takes unless it is told otherwise."""


class Agent:
    """A running dev agent."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.url = f"http://127.0.0.1:{port}"

    def register(self, service: str, own: str, address: str, port: int) -> Write:
        """The request that registers an instance."""
        body = {"Name": service, "ID": own, "Address": address, "Port": port}
        resource = f"default/{service}:80"
        return Write("PUT", f"{self.url}/v1/agent/service/register", json.dumps(body), resource=resource)

    def catalogued(self, service: str, number: int, address: str, port: int) -> Write:
        """The request that writes an instance on a node of its own into the catalog, past the agent.

        An agent looks through all it has at each of its own: ten thousand would take it an hour.
        """
        instance = {"Service": service, "ID": f"{service}-{number}", "Address": address, "Port": port}
        body = {"Node": f"node-{number}", "Address": f"10.255.0.{number + 1}", "Service": instance}
        return Write("PUT", f"{self.url}/v1/catalog/register", json.dumps(body), resource=f"default/{service}:80")

    def deregister(self, service: str, own: str) -> Write:
        """The request that deregisters one."""
        url = f"{self.url}/v1/agent/service/deregister/{own}"
        return Write("PUT", url, "", resource=f"default/{service}:80")

    def leads(self) -> bool:
        """Whether it has made itself the leader."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/catalog/service/consul", timeout=5) as answer:
                return bool(json.load(answer))
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def agent(directory: Path, *, connections: int = _PLENTY) -> Iterator[Agent]:
    """An agent that takes so many connections, ended afterwards.

    Raises:
        NoClusterError: there is no Consul here.
    """
    binary = consul_binary()
    if binary is None:
        raise NoClusterError("there is no consul on PATH, and Debian's could not be fetched with apt")
    ports = {kind: free_port() for kind in ("http", "dns", "serf-lan", "server")}
    flags = [flag for kind, port in ports.items() for flag in (f"-{kind}-port", str(port))]
    limits = f"limits {{ http_max_conns_per_client = {connections} }}"
    quiet = ["-serf-wan-port", "-1", *no_grpc(str(binary)), "-log-level", "warn", "-hcl", limits]
    with Program([binary, "agent", "-dev", "-bind", "127.0.0.1", *flags, *quiet], directory / "consul.log") as program:
        made = Agent(program, ports["http"])
        deadline = time.monotonic() + 60
        while not made.leads():
            if time.monotonic() > deadline:
                raise RuntimeError(f"Consul has no leader:\n{program.output()[-3000:]}")
            time.sleep(0.1)
        yield made


def instances(made: Agent, services: int, endpoints: int) -> list[Write]:
    """Registrations of services `svc-I` with so many instances each."""
    return [made.catalogued(f"svc-{i}", j, address_of(i, j), 8080) for i in range(services) for j in range(endpoints)]


def objects(port: int, routes: int) -> list[Manifest]:
    """A Gateway, and a route to each of the first services."""
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    gateway = {"gatewayClassName": "fairlead", "listeners": listeners, "addresses": [{"value": "127.0.0.1"}]}
    named: list[tuple[str, str, Manifest]] = [("Gateway", GATEWAY, gateway)]
    for i in range(routes):
        rules = [{"backendRefs": [{"name": f"svc-{i}", "port": 80}]}]
        spec = {"parentRefs": [{"name": GATEWAY}], "hostnames": [f"host-{i}.example.com"], "rules": rules}
        named.append(("HTTPRoute", f"host-{i}", spec))
    return [
        {"apiVersion": GATEWAY_API, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        for kind, name, spec in named
    ]
