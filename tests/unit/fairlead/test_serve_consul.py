"""How `fairlead serve` behaves towards a Consul that is not there; as a process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fairlead.errors import CommandError
from fairlead.processes import Children, free_port
from tests.support.programs import FAIRLEAD, start_serve

pytest.importorskip("aiohttp")


def test_without_consul_and_without_a_copy_it_is_not_ready_and_says_why(children: Children) -> None:
    serving = start_serve(children, "--consul", f"http://127.0.0.1:{free_port()}", ready=False)
    log = serving.child.log
    children.wait_until(lambda: "consul: error [Unreachable]" in log.read_text(), what="the reason")
    with pytest.raises(CommandError, match="503"):
        serving.client.request("GET", "/readyz")
    assert "Unreachable" in json.dumps(serving.client.get("/api/v1/problems"))


def test_an_optional_consul_that_is_not_there_keeps_nobody_waiting(children: Children) -> None:
    start_serve(children, "--consul", f"http://127.0.0.1:{free_port()}", "--consul-optional")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--consul", "127.0.0.1:8500"], "is no agent's address"),
        (["--consul", "http://u:p@127.0.0.1:8500"], "is no agent's address"),
        (["--consul", "http://127.0.0.1:99999"], "is no agent's address"),
        (["--consul-datacenters", "east"], "there is no Consul that it is for"),
        (["--registrations", "consul"], "there is no agent to register with"),
        (["--consul-optional"], "there is no Consul that it is for"),
        (["--consul", "http://h:1", "--consul-ca", "/dev/null"], "not asked over TLS"),
        (["--consul", "https://h:1", "--consul-cert", "/dev/null"], "goes with --consul-key"),
        (["--consul", "https://h:1", "--consul-ca", __file__], "test_serve_consul.py holds no authorities in PEM"),
        (["--consul", "http://h:1", "--consul-token-file", "/nowhere"], "there is no file /nowhere"),
        (["--consul", "http://h:1", "--consul-datacenters", "a", "--consul-datacenters", "a"], "stands twice"),
        (["--consul", "http://h:1", "--consul-polls", "1"], "consul-polls"),
        (["--consul", "http://h:1", "--consul-exclude", "a("], "not a regular expression of RE2"),
        (["--consul", "http://h:1", "--consul-query-namespace", "*"], "one at a time"),
        (["--consul-exclude", "a"], "there is no Consul that it is for"),
        (["--consul", "http://h:1", "--consul-reads", "fresh"], "consul-reads"),
        (["--consul", "http://h:1", "--consul-namespace", "A"], "consul-namespace"),
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
    assert "Traceback" not in made.stderr
