"""What the demo claims: each chapter does something to the running scene and says, from real requests, what came of it.

A chapter that finds its claim untrue says so; nothing is shown that was not checked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from fairlead.commands.proxies import COLUMNS, TYPES, proxy_row
from fairlead.demo.scene import REVIEWS, ROUTES, SHOP, Scene, split
from fairlead.demo.traffic import Background
from fairlead.output import aligned

REPEATS = 20
REQUESTS = 1000
DEVIATIONS = 5


class Claim(msgspec.Struct, frozen=True):
    """One thing the demo shows. `lines` are for people, `facts` for machines."""

    name: str
    title: str
    ok: bool
    lines: tuple[str, ...]
    facts: dict[str, Any]


def routing(scene: Scene) -> Claim:
    """Requests go where host, path and header say."""
    both, canary = {"reviews v1", "reviews v2"}, {"x-canary": "yes"}
    asked: tuple[tuple[str, tuple[str, str], dict[str, str], set[str]], ...] = (
        ("host reviews.example.com", (REVIEWS, "/"), {}, both),
        ("  with header x-canary: yes", (REVIEWS, "/"), canary, {"reviews v2"}),
        ("host shop.example.com", (SHOP, "/"), {}, {"shop v1"}),
        ("  under the path /reviews", (SHOP, "/reviews/7"), {}, both),
        ("a host nobody serves", ("nobody.example.com", "/"), {}, {"HTTP 404"}),
    )
    ok, lines, facts = True, [], {}
    for what, (host, path), headers, expected in asked:
        found = Counter(scene.visitor.ask(host, path, headers=headers).who for _ in range(REPEATS))
        # Without the header a few of v2 are the split's; that all are, as with it, has a chance of one in 10^20.
        ok = ok and set(found) <= expected and (expected != both or found["reviews v1"] > 0)
        lines.append(f"{what:<28} → {', '.join(f'{who}: {count}' for who, count in sorted(found.items()))}")
        facts[what.strip()] = dict(found)
    title = f"Requests go by host, path and header, {REPEATS} of each"
    return Claim("routing", title, ok, tuple(lines), facts)


def first_split(scene: Scene) -> Claim:
    """A 90/10 split is one, over a thousand requests."""
    counts = scene.visitor.count(REVIEWS, REQUESTS)
    ok, line = judged(counts, {"v1": 90, "v2": 10})
    title = f"A split of 90 to 10, counted over {REQUESTS} requests"
    return Claim("split", title, ok, (line,), {"counts": dict(counts)})


def shifted_split(scene: Scene) -> Claim:
    """The split is changed over REST while requests run, and none fails."""
    weights = {"reviews-v1": 50, "reviews-v2": 50}
    with Background(scene.ports.gateway, REVIEWS) as visitors:
        scene.children.wait_until(lambda: visitors.requests > 50, what="requests in the background")
        scene.client.request("POST", f"{ROUTES}/reviews/split", body={"rule": "all", "weights": weights})
        scene.wait_for("HTTPRoute", "reviews")
        counts = scene.visitor.count(REVIEWS, REQUESTS)
    ok, line = judged(counts, {"v1": 50, "v2": 50})
    lines = (line, f"meanwhile {visitors.requests} other requests, {len(visitors.failures)} failed")
    facts = {"counts": dict(counts), "meanwhile": visitors.requests, "failures": visitors.failures}
    return Claim("shift", "Shifted to 50 to 50 over REST, under traffic", ok and not visitors.failures, lines, facts)


def refused_rule(scene: Scene) -> Claim:
    """A rule that makes no sense is refused with the name of the field, and traffic goes on."""
    field = "spec.rules[0].matches[0].path.value"
    spec = {
        "hostnames": [REVIEWS],
        "rules": [{"matches": [{"path": {"value": "no-slash"}}], "backendRefs": split({"v1": 1})}],
    }
    with Background(scene.ports.gateway, REVIEWS) as visitors:
        refused = scene.refusal("reviews", spec)
        scene.children.wait_until(lambda: visitors.requests > 200, what="requests after the refusal")
    said = str(refused) if refused is not None else "it was accepted"
    ok = refused is not None and field in said and not visitors.failures
    lines = (*said.splitlines(), f"meanwhile {visitors.requests} requests, {len(visitors.failures)} failed")
    facts = {"said": said, "meanwhile": visitors.requests, "failures": visitors.failures}
    return Claim("refusal", "An invalid rule is refused, and traffic goes on", ok, lines, facts)


def moving_instances(scene: Scene) -> Claim:
    """One instance comes, another goes, by an edited file; no request fails."""
    leaving = next(each for each in scene.instances if each.version == "v1" and each.service == "reviews")
    with Background(scene.ports.gateway, REVIEWS) as visitors:
        coming = scene.start_backend("reviews", "v1", "new")
        scene.publish()
        scene.children.wait_until(lambda: visitors.answered(coming.number), what="the new instance to get requests")
        scene.children.wait_until(lambda: visitors.answered(leaving.number), what="the old instance to get requests")
        scene.remove(leaving)
        scene.wait_for("Service", "reviews")
        scene.children.wait_until(
            lambda: visitors.silent_for(leaving.number) > 0.5, what="the old one to be left alone"
        )
        scene.children.started.remove(leaving.child)
        leaving.child.stop()
        before = visitors.requests
        scene.children.wait_until(lambda: visitors.requests > before + 200, what="requests after the removal")
    lines = (
        f"{coming.number} added and {leaving.number} removed by editing a file, then stopped",
        f"meanwhile {visitors.requests} requests, {len(visitors.failures)} failed",
    )
    facts = {
        "added": coming.number,
        "removed": leaving.number,
        "meanwhile": visitors.requests,
        "failures": visitors.failures,
    }
    return Claim("instances", "An instance added, another removed, under traffic", not visitors.failures, lines, facts)


def acknowledged(scene: Scene) -> Claim:
    """Every proxy has acknowledged everything it was sent."""
    rows = {row[0]: row for row in map(proxy_row, scene.client.get("/api/v1/proxies")["items"])}
    states = [words for row in rows.values() for words in row[-len(TYPES) :] if words != "-"]
    ok = bool(states) and all(words.startswith("synced") for words in states)
    lines = tuple(aligned([[column.upper() for column in COLUMNS], *rows.values()]))
    facts = {"proxies": {node: dict(zip(COLUMNS, row, strict=True)) for node, row in rows.items()}}
    return Claim("proxies", "What each proxy has acknowledged", ok, lines, facts)


CHAPTERS: tuple[Callable[[Scene], Claim], ...] = (
    routing,
    first_split,
    shifted_split,
    refused_rule,
    moving_instances,
    acknowledged,
)


def judged(counts: Counter[str], weights: dict[str, int]) -> tuple[bool, str]:
    """Whether counts fit weights within five standard deviations of the binomial distribution, and that in words."""
    requests, total = counts.total(), sum(weights.values())
    ok = set(counts) <= set(weights)
    words = []
    for version, weight in weights.items():
        expected = requests * weight / total
        allowed = DEVIATIONS * math.sqrt(expected * (1 - weight / total))
        ok = ok and abs(counts[version] - expected) <= allowed
        words.append(f"{version}: {counts[version]} (expected {expected:.0f} ± {allowed:.0f})")
    return ok, ", ".join(words)
