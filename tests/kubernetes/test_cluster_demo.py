from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.installed import Installed
from tests.support.kubernetes import ROOT, Cluster, kubectl


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demos_show_what_they_claim(cluster: Cluster, fairlead: Installed, place: str) -> None:
    """Canary, A/B by header, HTTPS, bad rules refused, rolling restarts: each judged by the demo itself."""
    environment = {"KUBECONFIG": str(cluster.kubeconfig), "KUBECTL": " ".join(kubectl()), "NAMESPACE": place}
    demo = subprocess.run(
        [sys.executable, str(ROOT / "kind-cluster" / "demo")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert demo.returncode == 0, f"{demo.stdout}{demo.stderr}\n{fairlead.logs()}"
    assert demo.stdout.count(": yes\n") == 6, demo.stdout
