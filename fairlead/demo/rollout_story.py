"""What the demo of rollouts claims: some first, a good version promoted, a bad one taken back, by real requests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.client import RefusedError
from fairlead.demo.scene import REVIEWS, Instance, Scene
from fairlead.demo.story import Claim
from fairlead.demo.traffic import Background
from fairlead.errors import CommandError

ROLLOUT = "/api/v1/namespaces/default/rollouts/reviews"
REPEATS = 40
BAD_PERCENT = 30
_AFTER = 200
_ANALYSIS = {"interval": "2s", "minRequests": 40, "successRate": 95, "failures": 2}


class RolloutScene(Scene):
    """Three versions of a service; the third fails in part. All requests go to the first."""

    versions = ("v1", "v2", "v3")
    serve_flags = ("--load-report-interval", "1")

    def start_backends(self) -> None:
        """See `Scene`."""
        for version in ("v1", "v2"):
            self.start_backend("reviews", version, "1")
        self.start_backend("reviews", "v3", "1", failing=BAD_PERCENT)

    def write_first_routes(self) -> None:
        """See `Scene`."""
        self.send_to("v1")

    def send_to(self, version: str) -> None:
        """Write the route with one backend."""
        self.put_route("reviews", {"hostnames": [REVIEWS], "rules": [{"backendRefs": [_subset(version)]}]})

    def roll_out(self, stable: str, canary: str, steps: Sequence[dict[str, Any]], **spec: Any) -> None:
        """Write the Rollout from one version to another, and wait until it has begun."""
        before = self._moves()
        body = {
            "apiVersion": "fairlead.dev/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": "reviews", "namespace": "default"},
            "spec": {
                "targetRef": {"kind": "HTTPRoute", "name": "reviews"},
                "stable": _subset(stable),
                "canary": _subset(canary),
                "steps": list(steps),
                "analysis": _ANALYSIS,
                **spec,
            },
        }
        self.client.request("PUT", ROLLOUT, body=body)
        self.children.wait_until(lambda: self._moves() not in ("", before), what="the rollout to begin")

    def _moves(self) -> str:
        try:
            return str(self.state().get("moves", ""))
        except RefusedError:
            return ""

    def state(self) -> dict[str, Any]:
        """How far the Rollout is."""
        status = self.client.get(ROLLOUT).get("status", {})
        found: dict[str, Any] = status.get("rollout", {})
        return found

    def instance(self, version: str) -> Instance:
        """The backend of a version."""
        return next(each for each in self.instances if each.version == version)


def cohort(scene: RolloutScene) -> Claim:
    """Those who ask for the new version get it, and nobody else."""
    match = [{"header": {"name": "x-canary", "value": "yes"}}]
    asking = {"x-canary": "yes"}
    scene.roll_out("v1", "v2", [{"weight": 0, "pause": "1s", "approval": True}], cohort=match)
    scene.children.wait_until(
        lambda: scene.visitor.ask(REVIEWS, headers=asking).who == "reviews v2", what="the cohort to reach v2"
    )
    asked = Counter(scene.visitor.ask(REVIEWS, headers=asking).who for _ in range(REPEATS))
    others = Counter(scene.visitor.ask(REVIEWS).who for _ in range(REPEATS))
    ok = set(asked) == {"reviews v2"} and set(others) == {"reviews v1"}
    lines = (f"with header x-canary: yes → {_told(asked)}", f"without                   → {_told(others)}")
    facts = {"asked": dict(asked), "others": dict(others)}
    return Claim("cohort", "A/B: who asks for the new version gets it, nobody else does", ok, lines, facts)


def promoted(scene: RolloutScene) -> Claim:
    """A good version gets its shares, then everything, by itself."""
    steps = [{"weight": 20, "pause": "4s"}, {"weight": 60, "pause": "4s"}]
    with Background(scene.ports.gateway, REVIEWS) as visitors:
        scene.roll_out("v1", "v2", steps, version="2")
        weights = _follow(scene)
        counts = scene.visitor.count(REVIEWS, _AFTER)
    state = scene.state()
    good = state["phase"] == "Promoted" and weights == [20, 60, 100]
    ok = good and counts == {"v2": _AFTER} and not visitors.failures
    lines = (
        f"v2 got {', '.join(f'{weight} %' for weight in weights)}: {state['message']}",
        f"judged by {_judged(state)}",
        f"then {_AFTER} requests: {_told(counts)}; in all {visitors.requests}, {len(visitors.failures)} failed",
    )
    facts = {"weights": weights, "state": state, "after": dict(counts), "failures": visitors.failures}
    return Claim("promoted", "A good version is promoted by itself, under traffic", ok, lines, facts)


def taken_back(scene: RolloutScene) -> Claim:
    """A version that fails in part is taken back by itself, before most would have met it."""
    scene.send_to("v2")
    with Background(scene.ports.gateway, REVIEWS) as visitors:
        began = time.monotonic()
        scene.roll_out("v2", "v3", [{"weight": 20, "pause": "4s"}, {"weight": 60, "pause": "4s"}], version="3")
        weights = _follow(scene)
        seconds = time.monotonic() - began
        scene.children.wait_until(
            lambda: visitors.silent_for(scene.instance("v3").number) > 1, what="v3 to get no requests"
        )
        before = len(visitors.failures)
        counts = scene.visitor.count(REVIEWS, _AFTER)
        after = len(visitors.failures) - before
    state, failed = scene.state(), len(visitors.failures)
    met = visitors.answers[scene.instance("v3").number] + failed
    good = state["phase"] == "RolledBack" and weights == [20, 0] and set(visitors.failures) == {"HTTP 503"}
    share = failed / visitors.requests
    ok = good and counts == {"v2": _AFTER} and after == 0 and state["canary"]["failed"] <= failed
    lines = (
        f"after {seconds:.0f} s: {state['message']}",
        f"judged by {_judged(state)}",
        f"v3 met {met} of {visitors.requests} requests and failed {failed} ({share:.1%} of all)",
        f"then {_AFTER} requests: {_told(counts)}; {after} failed",
    )
    facts = {
        "weights": weights,
        "state": state,
        "requests": visitors.requests,
        "met": met,
        "failed": failed,
        "after": dict(counts),
        "seconds": round(seconds, 1),
    }
    return Claim("taken-back", f"A version that fails {BAD_PERCENT} % is taken back by itself", ok, lines, facts)


def _follow(scene: RolloutScene) -> list[int]:
    """The shares that the canary came to have, until the Rollout ends."""
    weights: list[int] = []

    def ended() -> bool:
        state = scene.state()
        if state and state["step"] and (not weights or weights[-1] != state["weight"]):
            weights.append(state["weight"])
        return state.get("phase") in ("Promoted", "RolledBack")

    try:
        scene.children.wait_until(ended, what="the rollout to end", timeout=90)
    except CommandError as error:
        raise CommandError(f"{error}\nthe rollout: {scene.state()}") from None
    return weights


def _judged(state: dict[str, Any]) -> str:
    canary, stable = state["canary"], state["stable"]
    return (
        f"{canary['succeeded']} good and {canary['failed']} failed requests of the canary"
        f" ({stable['succeeded']} and {stable['failed']} of the stable version)"
    )


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{who}: {count}" for who, count in sorted(counts.items()))


def _subset(version: str) -> dict[str, Any]:
    return {"group": "fairlead.dev", "kind": "ServiceSubset", "name": f"reviews-{version}", "port": 80}


CHAPTERS: tuple[Callable[[RolloutScene], Claim], ...] = (cohort, promoted, taken_back)
