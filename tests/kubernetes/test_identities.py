"""One authority for all (`--ca` with `--kubernetes`): tokens get proxies and agents in, also after a new root.

The API server and its tokens are real. The server, Envoy and the agents run on this machine, with folders as the
kubelet mounts them; `test_agent_pods.py` has them in pods.
"""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest
from cryptography import x509

from fairlead.processes import Child, Children, free_port
from sds.certificates import fingerprint
from tests.support.agents import Mesh
from tests.support.kubernetes import Cluster, eventually
from tests.support.pod_tokens import Mounted, account, bound_token, bundle, token_of
from tests.support.programs import RunningEnvoy, ask, start_envoy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LIFE = 10


def gateway(namespace: str, port: int) -> str:
    item = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": namespace},
        "spec": {
            "gatewayClassName": "fairlead",
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
            "addresses": [{"value": "127.0.0.1"}],
        },
    }
    return json.dumps(item)


class World:
    """A server with an authority that watches a namespace; Envoy and agents that believe the ConfigMap alone."""

    def __init__(self, children: Children, cluster: Cluster, namespace: str, *, life: int = LIFE) -> None:
        self.children, self.cluster, self.namespace = children, cluster, namespace
        account(cluster, namespace, "edge")
        self.port = free_port()
        arguments = ["--kubernetes", str(cluster.kubeconfig), "--kubernetes-namespaces", namespace]
        arguments += ["--kubernetes-lease", f"{namespace}/fairlead", "--gateway-xds", "none", "--stream-max-age", "2"]
        arguments += ["--ca-settle-time", "1", "--ca-mount-time", "2"]
        self.mesh = Mesh(children, gateway(namespace, self.port), life=life, arguments=arguments)
        eventually(lambda: self.roots or None, "the ConfigMap")
        self.mounted = Mounted(children.folder / "mounted")
        self.token = bound_token(cluster, namespace)
        self.mount()

    @property
    def roots(self) -> str:
        return bundle(self.cluster, self.namespace)

    def mount(self) -> None:
        """What the kubelet does in time."""
        self.mounted.put(token=self.token, **{"ca.crt": self.roots})

    def envoy(self) -> RunningEnvoy:
        flags = ("-n", self.namespace, "--token-file", self.mounted["token"], "--ca", self.mounted["ca.crt"])
        return start_envoy(self.children, "gateway", "edge", *flags, xds=self.mesh.join)

    def agent(self, name: str) -> Child:
        child, _ = self.mesh.agent("edge", name=name, token_file=self.mounted["token"], ca=self.mounted["ca.crt"])
        return child

    def certificates(self, agent: Child) -> int:
        return agent.log.read_text().count("certificate of spiffe")

    def states(self) -> dict[str, str]:
        return {one["state"]: one["id"] for one in self.authority["authorities"]}

    @property
    def authority(self) -> Any:
        return self.mesh.serving.client.get("/api/v1/authority")

    def step(self, what: str, **query: str) -> Any:
        return self.mesh.serving.client.request("POST", f"/api/v1/authority/{what}", body={}, query=query).json()

    def ended(self) -> int:
        """How many streams were closed for their age: the proxy opens another, over a new connection or not."""
        page = self.mesh.serving.client.request("GET", "/metrics").body.decode()
        found = re.findall(r'^fairlead_xds_streams_ended_total\{[^}]*"aged"\} (\S+)$', page, re.MULTILINE)
        return int(sum(map(float, found)))

    def rotate(self) -> None:
        """Put another root in the place of the present one, as an operator does who cannot wait."""
        old = self.states()["active"]
        new = self.step("prepare")["id"]
        eventually(lambda: self.roots.count("BEGIN") == 2, "the ConfigMap to tell of both")
        self.mount()
        self.step(f"{new}/activate")
        eventually(lambda: self.states().get("active") == new, "the new root to sign")
        self.step(f"{old}/taint")
        self.step(f"{old}/revoke", override="true")
        eventually(lambda: self.roots.count("BEGIN") == 1, "the ConfigMap to tell of the new one alone")


def test_an_agent_with_a_pods_token_believes_the_config_map_alone_and_gets_its_accounts_identity(
    children: Children, cluster: Cluster, namespace: str
) -> None:
    world = World(children, cluster, namespace, life=3_600)
    assert _fingerprints(world.roots) == _fingerprints(world.mesh.roots().read_text())
    agent = world.agent("agent")
    eventually(lambda: world.mesh.has_identity(agent), "the agent's certificate")
    assert f"spiffe://cluster.local/ns/{namespace}/sa/edge" in agent.log.read_text()
    other = token_of(cluster, namespace, "edge", audience="another")
    stranger, _ = world.mesh.agent("edge", token=other, name="stranger")
    eventually(lambda: "refused: the control plane's log says why" in stranger.log.read_text(), "its refusal")
    assert not world.mesh.has_identity(stranger)


def test_envoys_and_agents_with_tokens_live_through_a_new_root_and_come_in_again_by_token_after_their_end(
    children: Children, cluster: Cluster, namespace: str
) -> None:
    world = World(children, cluster, namespace)
    first_roots = world.roots
    world.envoy()
    eventually(lambda: ask(world.port, "any.example.com").status == 404, "the Gateway's listener")
    agent, asleep = world.agent("agent"), world.agent("asleep")
    eventually(lambda: world.certificates(agent) and world.certificates(asleep), "the agents' certificates")
    asleep.signal_group(signal.SIGSTOP)
    world.rotate()
    assert not _fingerprints(world.roots) & _fingerprints(first_roots)
    world.mount()

    # Over new connections: Envoy leaves the old one where the server has ended.
    world.mesh.serving.child.stop()
    children.started.remove(world.mesh.serving.child)
    world.mesh.serve("again")
    had = world.certificates(agent)
    eventually(lambda: len(world.mesh.serving.client.get("/api/v1/proxies")["items"]) == 1, "Envoy to return")
    aged = world.ended()
    eventually(lambda: world.ended() >= aged + 2, "Envoy to come again, and again", seconds=60)
    eventually(lambda: world.certificates(agent) >= had + 2, "the agent to renew under the new root", seconds=60)

    # Its certificate has ended, and no root that it was told of is trusted any more: what is mounted gets it in again.
    had = world.certificates(asleep)
    asleep.signal_group(signal.SIGCONT)
    eventually(lambda: world.certificates(asleep) > had, "the other agent to come back by its token", seconds=60)


def _fingerprints(pem: str) -> set[str]:
    return {fingerprint(one) for one in x509.load_pem_x509_certificates(pem.encode())}
