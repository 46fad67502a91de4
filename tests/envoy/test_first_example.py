"""The smallest whole example of the README, as it stands: `serve --files` and `envoy gateway --name edge`."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from fairlead.processes import Children, free_port
from tests.support.programs import FAIRLEAD, Serving, ask, start_backend, start_envoy, start_serve

pytestmark = pytest.mark.envoy

HOST = "reviews.example.com"


def place_example(root: Path, folder: Path, *, gateway: int, v1: int, v2: int) -> None:
    """The committed example, with the ports that are free here."""
    text = (root / "envoy-configs/examples/first/config.yaml").read_text()
    for old, new in (("10000", gateway), ("9001", v1), ("9002", v2)):
        assert old in text
        text = text.replace(old, str(new))
    folder.mkdir()
    (folder / "config.yaml").write_text(text)


def run(serving: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FAIRLEAD, *arguments, "--server", f"http://127.0.0.1:{serving.api}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def gateway_port() -> int:
    return free_port()


@pytest.fixture
def serving(root: Path, children: Children, gateway_port: int) -> Serving:
    v1, v2 = start_backend(children, "reviews", "v1"), start_backend(children, "reviews", "v2")
    place_example(root, children.folder / "config", gateway=gateway_port, v1=v1, v2=v2)
    return start_serve(children, "--files", str(children.folder / "config"))


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
def test_the_first_example_routes_by_header_and_splits_by_weight(
    children: Children, serving: Serving, gateway_port: int, transport: list[str]
) -> None:
    start_envoy(children, "gateway", "edge", *transport, xds=serving.xds)
    canary = [ask(gateway_port, HOST, x_canary="yes").who for _ in range(20)]
    assert set(canary) == {"reviews v2"}
    rest = Counter(ask(gateway_port, HOST).who for _ in range(90))
    assert set(rest) == {"reviews v1", "reviews v2"}
    assert ask(gateway_port, "other.example.com").status == 404


def test_the_commands_tell_what_the_server_does(children: Children, serving: Serving, gateway_port: int) -> None:
    start_envoy(children, "gateway", "edge", "--instance", "one", xds=serving.xds)
    node = "gateway~default~edge~one"

    waited = run(serving, "wait", "httproute", "reviews")
    assert (waited.returncode, waited.stdout) == (0, "1 of 1 proxies have it\n")

    proxies = run(serving, "proxies")
    assert node in proxies.stdout
    assert "synced 2" in proxies.stdout

    shown = json.loads(run(serving, "proxy", "show", node, "--type", "cds", "-o", "json").stdout)
    assert [row["name"] for row in shown["resources"]["CDS"]] == ["default/reviews:80", "default/reviews:80@reviews-v2"]
    assert all(row["acked"] for row in shown["resources"]["CDS"])

    told = run(serving, "explain", "GET", f"http://{HOST}:{gateway_port}/", "-H", "x-canary: yes")
    assert "Service default/reviews" in told.stdout or "ServiceSubset default/reviews-v2" in told.stdout

    got = yaml.safe_load(run(serving, "get", "gateway", "edge", "-o", "yaml").stdout)
    assert got["status"]["listeners"][0]["attachedRoutes"] == 1


def test_objects_without_a_namespace_and_of_all_namespaces_are_named_too(children: Children) -> None:
    serving = start_serve(children)
    file = children.folder / "objects.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n"
        "apiVersion: fairlead.dev/v1alpha1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n"
        "spec: {ports: [{port: 80}]}\n"
    )
    applied = run(serving, "apply", "-f", str(file), "-o", "json")
    assert [each["result"] for each in json.loads(applied.stdout)] == ["created", "created"]
    waited = run(serving, "wait", "ns", "shop")
    assert (waited.returncode, waited.stderr) == (0, "no connected proxy is affected by it\n")
    everywhere = run(serving, "get", "svc", "-A")
    assert everywhere.stdout.splitlines()[1].split()[:3] == ["shop", "cart", "store@2"]
    assert run(serving, "get", "svc").stderr == "no services found\n"
    assert run(serving, "delete", "namespace", "shop").stdout == "namespace shop deleted\n"


def test_apply_diff_and_delete_go_round(root: Path, children: Children, serving: Serving, gateway_port: int) -> None:
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    route = children.folder / "route.yaml"
    route.write_text(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: more}\n"
        "spec:\n  parentRefs: [{name: edge}]\n  hostnames: [more.example.com]\n"
        "  rules: [{backendRefs: [{name: reviews, port: 80}]}]\n"
    )
    assert run(serving, "diff", "-f", str(route)).returncode == 3
    assert run(serving, "apply", "-f", str(route)).stdout == "httproute default/more created\n"
    assert run(serving, "wait", "httproute", "more").returncode == 0
    assert ask(gateway_port, "more.example.com").status == 200
    same = run(serving, "diff", "-f", str(route))
    assert (same.returncode, same.stdout) == (0, "")
    assert run(serving, "delete", "httproute", "more").returncode == 0
    children.wait_until(lambda: ask(gateway_port, "more.example.com").status == 404, what="the route to go")
    missing = run(serving, "get", "httproute", "more")
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr


def test_a_half_written_file_changes_nothing_and_is_told_of(
    children: Children, serving: Serving, gateway_port: int
) -> None:
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    file = children.folder / "config" / "config.yaml"
    whole = file.read_text()
    file.write_text(whole[: whole.index("kind: Gateway") + 60])
    children.wait_until(lambda: bool(serving.client.get("/api/v1/problems")["items"]), what="the problem to be told")
    assert ask(gateway_port, HOST).status == 200
    [problem] = serving.client.get("/api/v1/problems")["items"][:1]
    assert problem["problem"]["file"].endswith("config.yaml")
    file.write_text(whole.replace(HOST, "new.example.com"))
    children.wait_until(lambda: ask(gateway_port, "new.example.com").status == 200, what="the mended file to count")
    assert ask(gateway_port, HOST).status == 404
    assert serving.client.get("/api/v1/problems")["items"] == []
