"""The local node itself: what tests of faults and `kind-cluster/up` rely on."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.kubernetes import KUBE_NODE, Cluster, eventually

pytestmark = pytest.mark.skipif("KUBECONFIG" in os.environ, reason="another cluster is none of ours to stop")


def kube_node(*words: str, code: int = 0) -> str:
    done = subprocess.run([str(KUBE_NODE), *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def parts() -> dict[str, str]:
    done = subprocess.run([str(KUBE_NODE), "status"], capture_output=True, text=True, check=False)
    return {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}


def test_every_part_runs(cluster: Cluster) -> None:
    assert set(parts().values()) == {"running"}
    assert {"etcd", "apiserver", "kubelet", "coredns"} <= set(parts())


def test_a_second_up_changes_nothing(cluster: Cluster, kubeconfig: Path) -> None:
    said = kube_node("up")
    assert said == f"already up\nexport KUBECONFIG={kubeconfig}\n"


def test_a_part_is_stopped_and_started_alone(cluster: Cluster) -> None:
    kube_node("stop", "scheduler")
    assert {name for name, state in parts().items() if state == "stopped"} == {"scheduler"}
    kube_node("start", "scheduler")
    assert set(parts().values()) == {"running"}


def test_up_mends_what_died(cluster: Cluster, kubeconfig: Path) -> None:
    pid = int((kubeconfig.parent / "scheduler.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: parts()["scheduler"] == "stopped", "the scheduler's end")
    assert "export KUBECONFIG=" in kube_node("up")
    assert set(parts().values()) == {"running"}


def test_a_number_that_another_program_has_by_now_is_not_ours(cluster: Cluster, kubeconfig: Path) -> None:
    file = kubeconfig.parent / "scheduler.pid"
    ours = file.read_text()
    try:
        file.write_text(str(os.getpid()))
        assert parts()["scheduler"] == "stopped"
        kube_node("stop", "scheduler")  # and this test lives on
    finally:
        file.write_text(ours)
    assert parts()["scheduler"] == "running"


def test_the_api_server_comes_back_with_all_it_knew(cluster: Cluster, namespace: str) -> None:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": namespace}}
    cluster.apply({**item, "data": {"a": "1"}})
    kube_node("restart", "apiserver")
    assert cluster.get(cluster.path(item))["data"] == {"a": "1"}


def test_an_unknown_part_is_named_with_those_that_there_are(cluster: Cluster) -> None:
    said = kube_node("restart", "etdc", code=1)
    assert "no part is called etdc" in said
    assert "etcd" in said


@pytest.mark.parametrize("name", ["local/echo:1", "echo:1", "registry.example/echo:1"])
def test_an_image_is_found_under_the_name_that_a_pod_gives_it(
    cluster: Cluster, namespace: str, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    busybox = subprocess.run(["which", "busybox"], capture_output=True, text=True, check=True).stdout.strip()
    (root / "busybox").write_bytes(Path(busybox).read_bytes())
    (root / "busybox").chmod(0o755)
    kube_node("image", name, str(root), "/busybox", "echo", "here")
    container = {"name": "echo", "image": name, "imagePullPolicy": "Never"}
    pod = {"metadata": {"name": "echo"}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    path = f"/api/v1/namespaces/{namespace}/pods/echo"
    eventually(lambda: cluster.get(path)["status"]["phase"] == "Succeeded", "the pod's end")
    assert cluster.raw("GET", f"{path}/log") == "here\n"
