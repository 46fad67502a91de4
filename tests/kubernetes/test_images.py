from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.installed import Assembled
from tests.support.kubernetes import JSON, Cluster, eventually


def files(root: Path) -> set[str]:
    """The paths of an image's files."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}


def size(root: Path) -> float:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def test_the_server_s_image_holds_what_it_runs_on_and_no_tools(assembled: Assembled) -> None:
    root, _ = assembled("fairlead")
    found = files(root)
    top = {Path(path).parts[5] for path in found if "/site-packages/" in path}
    assert {"fairlead", "mesh", "grpc", "uvicorn", "httptools", "kubernetes", "aiohttp"} <= top
    assert not {"pytest", "_pytest", "mypy", "ruff", "hypothesis", "pip", "envoy", "grpc_tools"} & top
    assert not [path for path in found if Path(path).name in {"sh", "bash", "busybox", "direct_url.json"}]
    assert not [path for path in found if "/tests/" in path or ".git/" in path]
    assert size(root) < 200


def test_the_server_s_image_was_compiled_beforehand(assembled: Assembled) -> None:
    """Its file system is read-only, so that Python could not keep what it compiles: each start would do it again."""
    root, _ = assembled("fairlead")
    found = files(root)
    mesh = [path for path in found if "/site-packages/mesh/" in path]
    sources = {Path(path).stem for path in mesh if path.endswith(".py")}
    compiled = {Path(path).name.split(".")[0] for path in mesh if path.endswith(".pyc")}
    assert sources == compiled != set()


def test_the_proxy_s_image_holds_envoy_and_its_libraries(assembled: Assembled) -> None:
    root, _ = assembled("envoy")
    found = files(root)
    assert "usr/local/bin/envoy" in found
    others = {path for path in found if not path.startswith(("lib/", "lib64/", "etc/"))}
    assert others == {"usr/local/bin/envoy"}
    assert size(root) < 150


@pytest.mark.skipif("KUBECONFIG" in os.environ, reason="another cluster's images are its administrator's affair")
@pytest.mark.parametrize(
    ("image", "arguments", "says"),
    [("fairlead:dev", ["version"], "grpcio"), ("fairlead-envoy:dev", ["--version"], "1.40.0")],
)
def test_an_image_runs_as_any_user_on_a_read_only_file_system(
    cluster: Cluster, images: None, namespace: str, image: str, arguments: list[str], says: str
) -> None:
    container: JSON = {
        "name": "try",
        "image": image,
        "imagePullPolicy": "Never",
        "args": arguments,
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: JSON = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": "try"}, "spec": spec})
    path = f"/api/v1/namespaces/{namespace}/pods/try"
    phase = eventually(
        lambda: (found := cluster.get(path)["status"]["phase"]) in {"Succeeded", "Failed"} and found,
        "the pod's end",
    )
    said = cluster.raw("GET", f"{path}/log")
    assert phase == "Succeeded", said
    assert says in said
