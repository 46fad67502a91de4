"""Replicas of one Fairlead beside one cluster, and Envoys that know the addresses of all."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import yaml

from fairlead.envoy_binary import find_envoy
from fairlead.processes import Child, Children, free_port
from tests.support.programs import FAIRLEAD, Serving, start_serve


class Replicas:
    """Starts replicas of one Fairlead, each with its own store, and Envoys that know the addresses of all."""

    def __init__(self, children: Children, namespace: str, kubeconfig: Path, *settings: str) -> None:
        self._children = children
        self._namespace = namespace
        self._settings = [*settings]
        self._settings += ["--kubernetes", str(kubeconfig), "--kubernetes-namespaces", namespace]
        self._settings += ["--kubernetes-lease", f"{namespace}/fairlead"]
        self._ports = {"one": free_port(), "two": free_port()}

    def start(self, name: str, *, log: str = "") -> Serving:
        store = self._children.folder / f"{name}.db"
        return start_serve(self._children, *self._settings, name=log or name, xds=self._ports[name], store=store)

    def kill(self, replica: Serving) -> None:
        replica.child.signal_group(signal.SIGKILL)
        replica.child.process.wait(20)
        self._children.started.remove(replica.child)

    def envoy(self, name: str, *flags: str, only: str = "") -> Child:
        """An Envoy whose bootstrap names both, as docs/how-to/run-several.md says; or one alone."""
        first, second = (self._ports[only],) * 2 if only else self._ports.values()
        command = [*FAIRLEAD, "bootstrap", "gateway", "--name", "edge", "-n", self._namespace, "--instance", name]
        made = subprocess.run(
            [*command, *flags, "--xds", f"127.0.0.1:{first}", "--admin-port", "0"], check=True, stdout=subprocess.PIPE
        )
        bootstrap = yaml.safe_load(made.stdout)
        [cluster] = bootstrap["static_resources"]["clusters"]
        [locality] = cluster["load_assignment"]["endpoints"]
        other = json.loads(json.dumps(locality["lb_endpoints"][0]))
        other["endpoint"]["address"]["socket_address"]["port_value"] = second
        locality["lb_endpoints"].append(other)
        path = self._children.folder / f"{name}.json"
        path.write_text(json.dumps(bootstrap))
        return self._children.start(
            name, [find_envoy(), "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
        )
