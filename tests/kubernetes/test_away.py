"""Fairlead and real Envoys while the API server is away: what was known is served on, across a restart too."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.processes import Child, Children, free_port
from tests.support.api_line import line_to
from tests.support.kubernetes import JSON, Cluster, eventually
from tests.support.programs import Serving, ask, start_backend, start_envoy, start_serve

GATEWAY_API = "gateway.networking.k8s.io/v1"


async def aside(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """A call that blocks, beside the loop that the line runs on."""
    return await asyncio.to_thread(call, *arguments, **named)


def objects(port: int, backend: int, path: str = "/") -> tuple[JSON, ...]:
    spec = {
        "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": backend}}],
    }
    match = {"path": {"type": "PathPrefix", "value": path}}
    backends = [{"group": "fairlead.dev", "kind": "Service", "name": "web", "port": 80}]
    return (
        {"apiVersion": "fairlead.dev/v1alpha1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec},
        {
            "apiVersion": GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "gatewayClassName": "fairlead",
                "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
            },
        },
        {
            "apiVersion": GATEWAY_API,
            "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "rules": [{"matches": [match], "backendRefs": backends}],
            },
        },
    )


def end(children: Children, child: Child, number: signal.Signals) -> None:
    child.signal_group(number)
    child.process.wait(20)
    children.started.remove(child)


async def test_envoys_new_ones_too_are_served_while_the_api_server_is_away_and_fairlead_restarts(
    children: Children, cluster: Cluster, crds: None, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    port, backend = free_port(), await aside(start_backend, children, "web")
    await aside(cluster.apply, *objects(port, backend), namespace=namespace)
    envoy = ["gateway", "edge", "--namespace", namespace]

    def answer(path: str = "/") -> int:
        return ask(port, "x", path).status

    async with line_to(kubeconfig, tmp_path) as (line, over):
        settings = ["--kubernetes", str(over), "--kubernetes-namespaces", namespace]
        settings += ["--kubernetes-lease", f"{namespace}/fairlead"]
        serving: Serving = await aside(start_serve, children, *settings)
        first = await aside(start_envoy, children, *envoy, xds=serving.xds)
        await aside(eventually, lambda: answer() == 200, "the first answer")
        await line.cut()
        await aside(end, children, serving.child, signal.SIGTERM)
        assert await aside(answer) == 200, "Envoy goes on by itself"
        serving = await aside(start_serve, children, *settings, name="again", xds=serving.xds)
        await aside(end, children, first.child, signal.SIGKILL)
        second = await aside(start_envoy, children, *envoy, xds=serving.xds)
        await aside(eventually, lambda: answer() == 200, "a new Envoy to have the last known state")
        await aside(cluster.apply, *objects(port, backend, "/new"), namespace=namespace)
        await line.restore()
        await aside(eventually, lambda: answer() == 404 and answer("/new") == 200, "what changed meanwhile")
        assert second.child.running
