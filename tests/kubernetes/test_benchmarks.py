"""The rows of `make bench` that need a Kubernetes, at their smallest size: they measure something, and clear up."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from benchmarks.bench import SYSTEMS, Bench, Row
from benchmarks.cluster import NoClusterError
from benchmarks.rows import IN_CLUSTER
from benchmarks.size import SMALL
from tests.support.kubernetes import Cluster

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="the stopwatch is a Go program, and there is no `go`"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first build of the Go program takes minutes on a busy machine
]


def left(cluster: Cluster) -> set[str]:
    paths = ("/api/v1/namespaces", "/apis/gateway.networking.k8s.io/v1/gatewayclasses")
    names = [item["metadata"]["name"] for path in paths for item in cluster.get(path)["items"]]
    return {name for name in names if name.startswith("bench-")}


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("row", IN_CLUSTER, ids=lambda row: row.NAME)
def test_a_row_measures_fairlead_in_a_cluster_and_leaves_nothing_behind(
    row: Row, cluster: Cluster, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    before = left(cluster)
    try:
        results = row.run(Bench(size=SMALL, systems={"ours": SYSTEMS["ours"]}))
    except NoClusterError as reason:
        pytest.skip(str(reason))
    assert results
    for result in results:
        assert result.row == row.NAME
        assert result.peer is None
        assert result.ours is not None
        assert math.isfinite(result.ours)
    assert left(cluster) <= before
