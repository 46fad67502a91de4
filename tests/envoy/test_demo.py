"""`fairlead demo` does what it claims, says so to machines, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.envoy, pytest.mark.slow]

DEMO = [sys.executable, "-m", "fairlead", "demo", "-o", "json"]


def processes_of(demo: int) -> list[int]:
    """The processes that a demo started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ, status = (entry / "environ").read_bytes(), (entry / "stat").read_text()
            except OSError:
                continue
            ours = f"TEST_OF_FAIRLEAD_DEMO={os.getpid()}".encode() in environ and int(entry.name) != demo
            if ours and status.rpartition(")")[2].split()[0] != "Z":
                found.append(int(entry.name))
    return found


def start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TEST_OF_FAIRLEAD_DEMO": str(os.getpid())},
    )


def gone(demo: int) -> bool:
    deadline = time.monotonic() + 15
    while processes_of(demo):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_every_claim_of_the_demo_holds_and_nothing_is_left_behind() -> None:
    demo = start()
    out, err = demo.communicate(timeout=100)
    assert demo.returncode == 0, err
    summary = json.loads(out)
    assert [claim["name"] for claim in summary["claims"]] == [
        "routing", "split", "shift", "refusal", "instances", "proxies",
    ]  # fmt: skip
    assert all(claim["ok"] for claim in summary["claims"])
    assert summary["seconds"] < 60
    claims = {claim["name"]: claim for claim in summary["claims"]}
    assert sum(claims["split"]["counts"].values()) == 1000
    assert abs(claims["split"]["counts"]["v1"] - 900) <= 47
    assert claims["shift"]["failures"] == claims["instances"]["failures"] == []
    assert "spec.rules[0].matches[0].path.value" in claims["refusal"]["said"]
    [proxy] = claims["proxies"]["proxies"].values()
    assert proxy["CDS"].startswith("synced")
    assert gone(demo.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle_leaves_no_process_behind(number: signal.Signals) -> None:
    demo = start()
    assert demo.stderr is not None
    deadline = time.monotonic() + 60
    while len(processes_of(demo.pid)) < 4:  # three backends, and Fairlead or Envoy
        assert time.monotonic() < deadline
        assert demo.poll() is None, demo.stderr.read()
        time.sleep(0.05)
    demo.send_signal(number)
    demo.communicate(timeout=60)
    assert demo.returncode != 0
    assert gone(demo.pid)
