"""What the machine of Rollouts is shown: counts since a check began, of the right clusters, and Prometheus' words."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from fairlead.rollouts.sights import Sights
from mesh.model import ObjectKey, RolloutState, Tally
from mesh.rollout_machine import Answer, Sight
from policy.measures import Counts, Measures, Times
from policy.prometheus import NoValueError
from tests.support.model import Model

KEY = ObjectKey("Rollout", "default", "reviews")
STABLE, CANARY = "default/reviews:80", "default/reviews:80@v2"
TIMED = "default/reviews_80@v2"
WORLD = """
kind: HTTPRoute
metadata: {name: reviews}
spec:
  rules:
  - backendRefs:
    - {name: reviews, port: 80}
    - {group: fairlead.dev, kind: ServiceSubset, name: v2, port: 80, weight: 0}
---
kind: ServiceSubset
metadata: {name: v2}
spec: {service: reviews, labels: {version: v2}}
---
kind: Service
metadata: {name: reviews}
spec:
  ports: [{name: http, port: 80}]
  endpoints:
  - {address: 10.0.0.1, ports: {http: 80}, labels: {version: v1}}
  - {address: 10.0.0.2, ports: {http: 80}, labels: {version: v2}}
"""


class Server:
    """A Prometheus that says one thing."""

    def __init__(self, said: float | str) -> None:
        self.said = said
        self.asked: list[str] = []

    async def value(self, query: str) -> float:
        self.asked.append(query)
        if isinstance(self.said, str):
            raise NoValueError(self.said)
        return self.said


def rollout(name: str = "reviews", **spec: Any) -> str:
    made = {
        "kind": "Rollout",
        "metadata": {"name": name},
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "reviews"},
            "stable": {"name": "reviews"},
            "canary": {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "v2"},
            "steps": [{"weight": 10}],
            "analysis": {"interval": "5s", "successRate": 99},
            **spec,
        },
    }
    return f"{WORLD}---\n{msgspec.json.encode(made).decode()}"


class Looking:
    def __init__(self, text: str, **servers: Server) -> None:
        self.model = Model()
        self.model.apply(text)
        self.measures = Measures()
        known: Any = {f"http://{name}": server for name, server in servers.items()}
        self.sights = Sights(self.model.engine, self.measures, known, began=7.0)

    async def at(self, checked: float = 100.0, *, now: float = 101.0, **state: Any) -> Sight:
        found = RolloutState("x", "Progressing", 1, 10, checked=checked, **state)
        _, sight = (await self.sights.of({KEY: found}, {}, now))[KEY]
        return sight


async def test_counts_are_those_of_the_two_clusters_since_the_check_began() -> None:
    looking = Looking(rollout())
    await looking.at()
    for cluster, succeeded, failed in ((STABLE, 90, 1), (CANARY, 9, 2), ("default/other:80", 5, 5)):
        looking.measures.counted(cluster, succeeded, failed)
    sight = await looking.at()
    assert (sight.stable, sight.canary, sight.since) == (Tally(90, 1), Tally(9, 2), 7.0)
    looking.sights.mark(KEY, RolloutState("x", checked=200.0))
    looking.measures.counted(CANARY, 1, 0)
    assert (await looking.at(200.0)).canary == Tally(1, 0)


async def test_only_what_the_rule_sends_counts_where_that_is_asked() -> None:
    looking = Looking(rollout(analysis={"interval": "5s", "successRate": 99, "scope": "Rule"}))
    await looking.at()
    looking.measures.counted(CANARY, 9, 2)
    looking.measures.counted(f"{CANARY}~canary/default/reviews", 4, 1)
    looking.measures.counted(STABLE, 7, 0)
    sight = await looking.at()
    assert (sight.canary, sight.stable) == (Tally(4, 1), Tally(7, 0))


async def test_latency_is_measured_where_it_is_asked_for_and_only_there() -> None:
    plain = Looking(rollout())
    await plain.at()
    assert plain.measures.timed == frozenset()
    looking = Looking(rollout(analysis={"latency": {"percentile": 50, "max": "1s"}}))
    await looking.at()
    assert looking.measures.timed == {TIMED}
    looking.measures.times(TIMED, {1.0: 5, math.inf: 5})
    looking.sights.mark(KEY, RolloutState("x", checked=200.0))
    looking.measures.times(TIMED, {1.0: 0, 10.0: 10, math.inf: 10})
    sight = await looking.at(200.0)
    assert (sight.timed, sight.latency) == (10, 5.5)


async def test_prometheus_is_asked_once_a_check_can_be_judged_and_only_where_the_operator_says() -> None:
    first, second = Server(0.5), Server("it is away")
    queries = [
        {"query": "a", "max": 1},
        {"query": "b", "max": 1, "server": "http://second/"},
        {"query": "c", "max": 1, "server": "http://169.254.169.254"},
    ]
    looking = Looking(rollout(analysis={"interval": "5s", "queries": queries}), first=first, second=second)
    assert (await looking.at(100.0, now=104.0)).answers == ()
    assert first.asked == []
    found = (await looking.at(100.0, now=105.0)).answers
    unknown = "the server was not started with --prometheus http://169.254.169.254"
    assert found == (Answer(0.5), Answer(problem="it is away"), Answer(problem=unknown))
    assert (first.asked, second.asked) == (["a"], ["b"])
    alone = Looking(rollout(analysis={"interval": "5s", "queries": queries[:1]}))
    assert (await alone.at(100.0, now=105.0)).answers == (Answer(problem="no --prometheus was named"),)


async def test_a_canary_without_endpoints_or_without_a_service_is_unavailable() -> None:
    looking = Looking(rollout())
    assert (await looking.at()).unavailable == ""
    looking.model.apply(WORLD.replace("version: v2}}\n---", "version: v3}}\n---").replace("name: v2}", "name: v2}"))
    assert (await looking.at()).unavailable == "ServiceSubset v2 has no endpoints."
    fallback = "labels: {version: v3}, fallback: [{labels: {version: v1}}]"
    looking.model.apply(f"{{kind: ServiceSubset, metadata: {{name: v2}}, spec: {{service: reviews, {fallback}}}}}")
    assert (await looking.at()).unavailable == "ServiceSubset v2 has no endpoints.", "another version is no canary"
    looking.model.delete("ServiceSubset", "v2")
    assert "does not exist" in (await looking.at()).unavailable


async def test_why_nothing_can_be_moved_is_shown_and_a_conflict_as_one() -> None:
    looking = Looking(rollout(targetRef={"kind": "HTTPRoute", "name": "nosuch"}))
    sight = await looking.at()
    assert (sight.problem, sight.conflict) == ("HTTPRoute default/nosuch does not exist.", False)
    looking = Looking(rollout())
    looking.model.apply(rollout("older"))
    sight = await looking.at()
    assert sight.conflict
    assert "Rollout default/older is older" in sight.problem


async def test_one_that_has_ended_asks_nobody() -> None:
    server = Server(1.0)
    looking = Looking(rollout(analysis={"queries": [{"query": "a", "max": 1}]}), first=server)
    await looking.at(100.0, now=500.0, reason="")
    assert server.asked == ["a"]
    ended = RolloutState("x", "Promoted", checked=100.0)
    await looking.sights.of({KEY: ended}, {}, 500.0)
    assert server.asked == ["a"]


async def test_what_another_replica_judges_is_counted_for_it_until_it_has_ended() -> None:
    looking = Looking(rollout(analysis={"latency": {"max": "1s"}}))
    looking.measures.counted(CANARY, 7, 0)
    await looking.sights.of({}, {KEY: None}, 101.0)
    looking.measures.counted(CANARY, 2, 1)
    looking.measures.times(TIMED, {1.0: 2, math.inf: 3})
    shared = looking.measures.shared
    assert (shared.tallies[CANARY], shared.tallies[STABLE]) == (Tally(2, 1), Tally())
    assert {name: found.count for name, found in shared.times.items()} == {TIMED: 3}
    assert await looking.sights.of({}, {KEY: RolloutState("x", "Promoted")}, 102.0) == {}
    assert looking.measures.shared == Counts({}, {})
    assert looking.measures.tally(CANARY) == Tally(2, 1), "an own Rollout of the same canary goes on"


async def test_what_is_moved_here_is_told_to_nobody_and_what_others_heard_counts() -> None:
    looking = Looking(rollout(analysis={"latency": {"percentile": 50, "max": "1s"}}))
    await looking.at()
    looking.measures.counted(CANARY, 2, 1)
    assert looking.measures.shared == Counts({}, {})
    looking.measures.heard(Counts({CANARY: Tally(10, 5)}, {TIMED: Times(((1.0, 4), (math.inf, 4)))}))
    sight = await looking.at()
    assert (sight.canary, sight.timed) == (Tally(12, 6), 4)
    assert looking.measures.shared == Counts({}, {})
