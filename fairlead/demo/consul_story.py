"""What the demo with Consul claims: each chapter changes something in Consul and says what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from fairlead.demo.consul_scene import HOST, ConsulScene
from fairlead.demo.story import Claim, judged
from fairlead.demo.traffic import Background

REQUESTS = 400
_OURS = {"version": "v1", "home": "consul"}


def registered(scene: ConsulScene) -> Claim:
    """An instance registers and gets its share."""

    def act(visitors: Background) -> None:
        second = scene.start_backend("v1", "2")
        scene.east.register(second.id, second.port, Meta=_OURS)
        _until(scene, lambda: visitors.answered(second.id), "the new instance to get requests")

    return _claim(scene, "register", "An instance registers in Consul", act, {"reviews-v1-1": 50, "reviews-v1-2": 50})


def failed_check(scene: ConsulScene) -> Claim:
    """One whose check fails leaves at once."""

    def act(visitors: Background) -> None:
        scene.east.check("reviews-v1-1", "fail")
        _until(scene, lambda: visitors.silent_for("reviews-v1-1") > 0.5, "it to be left alone")

    return _claim(scene, "check", "Its check fails: it gets no more requests", act, {"reviews-v1-2": 100})


def back(scene: ConsulScene) -> Claim:
    """It returns when the check passes."""

    def act(visitors: Background) -> None:
        scene.east.check("reviews-v1-1", "pass")
        _until(scene, lambda: visitors.answered("reviews-v1-1"), "it to be back")

    return _claim(scene, "return", "The check passes: it is back", act, {"reviews-v1-1": 50, "reviews-v1-2": 50})


def drained(scene: ConsulScene) -> Claim:
    """One in maintenance is drained, and can be stopped."""

    def act(visitors: Background) -> None:
        scene.east.maintain("reviews-v1-2", enable=True)
        _until(scene, lambda: visitors.silent_for("reviews-v1-2") > 0.5, "it to be drained")

    claim = _claim(scene, "drain", "An instance in maintenance mode is drained", act, {"reviews-v1-1": 100})
    scene.east.maintain("reviews-v1-2", enable=False)
    _until(scene, lambda: len(_instances(scene, 20)) == 2, "it to be back")
    return claim


def canary(scene: ConsulScene) -> Claim:
    """A new version, found by its tag, gets a tenth."""

    def act(visitors: Background) -> None:
        new = scene.start_backend("v2", "1")
        scene.east.register(new.id, new.port, Tags=["canary"], Meta={"version": "v2", "home": "consul"})
        _until(scene, lambda: visitors.answered(new.id), "the new version to be known")
        scene.split({"stable": 90, "canary": 10})

    title = "A canary by its tag: 90 to 10"
    return _claim(scene, "canary", title, act, {"v1": 90, "v2": 10}, by="version")


def moved(scene: ConsulScene) -> Claim:
    """The service moves from the instances that a file or Kubernetes tells of to Consul's, by weights."""
    scene.route([{"name": "reviews", "port": 80}])
    home = scene.home
    there: set[str] = set()

    def act(visitors: Background) -> None:
        there.update(home.move_in(scene))
        _until(scene, lambda: all(map(visitors.answered, there)), "both to be one service")
        for weight in (0, 50, 100):
            scene.split({f"in-{home.name}": 100 - weight, "in-consul": weight})
            seen = visitors.requests
            _until(scene, lambda seen=seen: visitors.requests > seen + 100, "requests")  # type: ignore[misc]
        home.move_out(scene)

    whence = {"file": "a file", "kubernetes": "Kubernetes"}[home.name]
    title = f"One service from {whence} and from Consul, moved to Consul by weights"
    share = {"reviews-v1-1": 1, "reviews-v1-2": 1, "reviews-v2-1": 1}
    claim = _claim(scene, "move", title, act, share)
    return msgspec.structs.replace(claim, facts={**claim.facts, "from": home.name, "instances": sorted(there)})


def failover(scene: ConsulScene) -> Claim:
    """The second datacenter takes over and gives back."""
    scene.route([{"name": "reviews", "port": 80}])
    own = ("reviews-v1-1", "reviews-v1-2", "reviews-v2-1")
    far = scene.start_backend("v1", "west")

    def act(visitors: Background) -> None:
        scene.west.register(far.id, far.port, Meta=_OURS)
        _until(scene, lambda: len(_sources(scene)) == 2, "the second datacenter's instance to be known")
        for name in own:
            scene.east.check(name, "fail")
        _until(scene, lambda: visitors.answered(far.id), "the second datacenter to take over")

    claim = _claim(scene, "failover", "The second datacenter takes over", act, {"reviews-v1-west": 100})
    for name in own:
        scene.east.check(name, "pass")
    _until(scene, lambda: far.id not in _instances(scene, 20), "its own datacenter to be back")
    return claim


CHAPTERS: tuple[Callable[[ConsulScene], Claim], ...] = (
    registered,
    failed_check,
    back,
    drained,
    canary,
    moved,
    failover,
)


def _claim(
    scene: ConsulScene,
    name: str,
    title: str,
    act: Callable[[Background], None],
    shares: dict[str, int],
    *,
    by: str = "instance",
) -> Claim:
    """Do something under traffic, then count who answers; what is counted must fit the shares, and nothing fail."""
    with Background(scene.ports.gateway, HOST) as visitors:
        act(visitors)
        wanted = set(shares)
        _until(scene, lambda: set(_counted(scene, 40, by)) == wanted, "those to answer that should")
        counts = _counted(scene, REQUESTS, by)
    ok, line = judged(counts, shares)
    lines = (line, f"meanwhile {visitors.requests} other requests, {len(visitors.failures)} failed")
    facts: dict[str, Any] = {"counts": dict(counts), "meanwhile": visitors.requests, "failures": visitors.failures}
    return Claim(name, title, ok and not visitors.failures, lines, facts)


def _counted(scene: ConsulScene, requests: int, by: str) -> Counter[str]:
    return Counter(str(scene.visitor.ask(HOST).body.get(by, "none")) for _ in range(requests))


def _instances(scene: ConsulScene, requests: int) -> set[str]:
    return set(_counted(scene, requests, "instance"))


def _sources(scene: ConsulScene) -> list[str]:
    found = scene.client.items("/api/v1/discovered/services", search="reviews")["items"]
    return [source for item in found for source in item["sources"]]


def _until(scene: ConsulScene, condition: Callable[[], bool], what: str) -> None:
    scene.children.wait_until(condition, what=what, timeout=30)
