"""Mutual TLS between two real Envoys, a gateway and the sidecar of `web`, in mode STRICT, and requests through both.

Each request on `once.test` needs a handshake of its own; those on `kept.test` share a connection as long as it lasts.
"""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Mapping
from typing import Any

from fairlead.processes import Child, Children, free_port
from tests.support.agents import Mesh
from tests.support.programs import RunningEnvoy, Serving, start_envoy
from tests.support.routing import Server
from tests.support.traffic import Traffic
from tests.support.wrong_clock import WrongClock

LIFE = 40


def document(kind: str, name: str, spec: dict[str, Any]) -> str:
    theirs = kind in ("Gateway", "HTTPRoute")
    api = "gateway.networking.k8s.io/v1" if theirs else "fairlead.dev/v1alpha1"
    return json.dumps(
        {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}
    )


def config(port: int, ingress: int) -> str:
    endpoint = {"address": "127.0.0.1", "ports": {"http": ingress}, "meshTls": True, "serviceAccount": "web"}
    port_of = {"name": "http", "port": 80, "protocol": "HTTP"}
    documents = [
        document("PeerAuthentication", "strict", {"mtls": {"mode": "STRICT"}}),
        document(
            "Gateway",
            "edge",
            {
                "gatewayClassName": "fairlead",
                "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
                "addresses": [{"value": "127.0.0.1"}],
            },
        ),
        document(
            "TrafficPolicy",
            "once",
            {"targetRefs": [{"kind": "Service", "name": "once"}], "http": {"maxRequestsPerConnection": 1}},
        ),
    ]
    for name, service in (("once", "once"), ("kept", "web")):
        documents += [
            document(
                "Service",
                service,
                {"ports": [port_of], "endpoints": [endpoint]},
            ),
            document(
                "HTTPRoute",
                name,
                {
                    "parentRefs": [{"name": "edge"}],
                    "hostnames": [f"{name}.test"],
                    "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
                },
            ),
        ]
    return "\n---\n".join(documents)


def request(port: int, host: str) -> str:
    """What is wrong with the answer, nothing where it is good."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/", headers={"host": host})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
    return "" if answer.status == 200 else f"{answer.status}: {body}"


def works(port: int, host: str) -> bool:
    return request(port, host) == ""


def traffic(port: int, host: str) -> Traffic:
    """Some fifty requests a second."""
    return Traffic(lambda: request(port, host), pause=0.02)


def pass_time(children: Children, seconds: float) -> None:
    """Let real time pass: what is under test is what happens in it."""
    until = time.monotonic() + seconds
    children.wait_until(lambda: time.monotonic() >= until, what="time to pass", timeout=seconds + 60)


class Agents(Mesh):
    """Both Envoys with real agents, whose certificates live for `life` seconds; `authority` is the server's `--ca`.

    `clocks` are those of the machines of `web`, `edge` (agent and Envoy each) and `serve`, where they may go wrong.
    """

    def __init__(
        self,
        children: Children,
        backend: Server,
        *authority: str,
        life: int = LIFE,
        clocks: Mapping[str, WrongClock] | None = None,
    ) -> None:
        self.children = children
        self._clock_env = {name: clock.env for name, clock in (clocks or {}).items()}
        self.port, self.ingress = free_port(), free_port()
        self.authority = authority
        self.took_to_serve = 0.0  # seconds, the last time
        env = self._clock_env.get("serve")
        super().__init__(children, config(self.port, self.ingress), life=life, env=env)
        self.agents: dict[str, Child] = {}
        sockets = {}
        for name in ("web", "edge"):
            self.agents[name], sockets[name] = self.agent(name, env=self._clock_env.get(name))
        for name, agent in self.agents.items():
            children.wait_until(lambda agent=agent: self.has_identity(agent), what=f"the identity of {name}")
        flags = (
            "--port",
            str(backend.server_port),
            "--ingress-port",
            str(self.ingress),
            "--egress-port",
            str(free_port()),
        )
        self.envoys: dict[str, RunningEnvoy] = {}
        for name, kind, more in (("web", "sidecar", flags), ("edge", "gateway", ())):
            agent = ("--agent", str(sockets[name]))
            self.envoys[name] = start_envoy(
                children, kind, name, *more, *agent, xds=self.xds, env=self._clock_env.get(name)
            )
        children.wait_until(lambda: works(self.port, "once.test"), what="mutual TLS", timeout=60)

    def serve(self, name: str = "serve") -> Serving:
        if self.authority:
            at = self._arguments.index("--ca")
            self._arguments[at : at + 2] = ["--ca", *self.authority]
            self.authority = ()
        began = time.monotonic()
        serving = super().serve(name)
        self.took_to_serve = time.monotonic() - began
        return serving

    def kill(self) -> None:
        self.serving.child.signal_group(signal.SIGKILL)
        self.serving.child.process.wait(20)
        self.children.started.remove(self.serving.child)

    def restart_agent(self, name: str) -> None:
        """A new process in the agent's place, with nothing of the old one's but its socket."""
        old = self.agents[name]
        old.stop()
        self.children.started.remove(old)
        self.start_agent(name)

    def start_agent(self, name: str) -> None:
        """An agent where there is none."""
        self.agents[name], _ = self.agent(name, env=self._clock_env.get(name))

    def renewals(self) -> int:
        """How many certificates both agents have had together."""
        return sum(agent.log.read_text().count("certificate of spiffe") for agent in self.agents.values())

    def wait_for_renewals(self, more: int) -> None:
        had = self.renewals()
        self.children.wait_until(lambda: self.renewals() >= had + more, what=f"{more} renewals", timeout=120)
