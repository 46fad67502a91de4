"""gRPC's own xDS support, without any Envoy: `xds:///echo.default:80` resolves, balances and splits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from fairlead.processes import Children
from tests.support.programs import FAIRLEAD, Serving, start_serve
from xds.protocol.ordering import Patience

pytestmark = pytest.mark.envoy

ECHO = str(Path(__file__).resolve().parent.parent / "support" / "grpc_echo.py")


def start_echo(children: Children, name: str) -> int:
    child = children.start(name, [sys.executable, ECHO, "serve", name])
    children.wait_until(lambda: "\n" in child.log.read_text(), what=name)
    return int(child.log.read_text().partition("\n")[0])


@contextmanager
def caller(children: Children, serving: Serving, target: str) -> Iterator[Callable[[int], dict[str, int]]]:
    """A gRPC client that lives on between calls: how many → who answered how often."""
    printed = subprocess.run(
        [*FAIRLEAD, "bootstrap", "grpc", "--name", "client", "--xds", f"127.0.0.1:{serving.xds}"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    bootstrap = children.folder / "grpc.json"
    bootstrap.write_text(printed)
    assert json.loads(printed)["node"]["metadata"]["fairlead"]["kind"] == "grpc"
    env = {**os.environ, "GRPC_XDS_BOOTSTRAP": str(bootstrap)}
    with subprocess.Popen(
        [sys.executable, ECHO, "call", target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        told, answers = client.stdin, client.stdout

        def call(count: int) -> dict[str, int]:
            told.write(f"{count}\n")
            told.flush()
            return dict(json.loads(answers.readline()))

        yield call
        told.close()


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
    with caller(children, serving, "xds:///echo.default:80") as call:
        counts = call(100)
    assert set(counts) == {"v1", "v2"}
    assert min(counts.values()) >= 20


def test_a_grpc_client_splits_as_the_route_of_its_service_says(children: Children) -> None:
    ports = (start_echo(children, "v1"), start_echo(children, "v2"))
    write(children, weights=(90, 10), ports=ports)
    serving = start_serve(children, "--files", str(children.folder / "config"))
    with caller(children, serving, "xds:///echo.default:80") as call:
        counts = call(1000)
    assert sum(counts.values()) == 1000
    assert abs(counts["v1"] - 900) <= 47  # five standard deviations


def test_a_grpc_client_follows_a_route_to_clusters_that_it_has_never_asked_for(children: Children) -> None:
    ports = (start_echo(children, "v1"), start_echo(children, "v2"))
    write(children, weights=None, ports=ports)
    serving = start_serve(children, "--files", str(children.folder / "config"))
    with caller(children, serving, "xds:///echo.default:80") as call:
        assert set(call(50)) == {"v1", "v2"}
        # The client asks for the subsets' clusters only when a route names them: waiting for it would be for nothing.
        for weights, only in (((0, 1), "v2"), ((1, 0), "v1")):
            write(children, weights=weights, ports=ports)
            changed = time.monotonic()
            children.wait_until(lambda only=only: set(call(20)) == {only}, what=f"everything at {only}")
            assert time.monotonic() - changed < Patience().warm
        write(children, weights=None, ports=ports)
        children.wait_until(lambda: set(call(20)) == {"v1", "v2"}, what="both without a route")


def test_a_grpc_client_follows_a_grpc_route_by_method_and_what_it_cannot_do_fails_and_is_told(
    children: Children,
) -> None:
    ports = (start_echo(children, "v1"), start_echo(children, "v2"))
    write(children, weights=None, ports=ports)

    def follow(*filters: object) -> None:
        subset = {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "only", "port": 80}
        rules = [
            {"matches": [{"method": {"service": "test.Other"}}], "backendRefs": [{"name": "echo", "port": 80}]},
            {
                "matches": [{"method": {"service": "test.Echo", "method": "Who"}}],
                "filters": list(filters),
                "backendRefs": [subset],
            },
        ]
        documents = [
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GRPCRoute",
                "metadata": {"name": "echo"},
                "spec": {"parentRefs": [{"group": "fairlead.dev", "kind": "Service", "name": "echo"}], "rules": rules},
            },
            {
                "apiVersion": "fairlead.dev/v1alpha1",
                "kind": "ServiceSubset",
                "metadata": {"name": "only"},
                "spec": {"service": "echo", "labels": {"version": "v2"}},
            },
        ]
        (children.folder / "config" / "route.yaml").write_text(yaml.safe_dump_all(documents))

    follow()
    serving = start_serve(children, "--files", str(children.folder / "config"))

    def limits() -> list[str]:
        told: list[str] = serving.client.get("/api/v1/distribution/GRPCRoute/default/echo").get("limits", [])
        return told

    with caller(children, serving, "xds:///echo.default:80") as call:
        assert set(call(20)) == {"v2"}
        assert limits() == []
        follow(
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-by", "value": "route"}]}}
        )
        children.wait_until(lambda: bool(limits()), what="the limits to be told")
        [said] = limits()
        assert said.startswith("spec.rules[1] has filter RequestHeaderModifier")
        children.wait_until(lambda: "UNAVAILABLE" in call(5), what="calls to fail")
