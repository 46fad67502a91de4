"""Fairlead as a system under measurement: the one place that knows how it is started, loaded and told changes."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from benchmarks.processes import MissingProgramError, Program
from benchmarks.simulator import Write
from benchmarks.systems import Workload, address_of, free_port

FAIRLEAD = Path(__file__).parent.parent / ".venv" / "bin" / "fairlead"
NAMESPACE = "default"
READY_TIMEOUT = 120.0


class Server:
    """`fairlead serve` with some flags and a store in a directory; there once it is ready."""

    def __init__(self, directory: Path, *flags: str | Path) -> None:
        if not FAIRLEAD.exists():
            raise MissingProgramError(
                f"{FAIRLEAD} is missing: run `make venv` (or measure the peer alone: `--only peer`)."
            )
        store = f"sqlite:{directory / 'store.db'}"
        command = [FAIRLEAD, "serve", *flags, "--store", store, "--xds", "127.0.0.1:0", "--api", "127.0.0.1:0"]
        started = time.monotonic()
        self.program = Program(command, directory / "fairlead.log")
        try:
            self.xds = self.program.printed(r"xds listening on (\S+)\n", timeout=READY_TIMEOUT)
            self.api = self.program.printed(r"api listening on (\S+)\n", timeout=READY_TIMEOUT)
            self._wait_ready(started + READY_TIMEOUT)
        except BaseException:
            self.program.stop()
            raise
        self.seconds_to_ready = time.monotonic() - started

    def _wait_ready(self, deadline: float) -> None:
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.api}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError) as problem:
                if time.monotonic() > deadline or self.program.process.poll() is not None:
                    raise RuntimeError(f"/readyz: {problem}\n{self.program.output()[-3000:]}") from problem
            time.sleep(0.02)


class Fairlead:
    """A running `fairlead serve` with its workload as a folder of files, or in its SQLite store."""

    name = "ours"

    def __init__(self, workload: Workload, directory: Path, *, in_store: bool = False) -> None:
        self._workload = workload
        self._directory = directory
        self._objects = directory / "objects"
        self._objects.mkdir(parents=True)
        for manifest in objects(workload):
            name = f"{manifest['kind'].lower()}-{manifest['metadata']['name']}.json"
            (self._objects / name).write_text(json.dumps(manifest))
        self._files = None if in_store else self._objects
        self._start()
        if in_store:
            run("apply", "-f", self._objects, "--server", f"http://{self.api}")

    def _start(self) -> None:
        files: list[str | Path] = [] if self._files is None else ["--files", self._files]
        server = Server(self._directory, *files, "--insecure-xds")
        self.program, self.xds, self.api = server.program, server.xds, server.api
        self.seconds_to_ready = server.seconds_to_ready

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop()

    def restart(self) -> None:
        """End it with SIGTERM and start it again on the same files and store."""
        self.program.stop()
        self._start()

    def endpoint_write(self) -> Write:
        """PUT of a Service over REST; the answer means that the change is durable."""
        return endpoint_write(self.api, endpoints=self._workload.endpoints)

    def route_write(self, host: int, redirect: str) -> Write:
        """PUT of an HTTPRoute over REST."""
        url = f"http://{self.api}/api/v1/namespaces/{NAMESPACE}/httproutes/host-{host}"
        return Write("PUT", url, json.dumps(http_route(host, self._workload.services, redirect=redirect)))

    def sidecar(self) -> tuple[str, dict[str, Any]]:
        """The sidecar of service `svc-I`: each is an audience of its own."""
        claim = {
            "kind": "sidecar",
            "namespace": NAMESPACE,
            "name": "svc-{i}",
            "service": "svc-{i}",
            "port": 80,
            "ingress_port": 15006,
            "egress_port": 15001,
        }
        return f"sidecar~{NAMESPACE}~svc-{{i}}~{{i}}", {"fairlead": claim}

    def gateway(self) -> tuple[str, dict[str, Any]]:
        """A replica of the gateway `edge`: one audience for all."""
        return f"gateway~{NAMESPACE}~edge~{{i}}", {
            "fairlead": {"kind": "gateway", "namespace": NAMESPACE, "name": "edge"}
        }

    def bootstrap(self, kind: str, *, xds: str, sotw: bool, admin_port: int) -> dict[str, Any]:
        """What `fairlead bootstrap` prints."""
        flags = ["--namespace", NAMESPACE, "--xds", xds, "--admin-port", str(admin_port), "-o", "json"]
        if sotw:
            flags.append("--sotw")
        if kind == "gateway":
            return dict(json.loads(run("bootstrap", "gateway", "--name", "edge", *flags)))
        ports = ["--port", "80", "--ingress-port", str(free_port()), "--egress-port", str(free_port())]
        return dict(json.loads(run("bootstrap", "sidecar", "--name", "svc-0", "--service", "svc-0", *ports, *flags)))


def run(*arguments: str | Path) -> str:
    """Run a `fairlead` command and return what it prints; raises `RuntimeError` with its words where it fails."""
    result = subprocess.run([FAIRLEAD, *arguments], capture_output=True, text=True, check=False, timeout=600)
    if result.returncode != 0:
        raise RuntimeError(f"fairlead {arguments[0]} ended with {result.returncode}:\n{result.stderr.strip()}")
    return result.stdout


def endpoint_write(api: str, *, endpoints: int) -> Write:
    """The PUT by which the first endpoint of service {service} listens on port {marker}."""
    manifest = service("{service}", addresses=[f"10.{{high}}.{{low}}.{j + 1}" for j in range(endpoints)])
    manifest["spec"]["endpoints"][0]["ports"]["http"] = "{marker}"
    return Write(
        method="PUT",
        url=f"http://{api}/api/v1/namespaces/{NAMESPACE}/services/svc-{{service}}",
        # The marker is a number in JSON, so its place holder loses its quotes.
        body=json.dumps(manifest).replace('"{marker}"', "{marker}"),
        resource=f"{NAMESPACE}/svc-{{service}}:80",
    )


def objects(workload: Workload) -> list[dict[str, Any]]:
    """The workload as Fairlead's objects."""
    manifests = [
        service(str(i), addresses=[address_of(i, j) for j in range(workload.endpoints)])
        for i in range(workload.services)
    ]
    if workload.gateway_port:
        manifests.append(gateway(workload.gateway_port))
        manifests += [http_route(i, workload.services) for i in range(workload.hosts)]
    return manifests


def service(number: str, *, addresses: list[str]) -> dict[str, Any]:
    """Service `svc-<number>` with one HTTP port."""
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Service",
        "metadata": {"name": f"svc-{number}", "namespace": NAMESPACE},
        "spec": {
            "ports": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            "endpoints": [{"address": address, "ports": {"http": 8080}} for address in addresses],
        },
    }


def gateway(port: int) -> dict[str, Any]:
    """The gateway `edge` with one HTTP listener."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": NAMESPACE},
        "spec": {
            "gatewayClassName": "fairlead",
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
        },
    }


def http_route(host: int, services: int, *, redirect: str = "") -> dict[str, Any]:
    """The route of one host: to a service, or a redirect to another host name."""
    rule: dict[str, Any] = {"backendRefs": [{"name": f"svc-{host % services}", "port": 80}]}
    if redirect:
        answer = {"hostname": redirect, "statusCode": 302}
        rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": answer}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": f"host-{host}", "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"name": "edge"}], "hostnames": [f"host-{host}.example.com"], "rules": [rule]},
    }
