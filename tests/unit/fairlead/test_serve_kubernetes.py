"""How `fairlead serve` behaves towards a cluster that is not there; as a process."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from pathlib import Path

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import FAIRLEAD, Serving, start_serve

pytest.importorskip("kubernetes")


def away(folder: Path) -> Path:
    """A kubeconfig of an API server that does not run."""
    path = folder / "kubeconfig"
    config = {
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }
    path.write_text(json.dumps(config))
    return path


def readiness(serving: Serving) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", serving.api, timeout=10)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_without_the_cluster_and_without_a_copy_it_is_not_ready_and_says_why(
    tmp_path: Path, children: Children
) -> None:
    serving = start_serve(children, "--kubernetes", f"east={away(tmp_path)}", ready=False)
    log = serving.child.log
    children.wait_until(lambda: "Unreachable" in log.read_text(), what="the reason")
    assert re.search(r"kubernetes:east: error \[Unreachable\].*Connection refused", log.read_text())
    status, words = readiness(serving)
    assert status == 503
    assert "kubernetes:east" in words
    problems = serving.client.request("GET", "/api/v1/problems").json()
    assert "Unreachable" in json.dumps(problems)


def test_an_optional_cluster_that_is_not_there_keeps_nobody_waiting(tmp_path: Path, children: Children) -> None:
    serving = start_serve(children, "--kubernetes", str(away(tmp_path)), "--kubernetes-optional", "default")
    assert readiness(serving)[0] == 200


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--kubernetes", "a=in-cluster", "--kubernetes", "a=/x"], "two clusters are named 'a'"),
        (["--kubernetes", ""], "names no cluster"),
        (["--kubernetes", "in-cluster", "--kubernetes-optional", "b"], "there is no cluster 'b'"),
        (["--kubernetes", "in-cluster", "--kubernetes-lease", "x"], "names no Lease"),
    ],
)
def test_settings_that_cannot_be_end_with_2_and_the_fix(tmp_path: Path, flags: list[str], words: str) -> None:
    made = subprocess.run(
        [*FAIRLEAD, "serve", "--insecure-xds", "--store", f"sqlite:{tmp_path / 'f.db'}", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 2, made.stderr
    assert words in made.stderr
    assert "Fix" in made.stderr
    assert "Traceback" not in made.stderr
