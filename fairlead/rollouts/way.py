"""Rollouts in the program: what proxies report is measured, Prometheus asked, and states kept where replicas see them.

`RolloutWay` is what `fairlead/server.py` sees, and what the API asks (`api.ports.Rollouts`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from api import ports
from discovery.stores.store import Store
from fairlead.errors import UsageError
from fairlead.kubernetes.clusters import Clusters
from fairlead.rollouts import counts as rollout_counts
from fairlead.rollouts.counts import SharedCounts
from fairlead.rollouts.mover import COLLECTION, LedWrite, NotKeptError, NotKnownError, NotLeadingError, Rollouts
from fairlead.rollouts.sights import Sights
from fairlead.settings import Settings
from fairlead.stores.documents import DocumentWriter
from fairlead.stores.shared_store import SharedStore
from fairlead.tasks import Tasks
from mesh.kinds.rollout import Rollout
from mesh.model import ObjectKey, RolloutState
from mesh.objects import find, source_of
from mesh.rollout_events import event_of
from mesh.rollout_machine import Command, RefusedError
from mesh.tables import Change, Engine, Present
from policy.measures import Measures
from policy.prometheus import Prometheus, server_problem
from xds.server.lrs import Load, Loads
from xds.server.metrics_sink import Times

_OF_KUBERNETES = "kubernetes:"


class RolloutWay:
    """Wires `rollouts`. `load` before the first build, `start` once it is there, `close` at the end."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        local: Store,
        shared: SharedStore | None,
        clusters: Clusters,
        submit: Callable[[Iterable[Change]], None],
        busy: Callable[[], bool],
    ) -> None:
        """Raises UsageError for settings that cannot be."""
        for url in settings.prometheus:
            problem = server_problem(url)
            if problem:
                raise UsageError(f"--prometheus: {url!r} is no address of a server. Fix: {problem}")
        self.measures = Measures()
        self._local = local
        self._copies = DocumentWriter(local, COLLECTION)
        self._shared = shared
        self._clusters = clusters
        servers = {url.rstrip("/"): Prometheus(url) for url in settings.prometheus}
        self.rollouts = Rollouts(
            engine,
            shared.store if shared is not None else local,
            Sights(engine, self.measures, servers, began=time.time()),
            submit=submit,
            save=self._copies.save,
            leads=self._leads,
            busy=busy,
            board=shared.board(COLLECTION) if shared is not None else None,
            led=self._led,
            term=self._term,
            moved=self._moved,
        )
        self._engine = engine
        pins = shared.board(rollout_counts.COLLECTION) if shared is not None else None
        pins = pins or clusters.board(rollout_counts.COLLECTION)
        self._counts = SharedCounts(self.measures, pins) if pins is not None else None
        clusters.observe(self.rollouts.observed)

    def listen(self, loads: Loads, times: Times) -> None:
        """Measure what proxies report."""
        loads.on_report = self._reported
        times.wanted = lambda: self.measures.timed
        times.on_times = self.measures.times

    def _reported(self, loads: Iterable[Load]) -> None:
        for load in loads:
            self.measures.counted(load.cluster, load.succeeded, load.failed)

    def _moved(self, key: ObjectKey, before: RolloutState | None, after: RolloutState) -> None:
        """Tell those of it who look at the object in its cluster."""
        look = Present(self._engine)
        rollout, source = find(look, Rollout, key), source_of(look, key)
        told = event_of(before, after) if rollout is not None and source.startswith(_OF_KUBERNETES) else None
        if rollout is not None and told is not None:
            self._clusters.tell(source, rollout, told.reason, told.message, warning=told.warning)

    def _leads(self, source: str) -> bool:
        """Objects of a cluster are its leader's, those of a shared store that store's; others are everybody's own."""
        if source.startswith(_OF_KUBERNETES):
            return self._clusters.leads(source)
        return self._shared is None or self._shared.leading

    def _led(self, source: str) -> LedWrite | None:
        """How to write what only the shared store's leader may; None for objects of which others decide who acts."""
        if self._shared is None or source.startswith(_OF_KUBERNETES):
            return None
        return self._shared.write_as_leader

    def _term(self, source: str) -> int:
        """A number that grows with each replica that acts on a source's objects."""
        if source.startswith(_OF_KUBERNETES):
            return self._clusters.term(source)
        return self._shared.term if self._shared is not None else 0

    async def load(self) -> None:
        """Take back how far Rollouts are, before the first build. Raises StoreUnavailable as the local store does."""
        await self.rollouts.load(await self._local.documents(COLLECTION))

    def start(self, tasks: Tasks) -> None:
        """Begin to move them."""
        tasks.start("rollouts", self.rollouts.run())
        tasks.start("rollouts of others", self.rollouts.follow())
        if self._counts is not None:
            tasks.start("counts for others", self._counts.run())
            tasks.start("counts of others", self._counts.listen())
        tasks.start("copies of rollouts", self._copies.run())

    async def close(self) -> None:
        """Keep what was not kept yet."""
        if self._counts is not None:
            await self._counts.close()
        await self._copies.flush()

    def numbers(self) -> Mapping[str, Mapping[str, int]]:
        """For the metrics page."""
        return self.rollouts.numbers()

    async def order(self, key: ObjectKey, command: Command) -> RolloutState:
        """See `api.ports.Rollouts.order`."""
        try:
            return await self.rollouts.order(key, command)
        except NotKnownError as error:
            raise ports.NotFound(str(error)) from error
        except NotLeadingError as error:
            who = self._clusters.holder() or (self._shared.holder if self._shared is not None else "")
            raise ports.Refused(f"{error} Ask the replica that leads{f' ({who})' if who else ''}.") from error
        except RefusedError as error:
            raise ports.Refused(str(error)) from error
        except NotKeptError as error:
            raise ports.Unavailable(str(error), fix=error.fix) from error
