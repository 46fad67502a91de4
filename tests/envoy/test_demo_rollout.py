"""`fairlead demo --rollout` does what it claims, by the counts of real requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.envoy, pytest.mark.slow]


def test_every_claim_of_the_demo_of_rollouts_holds(tmp_path: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "fairlead", "demo", "--rollout", "-o", "json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo.returncode == 0, demo.stderr
    summary = json.loads(demo.stdout)
    claims = {claim["name"]: claim for claim in summary["claims"]}
    assert list(claims) == ["cohort", "promoted", "taken-back"]
    assert all(claim["ok"] for claim in summary["claims"])
    assert claims["cohort"]["asked"] == {"reviews v2": 40}
    assert claims["cohort"]["others"] == {"reviews v1": 40}
    good = claims["promoted"]
    assert (good["weights"], good["failures"], good["after"]) == ([20, 60, 100], [], {"v2": 200})
    assert good["state"]["canary"]["failed"] == 0
    assert good["state"]["canary"]["succeeded"] >= 80
    bad = claims["taken-back"]
    assert (bad["weights"], bad["after"]) == ([20, 0], {"v2": 200})
    judged = bad["state"]["canary"]
    assert 0.2 < judged["failed"] / (judged["failed"] + judged["succeeded"]) < 0.4
    assert judged["failed"] <= bad["failed"] <= 0.4 * bad["met"] + 5
    assert bad["failed"] < 0.3 * bad["requests"]
    assert list(tmp_path.iterdir()) == []


def test_the_two_other_demos_do_not_go_together() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "fairlead", "demo", "--rollout", "--consul", "consul"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert demo.returncode == 2
    assert "two demos" in demo.stderr
