"""Fairlead installed in a cluster as its users install it, watching the namespaces of one test file alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tests.support.kubernetes import INSTALL, ROOT, Cluster, eventually, kubectl

NAMESPACE = "fairlead-system"
CLASS = "fairlead"
Assembled = Callable[[str], tuple[Path, list[str]]]
"""An image's name → the folder with its files, and its command."""


class Installed:
    """Two replicas in `fairlead-system`. `folder` is for the kustomization that names the watched namespaces.

    `settings` are more of the server's environment variables.
    """

    def __init__(self, cluster: Cluster, folder: Path, namespaces: Iterable[str], **settings: str) -> None:
        self._cluster = cluster
        self._folder = folder
        env = [{"name": "FAIRLEAD_KUBERNETES_NAMESPACES", "value": ",".join(namespaces)}]
        env += [{"name": name, "value": value} for name, value in settings.items()]
        patch = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "fairlead", "namespace": NAMESPACE},
            "spec": {"template": {"spec": {"containers": [{"name": "fairlead", "env": env}]}}},
        }
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(ROOT / "kind-cluster" / "local", folder)],
            "patches": [{"patch": yaml.safe_dump(patch)}],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))

    def install(self) -> None:
        """Install, and wait until all replicas are ready."""
        self.began = datetime.now(UTC).isoformat()
        self._run("fairlead")

    def remove(self) -> None:
        """Remove all but the CRDs, and wait until it is gone."""
        self._run("remove")

    def restart(self) -> None:
        """Have new pods take over, one by one."""
        self._cluster.kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/fairlead")
        self._cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/fairlead", "--timeout=300s")

    def scale(self, replicas: int) -> None:
        """Have that many replicas, and wait until no other pod is left."""
        self._cluster.kubectl("-n", NAMESPACE, "scale", "deployment/fairlead", f"--replicas={replicas}")
        eventually(lambda: len(self.pods()) == replicas, f"{replicas} replicas of Fairlead")
        self._cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/fairlead", "--timeout=300s")

    def pods(self) -> list[str]:
        """The names of its pods."""
        listed = self._cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/name=fairlead")
        return [item["metadata"]["name"] for item in listed["items"]]

    def logs(self) -> str:
        """The last lines of every pod."""
        return "\n".join(
            f"== {pod}\n{self._cluster.kubectl('-n', NAMESPACE, 'logs', pod, '--tail=40', check=False)}"
            for pod in self.pods()
        )

    def _run(self, verb: str) -> None:
        environment = {
            "KUBECONFIG": str(self._cluster.kubeconfig),
            "KUBECTL": " ".join(kubectl()),
            "MANIFESTS": str(self._folder),
        }
        done = subprocess.run(
            [str(INSTALL), verb], env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.logs()}"


def watches_everything(cluster: Cluster) -> bool:
    """Whether a Fairlead is installed that is not bound to the namespaces of a test."""
    found = cluster.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/fairlead")
    if found is None or not found["spec"]["replicas"]:
        return False
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return all(one["name"] != "FAIRLEAD_KUBERNETES_NAMESPACES" for one in container["env"])


def load_images() -> None:
    """Put the images of this checkout into the local node."""
    _images()


def assemble(name: str, root: Path) -> list[str]:
    """Write the files of an image of this checkout into a folder; its command."""
    return _images("--root", str(root), name).split()


def _images(*words: str) -> str:
    script = ROOT / "kind-cluster" / "images"
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
