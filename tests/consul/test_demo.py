"""`fairlead demo --consul` does what it claims, on real Consul and real Envoy, and says so to machines."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import FAIRLEAD

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(600)]


def test_every_claim_of_the_demo_holds(consul: Path, tmp_path: Path) -> None:
    made = subprocess.run(
        [*FAIRLEAD, "demo", "--consul", str(consul), "-o", "json"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    claims = {claim["name"]: claim for claim in json.loads(made.stdout)["claims"]}
    assert list(claims) == ["register", "check", "return", "drain", "canary", "move", "failover"]
    assert all(claim["failures"] == [] and claim["meanwhile"] > 50 for claim in claims.values())
    assert claims["check"]["counts"] == {"reviews-v1-2": 400}
    assert abs(claims["canary"]["counts"]["v1"] - 360) <= 30
    assert set(claims["move"]["counts"]) == {"reviews-v1-1", "reviews-v1-2", "reviews-v2-1"}
    assert claims["failover"]["counts"] == {"reviews-v1-west": 400}


def test_program_that_is_not_there_is_an_error_with_the_fix(tmp_path: Path) -> None:
    made = subprocess.run(
        [*FAIRLEAD, "demo", "--consul", str(tmp_path / "none")], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 2
    assert "there is no program" in made.stderr
