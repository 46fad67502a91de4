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


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def start(*flags: str, tmp: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DEMO, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TEST_OF_FAIRLEAD_DEMO": str(os.getpid()), "TMPDIR": str(tmp)},
    )


def wait_for(demo: subprocess.Popen[str], words: str) -> None:
    """Read what the demo tells until a line begins with these words."""
    assert demo.stderr is not None
    told = []
    for line in demo.stderr:
        if line.startswith(words):
            return
        told.append(line)
    raise AssertionError("".join(told))


def gone(demo: int) -> bool:
    deadline = time.monotonic() + 15
    while processes_of(demo):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_every_claim_of_the_demo_holds_and_nothing_is_left_behind(tmp_path: Path) -> None:
    demo = start(tmp=tmp_path)
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
    routing = claims["routing"]
    assert routing["with header x-canary: yes"] == {"reviews v2": 20}
    assert routing["host reviews.example.com"]["reviews v1"] > 0
    assert gone(demo.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_in_the_middle_leaves_no_process_behind(number: signal.Signals, tmp_path: Path) -> None:
    demo = start(tmp=tmp_path)
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
    assert number is signal.SIGKILL or list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chapter", [1, 2, 3, 4, 5])
def test_ctrl_c_after_any_chapter_leaves_nothing_behind(chapter: int, tmp_path: Path) -> None:
    demo = start(tmp=tmp_path)
    wait_for(demo, f"{chapter}. ")
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert gone(demo.pid)
    assert list(tmp_path.iterdir()) == []


def test_kept_running_it_ends_when_envoy_does_and_says_so(tmp_path: Path) -> None:
    demo = start("--keep", tmp=tmp_path)
    wait_for(demo, "Still running")
    [envoy] = [pid for pid in processes_of(demo.pid) if b"--disable-hot-restart" in command_line(pid)]
    os.kill(envoy, signal.SIGKILL)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert json.loads(out)["ok"] is True
    assert "envoy ended with exit code -9" in err
    assert gone(demo.pid)


def test_every_claim_of_the_demo_of_rollouts_holds(tmp_path: Path) -> None:
    demo = start("--rollout", tmp=tmp_path)
    out, err = demo.communicate(timeout=110)
    assert demo.returncode == 0, err
    summary = json.loads(out)
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
    assert gone(demo.pid)
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
