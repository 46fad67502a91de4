"""Tests in a real Kubernetes: that of KUBECONFIG, else the local node (`tests/kube-node`).

Each test works in a namespace of its own, so that tests can run beside each other and beside whatever the cluster does.
Everything here carries the marker `kubernetes`; `make test` leaves it out, `make test-kubernetes` runs it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.installed import Assembled, Installed, assemble, load_images, watches_everything
from tests.support.kubernetes import INSTALL, Cluster, eventually, kubectl, local_kubeconfig, why_no_node
from tests.support.loops import nothing_left_open  # noqa: F401 - a fixture

_HERE = Path(__file__).parent
_LIMIT = 400
"""Seconds that a test may take: the first one also installs CRDs, makes images and loads them into the node."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("kubernetes")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_LIMIT))


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of the cluster; skips where there is none and none can be started."""
    pytest.importorskip("kubernetes", reason="needs the extra `kubernetes`: pip install 'fairlead[kubernetes]'")
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    if why := why_no_node():
        pytest.skip(why)
    return local_kubeconfig()


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    """The cluster, as its administrator. Ends the run where a Fairlead would take part in what tests make."""
    started = Cluster(kubeconfig)
    if watches_everything(started):
        pytest.exit("Fairlead is installed here and would answer to what tests make: kind-cluster/install remove", 1)
    yield started
    started.close()


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    """Gateway API's CRDs (experimental channel) and ours are in the cluster."""
    done = subprocess.run(
        [str(INSTALL), "crds"],
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "KUBECTL": " ".join(kubectl())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def new_namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Makes namespaces of the test's own, with labels; they go with the test."""
    made: list[str] = []
    part = request.path.stem.removeprefix("test_").replace("_", "-")[:30]

    def make(**labels: str) -> str:
        name = f"test-{part}-{secrets.token_hex(3)}"
        cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        made.append(name)
        _takes_pods(cluster, name)
        return name

    yield make
    for name in made:
        cluster.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _takes_pods(cluster: Cluster, namespace: str) -> None:
    """Wait until pods are let in: Kubernetes makes a namespace's first ServiceAccount some time after the namespace."""
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    eventually(lambda: cluster.find(account), f"the ServiceAccount of {namespace}")


@pytest.fixture
def namespace(new_namespace: Callable[..., str]) -> str:
    """A namespace of the test's own."""
    return new_namespace()


@pytest.fixture(scope="session")
def images(kubeconfig: Path) -> None:
    """The images of this checkout are in the local node; another cluster has them already."""
    if "KUBECONFIG" not in os.environ:
        load_images()


@pytest.fixture(scope="session")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    """Assembles the files of an image, once, since that takes a while; they are to be left as they are."""

    @cache
    def make(name: str) -> tuple[Path, list[str]]:
        root = tmp_path_factory.mktemp(name) / "root"
        return root, assemble(name, root)

    return make


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[str]:
    """A namespace that the tests of a file share; the installed Fairlead watches it and no other."""
    name = f"test-installed-{secrets.token_hex(3)}"
    item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.apply(item)
    _takes_pods(cluster, name)
    yield name
    cluster.delete(item)


@pytest.fixture(scope="module")
def fairlead(
    cluster: Cluster, crds: None, images: None, place: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """Fairlead as installed, for the tests of one file: it would write to what other files' tests make."""
    installed = Installed(cluster, tmp_path_factory.mktemp("kustomization"), [place])
    installed.install()
    yield installed
    installed.remove()
