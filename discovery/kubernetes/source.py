"""One cluster as a source: all its watches together, and what stands in for them while its API server is away.

What is only right as a whole is a *part*: the catalog (Services, EndpointSlices, Pods and Nodes make services and
endpoints together) and each kind of config object. A part that has been listed once is believed from then on; before
that, the copy of an earlier run stands in, marked stale, once it is clear that the API server cannot be asked now. With
neither, the source has not synced, unless it is optional.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from discovery.copies import CATALOG, Copies, name_of, object_name
from discovery.kubernetes.api import Api
from discovery.kubernetes.catalog import Catalog
from discovery.kubernetes.catalog import Kind as CatalogKind
from discovery.kubernetes.config import BY_NAME, Config, Observer, resource, watched_kinds
from discovery.kubernetes.informer import Informer
from discovery.kubernetes.informer_state import Resource
from discovery.kubernetes.secrets import TELLING, referenced
from discovery.kubernetes.sinks import CatalogSink, ConfigSink
from discovery.kubernetes.troubles import Situation, told
from discovery.kubernetes.wire import EndpointSlice, Key, Node, Pod, Reader, Service
from mesh.kinds import KINDS, Kind
from mesh.kinds.meta import Object
from mesh.model import DeclaredKey, DiscoveredServiceKey, ObjectKey
from mesh.problems import Problem
from mesh.tables import Change

GIVE_UP_SECONDS = 3.0
"""An API server that has failed for so long at the start is away: copies stand in."""
SILENT_SECONDS = 5.0
"""One that gives not even a page of any list for so long hangs, as it does without etcd."""
HANGING_SECONDS = 20.0
"""So long the list of a kind may take without having failed: a large one needs its time."""
_TICK_SECONDS = 0.25

_CATALOG: Sequence[tuple[Any, str, str]] = (
    (Service, "v1", "services"),
    (EndpointSlice, "discovery.k8s.io/v1", "endpointslices"),
    # Without these two, endpoints lack labels, identities and localities, but they are there.
    (Pod, "v1", "pods"),
    (Node, "v1", "nodes"),
)


class _Watch(msgspec.Struct, frozen=True, eq=False):
    """An informer, the part that it belongs to, and whether that part can be without it.

    `beyond`: it is about what is in no namespace, and only some namespaces are ours to read.
    """

    informer: Informer[Any]
    part: str
    group: str
    plural: str
    namespace: str = ""
    dispensable: bool = False
    beyond: bool = False

    @property
    def complete(self) -> bool:
        """Whether all was seen, or all that may be."""
        trouble = self.informer.trouble
        if self.informer.synced or not self.dispensable or trouble is None:
            return self.informer.synced
        return trouble.code == "Forbidden" if self.beyond else trouble.code != "Unreachable"

    def situation(self) -> Situation:
        at = self.informer
        return Situation(
            at.resource.what, self.group, self.plural, self.namespace, at.trouble, at.missing, beyond=self.beyond
        )


class KubernetesSource:
    """A `discovery.source.Source`. `namespaces` empty: all. `observer`: see `config.Config`.

    `optional`: the program may start without this cluster. `copies` None: nothing is kept for the next run.
    """

    def __init__(
        self,
        cluster: str,
        api: Api,
        *,
        namespaces: Sequence[str] = (),
        optional: bool = False,
        copies: Copies | None = None,
        observer: Observer = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"kubernetes:{cluster}"
        self._api = api
        self._namespaces = tuple(sorted(set(namespaces)))
        self._optional = optional
        self._copies = copies
        self._clock = clock
        self._catalog = Catalog(self.name)
        self._config = Config(self.name, last_good=self._last_good, observer=observer)
        self._watches: list[_Watch] = []
        self._by_name: dict[ObjectKey, _Watch] = {}
        self._tasks: dict[Informer[Any], asyncio.Task[None]] = {}
        self._wanted: frozenset[ObjectKey] = frozenset()
        self._whole: set[str] = set()  # parts that are believed
        self._stale: list[Change] = []  # rows of copies that stand in for the catalog
        self._news = asyncio.Event()
        self._situations: tuple[Problem, ...] | None = None
        self._parts: tuple[tuple[Problem, ...], ...] = ((), (), ())
        self._problems: tuple[Problem, ...] = ()
        self._failure: BaseException | None = None
        self._began = 0.0

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong at present: with the API server, then with objects; the same tuple while nothing changes."""
        if self._situations is None:
            watches = (*self._watches, *self._by_name.values())
            self._situations = told(self.name, [watch.situation() for watch in watches])
        parts = (self._situations, self._catalog.problems, self._config.problems)
        if any(part is not before for part, before in zip(parts, self._parts, strict=True)):
            self._parts, self._problems = parts, sum(parts, ())
        return self._problems

    @property
    def settled(self) -> bool:
        """Whether everything was read from the API server since the start."""
        return {watch.part for watch in self._watches} <= self._whole

    def zone_of_node(self, name: str) -> str:
        """The zone of a Node; empty where that is not known."""
        return self._catalog.zone_of_node(name)

    def want(self, objects: Iterable[ObjectKey]) -> None:
        """Read these Secrets and ConfigMaps too: Gateways of other sources refer to them."""
        wanted = frozenset(objects)
        if wanted != self._wanted:
            self._wanted = wanted
            self._refer()

    async def batches(self) -> AsyncIterator[tuple[Change, ...]]:
        """Yield everything first, then what changes, until cancelled."""
        try:
            if self._copies is not None:
                await self._copies.load()
            self._began = self._clock()
            self._start()
            yield await self._first()
            problems = self.problems
            while True:
                await self._stirred(None)
                batch = self._collect()
                if batch or self.problems is not problems:
                    yield batch
                    problems = self.problems
        finally:
            await self._stop()

    # -- the watches --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        spread: Sequence[str] = self._namespaces or ("",)
        for struct, version, plural in _CATALOG:
            name = cast("CatalogKind", struct.__name__)
            keys: dict[str, set[Key]] | None = {} if self._namespaces else None
            for namespace in spread if struct is not Node else ("",):
                sink = CatalogSink(self._catalog, name, namespace=namespace, keys=keys)
                at = Resource(
                    f"{name} in {namespace}" if namespace else name, (_path(version, namespace, plural),), builtin=True
                )
                informer = self._informer(at, Reader(struct), sink, CATALOG)
                group = version.rpartition("/")[0]
                beyond = bool(self._namespaces) and struct is Node
                self._watches.append(
                    _Watch(
                        informer, CATALOG, group, plural, namespace, dispensable=struct in (Pod, Node), beyond=beyond
                    )
                )
        for kind in watched_kinds():
            beyond = bool(self._namespaces) and not kind.namespaced
            # What an earlier run knew is not forgotten for a right that is lacking now.
            spare = beyond and not (self._copies is not None and self._copies.objects(kind.name))
            for namespace in spread if kind.namespaced else ("",):
                informer = self._config_informer(kind, namespace)
                self._watches.append(
                    _Watch(informer, kind.name, kind.group, kind.plural, namespace, dispensable=spare, beyond=beyond)
                )
        for watch in self._watches:
            self._run(watch.informer)

    def _config_informer(self, kind: Kind, namespace: str, name: str = "") -> Informer[Any]:
        sink = ConfigSink(self._config, kind, namespace=namespace, name=name)
        return self._informer(resource(kind, namespace, name), Reader(dict[str, Any]), sink, kind.name)

    def _informer(self, at: Resource, reader: Reader[Any], sink: Any, part: str) -> Informer[Any]:
        known = self._copies is not None and self._copies.holds(part)
        return Informer(self._api, at, reader, sink, self._note_news, known=known, clock=self._clock)

    def _run(self, informer: Informer[Any]) -> None:
        task = asyncio.get_running_loop().create_task(informer.run(), name=f"{self.name} {informer.resource.what}")
        task.add_done_callback(self._ended)
        self._tasks[informer] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._news.set()

    def _note_news(self, situation: bool) -> None:
        if situation:
            self._situations = None
        self._news.set()

    def _refer(self) -> None:
        """Watch those Secrets and ConfigMaps that are referred to now, each by its name, and no others."""
        wanted = referenced(self._config.rows) | self._wanted
        if self._namespaces:
            wanted = frozenset(key for key in wanted if key.namespace in self._namespaces)
        if wanted == self._by_name.keys():
            return
        for key in sorted(self._by_name.keys() - wanted):
            watch = self._by_name.pop(key)
            self._tasks.pop(watch.informer).cancel()
            self._config.remove(KINDS[key.kind], Key(key.namespace, key.name))
        for key in sorted(wanted - self._by_name.keys()):
            kind = KINDS[key.kind]
            informer = self._config_informer(kind, key.namespace, key.name)
            self._by_name[key] = _Watch(informer, kind.name, kind.group, kind.plural, key.namespace, dispensable=True)
            self._run(informer)
        self._note_news(True)

    async def _stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the first batch ----------------------------------------------------------------------------------------

    async def _first(self) -> tuple[Change, ...]:
        changes = self._collect()
        stood_in = False
        while not (stood_in and all(self._settled(watch) for watch in self._by_name.values())):
            if not stood_in and all(self._settled(watch) for watch in self._watches):
                stood_in = True
                self._stand_in()
                self._refer()
            else:
                await self._stirred(_TICK_SECONDS)
            changes += self._collect()
        for key, watch in self._by_name.items():
            if not watch.complete and (copy := self._last_good(key)) is not None:
                self._config.restore([copy])
        changes += (*self._stale, *self._collect())
        return tuple({(change.table, change.key): change for change in changes}.values())

    def _settled(self, watch: _Watch) -> bool:
        """Whether the first batch need not wait for a watch: it is complete, or it cannot be and we can do without."""
        if watch.complete:
            return True
        waited = self._clock() - self._began
        away = waited >= (GIVE_UP_SECONDS if watch.informer.failed else HANGING_SECONDS) or self._silent()
        return away and (self._optional or self._copied(watch.part))

    def _silent(self) -> bool:
        """Whether the API server has given nothing for a while."""
        return self._clock() - max(watch.informer.heard_at for watch in self._watches) >= SILENT_SECONDS

    def _copied(self, part: str) -> bool:
        return self._copies is not None and self._copies.has(part)

    def _stand_in(self) -> None:
        """Let the copies of an earlier run stand in for what could not be listed."""
        if self._copies is None:
            return
        for part in sorted({watch.part for watch in self._watches} - self._whole):
            if part == CATALOG:
                copies = self._copies.discovered()
                self._stale = [
                    copy for copy in copies if self._covers(cast("DiscoveredServiceKey", copy.key).namespace)
                ]
            else:
                objects = self._copies.objects(part)
                self._config.restore(made for made in objects if self._covers(made.metadata.namespace))

    def _covers(self, namespace: str) -> bool:
        return not (namespace and self._namespaces) or namespace in self._namespaces

    def _last_good(self, key: ObjectKey) -> Object | None:
        return self._copies.object(key) if self._copies is not None else None

    # -- what changes -------------------------------------------------------------------------------------------

    async def _stirred(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()
        if self._failure is not None:
            raise self._failure

    def _collect(self) -> tuple[Change, ...]:
        """What the news so far changes."""
        complete = self._newly_complete()
        catalog: tuple[Change, ...] = ()
        if CATALOG in self._whole or CATALOG in complete:
            catalog = self._catalog.take()
        config = self._config.take()
        if any(cast("DeclaredKey", change.key).kind in TELLING for change in config):
            self._refer()
            config += self._config.take()
        changes = catalog + config
        if self._copies is not None:
            self._copies.note(changes)
        if complete:
            changes += self._believe(complete, catalog)
        return changes + self._config.take_refused()

    def _newly_complete(self) -> set[str]:
        """Parts that are to be believed from now on."""
        if self.settled:
            return {kind for kind in BY_NAME - self._whole if all(at.complete for at in self._by_name.values())}
        lacking = {watch.part for watch in self._watches if not watch.complete}
        return {watch.part for watch in self._watches} - lacking - self._whole

    def _believe(self, parts: set[str], catalog: tuple[Change, ...]) -> tuple[Change, ...]:
        """Take parts for whole: what only a copy tells of them is gone."""
        self._whole |= parts
        gone: tuple[Change, ...] = ()
        if CATALOG in parts:
            rows = {(change.table, change.key) for change in catalog}
            gone = tuple(Change(at.table, at.key, None) for at in self._stale if (at.table, at.key) not in rows)
            self._stale = []
        if self._copies is not None:
            for part in sorted(parts):
                if part == CATALOG:
                    self._copies.whole(part, [name_of(change) for change in catalog])
                else:
                    self._copies.whole(part, [object_name(key) for key in self._config.there(part)])
            if self._whole >= BY_NAME:
                self._copies.forget()
        return gone


def _path(version: str, namespace: str, plural: str) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/{'apis' if '/' in version else 'api'}/{version}{scope}/{plural}"
