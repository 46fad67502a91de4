"""An agent keeps the identity of the workload beside an Envoy, and that Envoy reaches its control plane by it alone."""

from __future__ import annotations

import json
import re
import signal
import stat
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.agents import Mesh
from tests.support.programs import ask, start_backend, start_envoy

pytestmark = [pytest.mark.envoy, pytest.mark.slow]


def config(port: int, backend: int) -> str:
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "gatewayClassName": "fairlead",
                "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
                "addresses": [{"value": "127.0.0.1"}],
            },
        },
        {
            "apiVersion": "fairlead.dev/v1alpha1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {
                "ports": [{"name": "http", "port": 80}],
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": backend}}],
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
        },
    ]
    return "\n---\n".join(map(json.dumps, documents))


@pytest.mark.faults
def test_an_envoy_with_an_agent_lives_on_renewed_certificates_through_an_outage(children: Children) -> None:
    port = free_port()
    mesh = Mesh(children, config(port, start_backend(children, "web")), life=30)
    agent, socket = mesh.agent("edge")
    children.wait_until(lambda: mesh.has_identity(agent), what="the agent's certificate")
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    envoy = start_envoy(children, "gateway", "edge", "--agent", str(socket), xds=mesh.xds)
    children.wait_until(lambda: ask(port, "web").status == 200, what="the route")
    [proxy] = mesh.serving.client.get("/api/v1/proxies")["items"]
    assert proxy["name"] == "edge"

    def serials() -> set[str]:
        return set(re.findall(r'"serial_number": "([0-9a-f]+)"', envoy.get("/certs")))

    first = serials()
    children.wait_until(
        lambda: len(agent.log.read_text().split("certificate of spiffe")) > 2, what="a renewal", timeout=60
    )
    children.wait_until(lambda: not (serials() & first - _roots(envoy)), what="Envoy to use another certificate")

    mesh.serving.child.signal_group(signal.SIGKILL)
    mesh.serving.child.process.wait(20)
    children.started.remove(mesh.serving.child)
    assert ask(port, "web").status == 200
    mesh.serve("again")
    children.wait_until(lambda: len(mesh.serving.client.get("/api/v1/proxies")["items"]) == 1, what="Envoy to return")
    mesh.file.write_text(mesh.file.read_text().replace('"rules": [{', '"rules": [{"name": "new", '))
    children.wait_until(lambda: ask(port, "web").status == 200, what="the route")


def _roots(envoy: Any) -> set[str]:
    """The serials of the authorities, which stay."""
    found: set[str] = set()
    for certificate in json.loads(envoy.get("/certs"))["certificates"]:
        found |= {one["serial_number"] for one in certificate.get("ca_cert", ())}
    return found


def test_a_join_token_is_good_once_and_an_identity_for_its_own_proxy_alone(children: Children) -> None:
    port = free_port()
    mesh = Mesh(children, config(port, start_backend(children, "web")))
    token = mesh.join_token("other")
    agent, socket = mesh.agent("other", token=token)
    children.wait_until(lambda: mesh.has_identity(agent), what="the agent's certificate")
    second, _ = mesh.agent("other", token=token, name="thief")
    children.wait_until(lambda: "no new certificate" in second.log.read_text(), what="the second use to be refused")
    assert "spiffe://" not in second.log.read_text()
    assert "refused: the control plane's log says why" in second.log.read_text()
    assert "the join token is unknown, or was used" in mesh.serving.child.log.read_text()
    start_envoy(children, "gateway", "edge", "--agent", str(socket), xds=mesh.xds, ready=False)
    words = "its service account other is none that proxies of gateway default/edge run as"
    children.wait_until(lambda: words in mesh.serving.child.log.read_text(), what="the proxy to be refused")
    assert mesh.serving.client.get("/api/v1/proxies")["items"] == []
    assert token not in mesh.serving.child.log.read_text() + agent.log.read_text() + second.log.read_text()
    assert "PRIVATE KEY" not in mesh.serving.child.log.read_text() + agent.log.read_text()
