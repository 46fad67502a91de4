"""`kind-cluster/install` a second time: what has changed is taken up, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.installed import NAMESPACE, Assembled, Installed
from tests.support.kubernetes import KUBE_NODE, Cluster, eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("KUBECONFIG" in os.environ, reason="another cluster's images are its administrator's affair"),
]
IMAGE = "fairlead:dev"


def program(*words: str | Path) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout.strip()


def load_another(assembled: Assembled, folder: Path) -> str:
    """Put an image that differs from the one so far under its name; its id."""
    root, command = assembled("fairlead")
    another = folder / "another"
    shutil.copytree(root, another, symlinks=True)
    (another / "note").write_text("a file more")
    program(KUBE_NODE, "image", IMAGE, another, *command)
    return program(KUBE_NODE, "image-id", IMAGE)


def running(cluster: Cluster) -> dict[str, str]:
    """The ids of the images that Fairlead's pods run, by pod; those that end do not count."""
    listed = cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/name=fairlead")
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["imageID"]
        for pod in listed["items"]
        if "deletionTimestamp" not in pod["metadata"]
    }


def test_pods_are_replaced_when_only_their_image_has_changed_and_else_stay(
    cluster: Cluster, fairlead: Installed, assembled: Assembled, tmp_path: Path
) -> None:
    before = running(cluster)
    fairlead.install()
    assert running(cluster) == before, "nothing has changed"
    another = load_another(assembled, tmp_path)
    assert not any(number.endswith(another) for number in before.values())
    fairlead.install()
    eventually(lambda: [number.endswith(another) for number in running(cluster).values()] == [True] * 2, "new pods")
    assert not running(cluster).keys() & before.keys()
