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
    assert (claims["move"]["from"], claims["move"]["instances"]) == ("file", ["reviews-v1-old"])
    assert set(claims["move"]["counts"]) == {"reviews-v1-1", "reviews-v1-2", "reviews-v2-1"}
    assert claims["failover"]["counts"] == {"reviews-v1-west": 400}


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {}}]
"""


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 2, "there is no file"),
        ("no: kubeconfig", 2, "cannot be used"),
        (KUBECONFIG, 1, "see that the API server of --kubeconfig runs"),
    ],
)
def test_kubernetes_that_cannot_be_used_is_an_error_with_the_fix(
    consul: Path, tmp_path: Path, content: str | None, code: int, words: str
) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    command = [*FAIRLEAD, "demo", "--consul", str(consul), "--kubeconfig", str(file)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == code, made.stderr
    assert words in " ".join(made.stderr.split())
    assert "Traceback" not in made.stderr


def test_program_that_is_not_there_is_an_error_with_the_fix(tmp_path: Path) -> None:
    made = subprocess.run(
        [*FAIRLEAD, "demo", "--consul", str(tmp_path / "none")], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 2
    assert "there is no program" in made.stderr
