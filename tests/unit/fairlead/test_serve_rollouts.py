"""Rollouts of a running server, without proxies: killed in every state, watched, and moved from the command line."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import threading
from typing import Any

import pytest

from fairlead.processes import Children
from tests.support.programs import FAIRLEAD, Serving, start_serve
from tests.support.serving_objects import put, service

PATH = "/api/v1/namespaces/default/rollouts/shop"
QUICK = [{"weight": 20, "pause": "0s"}, {"weight": 60, "pause": "0s"}]
HELD = [{"weight": 20, "pause": "0s"}, {"weight": 60, "pause": "0s", "approval": True}]
SLOW = [{"weight": 20, "pause": "10m"}]


def begin(serving: Serving, steps: list[dict[str, Any]], *, canary: bool = True, **more: Any) -> None:
    service(serving, "shop", 9001)
    service(serving, "shop-v2", *([9002] if canary else []))
    put(serving, "HTTPRoute", "shop", {"rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]})
    target = {"kind": "HTTPRoute", "name": "shop"}
    backends = {"stable": {"name": "shop"}, "canary": {"name": "shop-v2", "port": 80}}
    put(serving, "Rollout", "shop", {"targetRef": target, **backends, "steps": steps, **more})


def state(serving: Serving) -> dict[str, Any]:
    found: dict[str, Any] = serving.client.get(PATH).get("status", {}).get("rollout", {})
    return found


def reaches(children: Children, serving: Serving, **wanted: Any) -> dict[str, Any]:
    children.wait_until(
        lambda: all(state(serving).get(name) == value for name, value in wanted.items()),
        what=f"the rollout to be {wanted}",
        timeout=60,
    )
    return state(serving)


def kill(children: Children, serving: Serving, number: signal.Signals) -> None:
    serving.child.signal_group(number)
    serving.child.process.wait(30)
    children.started.remove(serving.child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    ("steps", "command", "wanted"),
    [
        (SLOW, "", {"phase": "Progressing", "step": 1, "weight": 20}),
        (HELD, "", {"step": 2, "weight": 60, "reason": "AwaitingApproval"}),
        (SLOW, "pause", {"phase": "Paused", "weight": 20}),
        (QUICK, "", {"phase": "Promoted", "weight": 100}),
        (SLOW, "abort", {"phase": "RolledBack", "weight": 0}),
    ],
    ids=["step", "approval", "paused", "promoted", "rolled back"],
)
def test_a_server_that_ends_in_any_state_is_in_it_again_from_its_first_answer_on(
    children: Children, steps: list[dict[str, Any]], command: str, wanted: dict[str, Any], number: signal.Signals
) -> None:
    first = start_serve(children, name="first")
    begin(first, steps)
    if command:
        reaches(children, first, step=1)
        first.client.request("POST", f"{PATH}/{command}")
    held = reaches(children, first, **wanted)
    kill(children, first, number)
    again = state(start_serve(children, name="second"))
    kept = ("phase", "step", "weight", "since", "moves")
    assert {name: again[name] for name in kept} == {name: held[name] for name in kept}


def test_before_it_began_a_restart_begins_nothing_and_loses_nothing(children: Children) -> None:
    first = start_serve(children, name="first")
    begin(first, QUICK, canary=False)
    reaches(children, first, phase="Pending", reason="CanaryNotReady")
    kill(children, first, signal.SIGKILL)
    second = start_serve(children, name="second")
    assert state(second)["phase"] == "Pending"
    service(second, "shop-v2", 9002)
    reaches(children, second, phase="Promoted")


def test_who_watches_hears_of_every_phase(children: Children) -> None:
    serving = start_serve(children)
    begin(serving, SLOW)
    reaches(children, serving, step=1)
    phases: list[str] = []
    for name, event in serving.client.events("/api/v1/namespaces/default/rollouts", query={"watch": "true"}):
        if name not in ("ADDED", "MODIFIED"):
            continue
        phase = event.get("status", {}).get("rollout", {}).get("phase", "")
        if not phases or phases[-1] != phase:
            phases.append(phase)
            command = {"Progressing": "pause", "Paused": "promote", "Promoted": "abort"}.get(phase)
            if command is None:
                break
            serving.client.request("POST", f"{PATH}/{command}")
    assert phases == ["Progressing", "Paused", "Promoted", "RolledBack"]
    page = serving.client.request("GET", "/metrics").body.decode()
    assert 'fairlead_rollouts{phase="RolledBack"} 1.0' in page
    assert 'fairlead_rollout_transitions_total{phase="Promoted"} 1.0' in page


def test_from_the_command_line(children: Children) -> None:
    serving = start_serve(children)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*FAIRLEAD, "rollout", *arguments, "--server", f"http://127.0.0.1:{serving.api}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert "there are no Rollouts" in run("status").stderr + run("status").stdout
    begin(serving, SLOW)
    reaches(children, serving, step=1)
    assert "Progressing  1/1   20 %" in run("status").stdout
    assert "Paused, the canary has 20 %" in run("pause", "shop").stdout
    assert "Progressing, the canary has 20 %" in run("resume", "shop").stdout
    assert "Promoted, the canary has 100 %" in run("promote", "shop").stdout
    assert "RolledBack, the canary has 0 %" in run("abort", "shop").stdout
    refused = run("promote", "shop")
    assert refused.returncode == 1
    assert "Another spec.version" in refused.stderr
    missing = run("status", "nosuch")
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr


class Monitored(http.server.BaseHTTPRequestHandler):
    """A Prometheus that says what its server holds, or fails while it holds nothing."""

    def do_POST(self) -> None:
        """Answer an instant query."""
        self.rfile.read(int(self.headers["content-length"]))
        value = getattr(self.server, "value", None)
        found = [{"metric": {}, "value": [1, str(value)]}]
        body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}}).encode()
        self.send_response(200 if value is not None else 503)
        self.send_header("content-length", str(len(body) if value is not None else 0))
        self.end_headers()
        self.wfile.write(body if value is not None else b"")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_prometheus_away_holds_it_a_good_value_moves_it_on_and_a_bad_one_takes_it_back(children: Children) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Monitored) as prometheus:
        thread = threading.Thread(target=prometheus.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            serving = start_serve(children, "--prometheus", f"http://127.0.0.1:{prometheus.server_port}")
            analysis = {"interval": "1s", "queries": [{"query": "errors", "max": 0.1}], "failures": 1}
            begin(serving, [{"weight": 20, "pause": "1s"}, {"weight": 60, "pause": "1s"}], analysis=analysis)
            held = reaches(children, serving, reason="NotEnoughData")
            assert held["weight"] == 20
            assert "queries[0] has no value" in held["message"]
            vars(prometheus)["value"] = 0.05
            reaches(children, serving, step=2)
            vars(prometheus)["value"] = 0.5
            ended = reaches(children, serving, phase="RolledBack")
            assert "queries[0] is 0.5 (at most 0.1 is asked)" in ended["message"]
        finally:
            prometheus.shutdown()
            thread.join()


def test_a_prometheus_that_can_be_none_ends_with_2(children: Children) -> None:
    made = subprocess.run(
        [*FAIRLEAD, "serve", "--insecure-xds", "--store", f"sqlite:{children.folder / 'f.db'}", "--prometheus", "x"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 2
    assert "--prometheus: 'x' is no address of a server. Fix: write http://HOST:PORT" in made.stderr
