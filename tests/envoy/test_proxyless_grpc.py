"""gRPC's own xDS support, without any Envoy: `xds:///echo.default:80` resolves, balances and splits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fairlead.processes import Children
from tests.support.programs import FAIRLEAD, Serving, start_serve

pytestmark = pytest.mark.envoy

ECHO = str(Path(__file__).resolve().parent.parent / "support" / "grpc_echo.py")


def start_echo(children: Children, name: str) -> int:
    child = children.start(name, [sys.executable, ECHO, "serve", name])
    children.wait_until(lambda: "\n" in child.log.read_text(), what=name)
    return int(child.log.read_text().partition("\n")[0])


def call(children: Children, serving: Serving, target: str, count: int) -> dict[str, int]:
    printed = subprocess.run(
        [*FAIRLEAD, "bootstrap", "grpc", "--name", "client", "--xds", f"127.0.0.1:{serving.xds}"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    bootstrap = children.folder / "grpc.json"
    bootstrap.write_text(printed)
    assert json.loads(printed)["node"]["metadata"]["fairlead"]["kind"] == "grpc"
    env = {**os.environ, "GRPC_XDS_BOOTSTRAP": str(bootstrap)}
    command = [sys.executable, ECHO, "call", target, str(count)]
    made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90, env=env)
    assert made.returncode == 0, made.stderr
    return {name: int(number) for name, number in (line.split() for line in made.stdout.splitlines())}


def write(children: Children, *, weights: tuple[int, int] | None, ports: tuple[int, int]) -> None:
    endpoints = [
        {"address": "127.0.0.1", "ports": {"grpc": port}, "labels": {"version": version}}
        for version, port in zip(("v1", "v2"), ports, strict=True)
    ]
    fairlead = "fairlead.dev/v1alpha1"
    spec = {"ports": [{"name": "grpc", "port": 80, "protocol": "GRPC"}], "endpoints": endpoints}
    documents = [{"apiVersion": fairlead, "kind": "Service", "metadata": {"name": "echo"}, "spec": spec}]
    if weights is not None:
        refs = []
        for version, weight in zip(("v1", "v2"), weights, strict=True):
            subset = {"service": "echo", "labels": {"version": version}}
            name = f"echo-{version}"
            documents.append(
                {"apiVersion": fairlead, "kind": "ServiceSubset", "metadata": {"name": name}, "spec": subset}
            )
            refs.append({"group": "fairlead.dev", "kind": "ServiceSubset", "name": name, "port": 80, "weight": weight})
        parents = [{"group": "fairlead.dev", "kind": "Service", "name": "echo"}]
        route = {"parentRefs": parents, "rules": [{"backendRefs": refs}]}
        api = "gateway.networking.k8s.io/v1"
        documents.append({"apiVersion": api, "kind": "HTTPRoute", "metadata": {"name": "echo"}, "spec": route})
    (children.folder / "config").mkdir(exist_ok=True)
    (children.folder / "config" / "echo.yaml").write_text(yaml.safe_dump_all(documents))


def test_a_grpc_client_balances_over_the_endpoints(children: Children) -> None:
    ports = (start_echo(children, "v1"), start_echo(children, "v2"))
    write(children, weights=None, ports=ports)
    serving = start_serve(children, "--files", str(children.folder / "config"))
    counts = call(children, serving, "xds:///echo.default:80", 100)
    assert set(counts) == {"v1", "v2"}
    assert min(counts.values()) >= 20


def test_a_grpc_client_splits_as_the_route_of_its_service_says(children: Children) -> None:
    ports = (start_echo(children, "v1"), start_echo(children, "v2"))
    write(children, weights=(90, 10), ports=ports)
    serving = start_serve(children, "--files", str(children.folder / "config"))
    counts = call(children, serving, "xds:///echo.default:80", 1000)
    assert sum(counts.values()) == 1000
    assert abs(counts["v1"] - 900) <= 47  # five standard deviations
