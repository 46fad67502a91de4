"""What the machine of Rollouts is shown: the target by the model, the traffic by proxies, and what Prometheus says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from mesh.attachments import ATTACHMENTS
from mesh.kinds.duration import milliseconds
from mesh.kinds.rollout import PrometheusQuery, Rollout, RolloutAnalysis
from mesh.model import ObjectKey, RolloutState, Tally
from mesh.objects import find
from mesh.rollout_backends import backend_refs, moved_rule, unavailable
from mesh.rollout_machine import ENDED, Answer, Sight
from mesh.rollouts import ROLLOUT_PLANS, Move, NotMoved, target
from mesh.tables import Engine, Present, Reader
from policy.measures import Measures, Times
from policy.prometheus import NoValueError, Prometheus
from xds.translate.http_route import cluster_of
from xds.translate.names import stat_name

Seen = tuple[RolloutState | None, Sight]


class Clusters(msgspec.Struct, frozen=True):
    """The clusters of a Rollout's two backends; empty where a backend leads nowhere."""

    stable: str = ""
    canary: str = ""


class _Before(msgspec.Struct, frozen=True):
    """What had been measured when a check began."""

    checked: float
    clusters: Clusters
    canary: Tally
    stable: Tally
    times: Times


class Sights:
    """Takes them. `servers` are those of Prometheus by their URL, the default first; `began` is when this began."""

    def __init__(self, engine: Engine, measures: Measures, servers: Mapping[str, Prometheus], *, began: float) -> None:
        self._engine = engine
        self._measures = measures
        self._servers = servers
        self._began = began
        self._before: dict[ObjectKey, _Before] = {}
        self._clusters: dict[ObjectKey, Clusters] = {}

    def mark(self, key: ObjectKey, state: RolloutState) -> None:
        """A check begins now: what is measured from here on is its own."""
        clusters = self._clusters.get(key)
        if clusters is not None:
            self._since(key, state.checked, clusters)

    async def of(
        self,
        states: Mapping[ObjectKey, RolloutState | None],
        others: Mapping[ObjectKey, RolloutState | None],
        now: float,
    ) -> Mapping[ObjectKey, Seen]:
        """The sight of each Rollout, with the state that it goes with. `others` are those that another replica moves:
        what proxies report of them here is counted for it.
        """
        look = Present(self._engine)
        clusters = self._clusters = {key: _clusters(look, key) for key in (*states, *others)}
        going = {key for key, state in others.items() if state is None or state.phase not in ENDED}
        self._measures.watch(*_names(look, clusters))
        self._measures.share(*_names(look, {key: one for key, one in clusters.items() if key in going}))
        self._before = {key: before for key, before in self._before.items() if key in states}
        taken = await asyncio.gather(
            *(self._one(look, key, state, clusters[key], now) for key, state in states.items())
        )
        return {key: (state, sight) for (key, state), sight in zip(states.items(), taken, strict=True)}

    async def _one(
        self, look: Reader, key: ObjectKey, state: RolloutState | None, clusters: Clusters, now: float
    ) -> Sight:
        rollout = find(look, Rollout, key)
        if rollout is None or (state is not None and state.phase in ENDED):
            return Sight(since=self._began)
        plan = look(ROLLOUT_PLANS, target(rollout))
        move = plan.of(key) if plan is not None else None
        if not isinstance(move, Move):
            conflict = isinstance(move, NotMoved) and move.reason == "Conflicted"
            said = move.message if isinstance(move, NotMoved) else "It is not known yet what it moves."
            return Sight(since=self._began, problem=said, conflict=conflict)
        checked = state.checked if state is not None else 0.0
        before = self._since(key, checked, clusters)
        analysis = rollout.spec.analysis
        times = self._measures.timing(stat_name(clusters.canary)).plus(dict(before.times.buckets), sign=-1)
        percentile = analysis.latency.percentile if analysis is not None and analysis.latency is not None else 50.0
        return Sight(
            since=self._began,
            unavailable=unavailable(look, rollout, move),
            canary=_more(self._measures.tally(clusters.canary), before.canary),
            stable=_more(self._measures.tally(clusters.stable), before.stable),
            latency=times.percentile(percentile),
            timed=times.count,
            answers=await self._answers(analysis, checked, now),
        )

    def _since(self, key: ObjectKey, checked: float, clusters: Clusters) -> _Before:
        before = self._before.get(key)
        if before is None or before.checked != checked or before.clusters != clusters:
            before = self._before[key] = _Before(
                checked,
                clusters,
                self._measures.tally(clusters.canary),
                self._measures.tally(clusters.stable),
                self._measures.timing(stat_name(clusters.canary)),
            )
        return before

    async def _answers(self, analysis: RolloutAnalysis | None, checked: float, now: float) -> tuple[Answer, ...]:
        """What Prometheus says, once the check is old enough to be judged."""
        if analysis is None or not checked or (now - checked) * 1_000 < milliseconds(analysis.interval):
            return ()
        return tuple(await asyncio.gather(*(self._answer(query) for query in analysis.queries)))

    async def _answer(self, query: PrometheusQuery) -> Answer:
        name = query.server if query.server is not None else next(iter(self._servers), "")
        server = self._servers.get(name.rstrip("/"))
        if server is None:
            said = f"the server was not started with --prometheus {name}" if name else "no --prometheus was named"
            return Answer(problem=said)
        try:
            return Answer(await server.value(query.query))
        except NoValueError as error:
            return Answer(problem=str(error))


def _more(now: Tally, before: Tally) -> Tally:
    return Tally(now.succeeded - before.succeeded, now.failed - before.failed)


def _names(look: Reader, clusters: Mapping[ObjectKey, Clusters]) -> tuple[set[str], set[str]]:
    """The clusters whose requests are asked for, and the statistics' names of those whose times are."""
    counted = {name for one in clusters.values() for name in (one.stable, one.canary) if name}
    timed = {stat_name(one.canary) for key, one in clusters.items() if one.canary and _asks_times(look, key)}
    return counted, timed


def _asks_times(look: Reader, key: ObjectKey) -> bool:
    rollout = find(look, Rollout, key)
    return rollout is not None and rollout.spec.analysis is not None and rollout.spec.analysis.latency is not None


def _clusters(look: Reader, key: ObjectKey) -> Clusters:
    rollout = find(look, Rollout, key)
    plan = look(ROLLOUT_PLANS, target(rollout)) if rollout is not None else None
    move = plan.of(key) if plan is not None else None
    rule = moved_rule(look, rollout, move) if rollout is not None and isinstance(move, Move) else None
    if rollout is None or rule is None or not isinstance(move, Move):
        return Clusters()
    stable, canary = backend_refs(rule, move)
    route, counted = target(rollout), key if move.apart else None
    attachment = look(ATTACHMENTS, route)
    inside = attachment is None or not any(attachment.listeners())
    found = (
        cluster_of(look, route, stable, rule, inside=inside),
        cluster_of(look, route, canary, rule, counted, inside=inside),
    )
    return Clusters(found[0] or "", found[1] or "")
