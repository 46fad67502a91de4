"""Rollouts on a real Envoy: good versions are promoted and bad ones taken back by what real requests came to."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from fairlead.demo.traffic import Visitor
from fairlead.processes import Children, free_port
from tests.support.programs import RunningEnvoy, Serving, reached, start_envoy, start_serve
from tests.support.routing import Server, backend_server

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"
ANALYSIS = {"interval": "1s", "minRequests": 20, "successRate": 95, "failures": 2}
FAST = ("--load-report-interval", "0.5")


def put(serving: Serving, kind: str, name: str, spec: dict[str, Any]) -> None:
    ours = kind in ("Service", "Rollout")
    group = "fairlead.dev/v1alpha1" if ours else "gateway.networking.k8s.io/v1"
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
    serving.client.request("PUT", f"/api/v1/namespaces/default/{kind.lower()}s/{name}", body=body)


def service(serving: Serving, name: str, *ports: int) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": port}} for port in ports]
    put(serving, "Service", name, {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})


def begin(serving: Serving, stable: Server, canary: Server) -> int:
    gateway = free_port()
    service(serving, "shop", stable.server_port)
    service(serving, "shop-v2", canary.server_port)
    listeners = [{"name": "http", "port": gateway, "protocol": "HTTP"}]
    put(serving, "Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    refs = [{"name": "shop", "port": 80, "weight": 1}, {"name": "shop-v2", "port": 80, "weight": 0}]
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": [{"backendRefs": refs}]}
    put(serving, "HTTPRoute", "shop", spec)
    return gateway


def roll_out(serving: Serving, *steps: dict[str, Any], **spec: Any) -> None:
    body = {
        "targetRef": {"kind": "HTTPRoute", "name": "shop"},
        "stable": {"name": "shop"},
        "canary": {"name": "shop-v2"},
        "steps": list(steps),
        "analysis": ANALYSIS,
        **spec,
    }
    put(serving, "Rollout", "shop", body)


def state(serving: Serving) -> dict[str, Any]:
    status = serving.client.get("/api/v1/namespaces/default/rollouts/shop").get("status", {})
    found: dict[str, Any] = status.get("rollout", {"phase": "", "step": 0, "weight": 0})
    return found


def reaches(children: Children, serving: Serving, **wanted: Any) -> dict[str, Any]:
    """Wait until the Rollout is so."""
    seen: dict[str, Any] = {}

    def so() -> bool:
        seen.update(state(serving))
        return all(seen.get(name) == value for name, value in wanted.items())

    children.wait_until(so, what=f"the rollout to be {wanted}", timeout=60)
    return seen


class Crowd:
    """Visitors that ask without end; `statuses` counts the answers, `who` who gave the good ones."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.statuses: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def _run(self) -> None:
        visitor = Visitor(self._port)
        while not self._stop.is_set():
            self.statuses[visitor.ask(HOST).status] += 1
            self._stop.wait(0.004)
        visitor.close()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


@contextmanager
def crowd(port: int) -> Iterator[Crowd]:
    made = Crowd(port)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def stable() -> Iterator[Server]:
    with backend_server("stable") as server:
        yield server


@pytest.fixture
def canary() -> Iterator[Server]:
    with backend_server("canary") as server:
        yield server


@pytest.fixture
def closed_at_end() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def gateway_up(children: Children, serving: Serving, port: int, *flags: str) -> RunningEnvoy:
    envoy = start_envoy(children, "gateway", "edge", *flags, xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway to answer")
    return envoy


def asked(server: Server) -> int:
    return len(server.seen)


def gets_everything(children: Children, taker: Server, *, not_: Server) -> None:
    """Wait until one backend gets two hundred requests and another none."""

    def so() -> bool:
        taken, others = asked(taker), asked(not_)
        children.wait_until(lambda: asked(taker) >= taken + 200 or asked(not_) > others, what="requests")
        return asked(not_) == others

    children.wait_until(so, what=f"{taker.name} to get everything")


@pytest.mark.shows("Rollout.steps", "weight")
@pytest.mark.shows("Rollout.targetRef", "kind", "name")
@pytest.mark.shows("Rollout.stable", "name")
@pytest.mark.shows("Rollout.canary", "name")
def test_a_good_version_is_promoted_by_the_counts_of_its_requests(
    children: Children, stable: Server, canary: Server
) -> None:
    serving = start_serve(children, *FAST)
    port = begin(serving, stable, canary)
    gateway_up(children, serving, port)
    assert asked(canary) == 0
    with crowd(port) as visitors:
        roll_out(serving, {"weight": 20, "pause": "2s"}, {"weight": 60, "pause": "2s"})
        ended = reaches(children, serving, phase="Promoted")
        gets_everything(children, canary, not_=stable)
    assert set(visitors.statuses) == {200}
    assert ended["canary"]["failed"] == 0
    assert 40 <= ended["canary"]["succeeded"] <= asked(canary)
    assert ended["stable"]["succeeded"] > 0


@pytest.mark.shows("Rollout.analysis", "successRate", "failures", "minRequests")
def test_a_bad_version_is_taken_back_before_many_saw_it_and_says_by_which_counts(
    children: Children, stable: Server, canary: Server
) -> None:
    canary.failing = True
    serving = start_serve(children, *FAST)
    port = begin(serving, stable, canary)
    gateway_up(children, serving, port)
    with crowd(port) as visitors:
        roll_out(serving, {"weight": 20, "pause": "2s"}, {"weight": 60, "pause": "2s"})
        ended = reaches(children, serving, phase="RolledBack")
        assert (ended["step"], ended["weight"], ended["reason"]) == (1, 0, "CheckFailed")
        assert "Failed 2 checks in a row, the last: 0 of" in ended["message"]
        assert ended["canary"]["succeeded"] == 0
        assert 40 <= ended["canary"]["failed"] <= asked(canary)
        gets_everything(children, stable, not_=canary)
    assert set(visitors.statuses) == {200, 500}
    assert visitors.statuses[500] == asked(canary)
    assert visitors.statuses[500] < 0.5 * visitors.statuses[200]


@pytest.mark.shows("Rollout.analysis", "deadline")
def test_without_requests_it_stays_where_it_is_and_is_taken_back_at_its_deadline(
    children: Children, stable: Server, canary: Server
) -> None:
    serving = start_serve(children, *FAST)
    port = begin(serving, stable, canary)
    gateway_up(children, serving, port)
    roll_out(serving, {"weight": 20, "pause": "1s"}, analysis={**ANALYSIS, "deadline": "2s"})
    held = reaches(children, serving, reason="NotEnoughData")
    assert held["weight"] == 20
    ended = reaches(children, serving, phase="RolledBack")
    assert ended["reason"] == "DeadlineExceeded"


@pytest.mark.shows("Rollout.cohort", "header.type", "header.name", "header.value", "cookie.name", "cookie.value")
@pytest.mark.shows("Rollout.targetRef", "group", "sectionName")
@pytest.mark.shows("Rollout.stable", "group", "kind", "namespace", "port")
@pytest.mark.shows("Rollout.canary", "group", "kind", "namespace", "port")
@pytest.mark.shows("Rollout.steps", "approval")
def test_a_cohort_reaches_the_canary_while_nobody_else_does(
    children: Children, stable: Server, canary: Server, closed_at_end: ExitStack
) -> None:
    serving = start_serve(children, *FAST)
    port = begin(serving, stable, canary)
    gateway_up(children, serving, port)
    cohort = [
        {"header": {"name": "x-canary", "value": "yes"}},
        {"header": {"type": "RegularExpression", "name": "x-team", "value": "(red|blue)-.*"}},
        {"cookie": {"name": "beta", "value": "on"}},
    ]
    whole = {"group": "", "kind": "Service", "namespace": "default", "port": 80}
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop", "sectionName": "0"}
    step = {"weight": 0, "pause": "1s", "approval": True}
    both = {"stable": {**whole, "name": "shop"}, "canary": {**whole, "name": "shop-v2"}}
    roll_out(serving, step, cohort=cohort, targetRef=target, **both)
    visitor = closed_at_end.enter_context(closing(Visitor(port)))

    def who(**headers: str) -> str:
        before = asked(canary)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        assert visitor.ask(HOST, headers=named).status == 200
        return "canary" if asked(canary) > before else "stable"

    children.wait_until(lambda: who(x_canary="yes") == "canary", what="the cohort to reach the canary")
    assert who(cookie="a=b; beta=on; c=d") == who(cookie="beta=on") == "canary"
    assert [who(x_team="blue-1"), who(x_team="green-1")] == ["canary", "stable"]
    others = [who(), who(x_canary="no"), who(cookie="beta=off"), who(cookie="alphabeta=on"), who(cookie="beta=on1")]
    assert others == ["stable"] * 5
    # The more of them are asked for: Envoy does not report what a cluster did in the interval in which it came.
    children.wait_until(
        lambda: (
            {who(x_canary="yes") for _ in range(5)} == {"canary"} and state(serving)["reason"] == "AwaitingApproval"
        ),
        what="the step to wait for approval",
        timeout=60,
    )
    assert {who() for _ in range(50)} == {"stable"}
    serving.client.request("POST", "/api/v1/namespaces/default/rollouts/shop/resume")
    reaches(children, serving, phase="Promoted")
    children.wait_until(lambda: who() == "canary", what="everybody to reach the canary")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_in_the_middle_goes_on_and_no_request_notices(
    children: Children, stable: Server, canary: Server, number: signal.Signals
) -> None:
    serving = start_serve(children, *FAST, name="first")
    port = begin(serving, stable, canary)
    gateway_up(children, serving, port)
    with crowd(port) as visitors:
        roll_out(serving, {"weight": 20, "pause": "1s"}, {"weight": 60, "pause": "1s", "approval": True})
        held = reaches(children, serving, step=2)
        serving.child.signal_group(number)
        serving.child.process.wait(30)
        children.started.remove(serving.child)
        seen = asked(canary)
        children.wait_until(lambda: asked(canary) > seen + 20, what="the canary's share without a server")
        again = start_serve(children, *FAST, name="second", xds=serving.xds)
        now = state(again)
        assert (now["step"], now["weight"]) == (2, 60)
        assert now["revision"] >= held["revision"]
        again.client.request("POST", "/api/v1/namespaces/default/rollouts/shop/resume")
        reaches(children, again, phase="Promoted")
    assert set(visitors.statuses) == {200}


@pytest.mark.shows("Rollout.analysis.latency", "max")
@pytest.mark.shows("Rollout", "version")
def test_a_slow_version_is_taken_back_by_what_envoy_measures(
    children: Children, stable: Server, canary: Server
) -> None:
    serving = start_serve(children, *FAST)
    port = begin(serving, stable, canary)
    gateway_up(children, serving, port, "--report-times")
    analysis = {"interval": "1s", "minRequests": 20, "latency": {"percentile": 90, "max": "400ms"}, "failures": 1}
    with crowd(port):
        canary.delay = 0.6
        roll_out(serving, {"weight": 50, "pause": "2s"}, analysis=analysis)
        ended = reaches(children, serving, phase="RolledBack")
        assert ended["reason"] == "CheckFailed", ended
        assert "(limit 400 ms)" in ended["message"]
        canary.delay = 0.0
        patient = {**analysis, "failures": 20}  # the machine may be slow by itself
        roll_out(serving, {"weight": 50, "pause": "2s"}, analysis=patient, version="quick")
        reaches(children, serving, phase="Promoted")
