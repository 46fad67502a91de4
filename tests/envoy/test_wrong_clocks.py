"""One machine's clock is wrong while requests go through mutual TLS: that of an Envoy and its agent, or the server's.

A certificate begins two minutes before it is made, so two minutes are what a clock may be off unnoticed. Five are not:
by a clock that is so much behind, a new certificate has not begun; by one ahead, one that lives four minutes has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest

from fairlead.processes import Children
from tests.support.routing import Server
from tests.support.traffic import Traffic
from tests.support.two_envoys import Agents, request, traffic, works
from tests.support.wrong_clock import WrongClock, compiler

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.skipif(compiler() is None, reason="a C compiler is needed for wrong clocks: apt-get install gcc"),
]

LIFE = 240
MINUTES = 60


@pytest.fixture
def clocks(children: Children) -> Mapping[str, WrongClock]:
    return {name: WrongClock(children.folder, name) for name in ("web", "edge", "serve")}


@pytest.fixture
def mesh(children: Children, backend: Server, clocks: Mapping[str, WrongClock]) -> Iterator[Agents]:
    return Agents(children, backend, life=LIFE, clocks=clocks)


def pass_by(mesh: Agents, traffic: Traffic, requests: int = 50) -> None:
    """Let so many more requests pass."""
    begin = traffic.requests
    mesh.children.wait_until(lambda: traffic.requests > begin + requests, what="requests", timeout=120)


def says(mesh: Agents, name: str, words: str) -> None:
    log = mesh.agents[name].log
    mesh.children.wait_until(lambda: words in log.read_text(), what=f"the agent of {name} to say {words!r}")


@pytest.mark.parametrize("seconds", [90, -90])
@pytest.mark.parametrize("side", ["web", "edge"])
def test_a_machine_whose_clock_is_off_by_90_seconds_fails_no_request(
    mesh: Agents, clocks: Mapping[str, WrongClock], side: str, seconds: int
) -> None:
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        clocks[side].put(seconds)
        pass_by(mesh, once)
        for name in (side, "edge" if side == "web" else "web"):  # new certificates on both sides
            taken = mesh.envoys[name].sum("ssl_context_update_by_sds")
            mesh.restart_agent(name)
            mesh.children.wait_until(
                lambda name=name, taken=taken: mesh.envoys[name].sum("ssl_context_update_by_sds") > taken,
                what=f"the Envoy of {name} to use another certificate",
            )
            pass_by(mesh, once)
        clocks[side].put(0)
        pass_by(mesh, once)
    assert once.failures + kept.failures == []


@pytest.mark.parametrize("minutes", [5, -5])
@pytest.mark.parametrize("side", ["web", "edge"])
def test_a_machine_whose_clock_is_off_by_5_minutes_keeps_its_connections_and_is_back_5_seconds_after_the_mend(
    mesh: Agents, clocks: Mapping[str, WrongClock], side: str, minutes: int
) -> None:
    reason = "certificate has expired" if minutes > 0 else "certificate is not yet valid"
    assert works(mesh.port, "kept.test")
    with traffic(mesh.port, "kept.test") as kept:
        clocks[side].put(minutes * MINUTES)
        mesh.children.wait_until(lambda: not works(mesh.port, "once.test"), what="handshakes to fail")
        answer = request(mesh.port, "once.test")
        assert answer.startswith("503"), answer
        assert mesh.envoys[side].sum("ssl.fail_verify_error") > 0
        log = mesh.envoys[side].child.log
        mesh.children.wait_until(lambda: reason in log.read_text().replace("_", " "), what="the reason in the log")
        pass_by(mesh, kept)
        clocks[side].put(0)
        began = time.monotonic()
        mesh.children.wait_until(lambda: works(mesh.port, "once.test"), what="handshakes to succeed")
        took = time.monotonic() - began
    assert kept.failures == []
    assert took < 5, took


@pytest.mark.parametrize("seconds", [90, -90, 5 * MINUTES, -5 * MINUTES])
def test_a_control_plane_whose_clock_is_off_fails_no_request(
    mesh: Agents, clocks: Mapping[str, WrongClock], seconds: int
) -> None:
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        clocks["serve"].put(seconds)
        pass_by(mesh, once)
        had = mesh.renewals()
        mesh.restart_agent("web")
        if abs(seconds) > LIFE:  # what it would sign has not begun, or has ended: the agent's token is not spent on it
            says(mesh, "web", "minutes apart")
        else:
            mesh.children.wait_until(lambda: mesh.renewals() > had, what="a certificate")
        pass_by(mesh, once, 200)
        clocks["serve"].put(0)
        began = time.monotonic()
        mesh.children.wait_until(lambda: mesh.renewals() > had, what="a certificate")
        took = time.monotonic() - began
        pass_by(mesh, once)
    assert once.failures + kept.failures == []
    assert took < 10, took


def test_a_certificate_that_begins_later_is_put_in_force_when_it_begins(
    mesh: Agents, clocks: Mapping[str, WrongClock]
) -> None:
    with traffic(mesh.port, "once.test") as once:
        clocks["serve"].put(140)
        mesh.restart_agent("web")
        log, begin = mesh.agents["web"].log, mesh.agents["web"].log.stat().st_size
        says(mesh, "web", "is off")
        taken = mesh.envoys["web"].sum("ssl_context_update_by_sds")
        mesh.children.wait_until(lambda: "certificate of" in log.read_text()[begin:], what="it to begin")
        mesh.children.wait_until(
            lambda: mesh.envoys["web"].sum("ssl_context_update_by_sds") > taken, what="Envoy to use it"
        )
        pass_by(mesh, once)
    assert once.failures == []
