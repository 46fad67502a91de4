"""The Kubernetes clusters that settings name: each with its connection, its source, and what only a leader does there.

`cluster_places` reads the setting; `Clusters` is what `fairlead/server.py` sees. Nothing of Kubernetes is imported
where no cluster is asked for.
"""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from discovery.board import Board
from discovery.source import Source
from discovery.stores.store import Store
from fairlead.errors import UsageError
from fairlead.settings import Settings
from fairlead.tasks import Tasks
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.objects import OBJECTS
from mesh.problems import Problem
from mesh.tables import Change, Commit, Engine

if TYPE_CHECKING:
    from discovery.kubernetes.connection import Connection
    from discovery.kubernetes.definitions import Definitions
    from discovery.kubernetes.provisioner import Provisioner

Observer = Callable[[ObjectKey, Mapping[str, Any] | None], None]

DEFAULT = "default"
IN_CLUSTER = "in-cluster"
_NAMED = re.compile(r"([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)=(.*)", re.DOTALL)
_LEASE_NAME = "fairlead"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Place(msgspec.Struct, frozen=True):
    """Where a cluster is: `kubeconfig` empty means the one we run in, `context` empty the kubeconfig's own."""

    name: str
    kubeconfig: str = ""
    context: str = ""


def cluster_places(settings: Settings) -> tuple[Place, ...]:
    """The clusters that `--kubernetes` names, in their order.

    Raises:
        UsageError: a value has not the form, two have one name, or an optional one is not among them.
    """
    places = [_place(value) for value in settings.kubernetes]
    names = [place.name for place in places]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--kubernetes: two clusters are named {name!r}. Fix: name them, as in east=~/.kube/config#east"
            )
    for name in settings.kubernetes_optional:
        if name not in names:
            known = ", ".join(names) or "none"
            raise UsageError(f"--kubernetes-optional: there is no cluster {name!r}. Fix: name one of those: {known}")
    return tuple(places)


def _place(value: str) -> Place:
    named = _NAMED.fullmatch(value)
    name, where = (named[1], named[2]) if named is not None else (DEFAULT, value)
    if where == IN_CLUSTER:
        return Place(name)
    path, _, context = where.partition("#")
    if not path or "\0" in path:
        raise UsageError(
            f"--kubernetes: {value!r} names no cluster. Fix: write {IN_CLUSTER}, or a kubeconfig like ~/.kube/config,"
            " ~/.kube/config#my-context or east=~/.kube/config#east"
        )
    return Place(name, path, context)


class Cluster:
    """One cluster at work."""

    def __init__(self, place: Place, settings: Settings, store: Store, identity: str) -> None:
        from discovery.copies import Copies
        from discovery.kubernetes.class_finalizer import ClassFinalizer
        from discovery.kubernetes.connection import Connection
        from discovery.kubernetes.credentials import InCluster, KubeConfig
        from discovery.kubernetes.events import EventWriter
        from discovery.kubernetes.lease import Lease
        from discovery.kubernetes.source import KubernetesSource
        from discovery.kubernetes.status_writer import StatusWriter

        credentials = KubeConfig(place.kubeconfig, place.context) if place.kubeconfig else InCluster()
        self.name = place.name
        self.inside = not place.kubeconfig
        source = f"kubernetes:{place.name}"
        namespace, name = _lease(settings)
        self.api: Connection = Connection(credentials)
        self.place = f"{place.kubeconfig}#{place.context}"
        self._copies = Copies(store, source, place=self.place)
        self._writer = StatusWriter(self.api, source=source)
        self._events = EventWriter(self.api, instance=identity, unique=lambda: uuid.uuid4().hex)
        self.source = KubernetesSource(
            place.name,
            self.api,
            namespaces=settings.kubernetes_namespaces,
            optional=place.name in settings.kubernetes_optional,
            copies=self._copies,
            observer=self._observe,
        )
        # Who sees some namespaces only does not know whether a class is used.
        self._classes: ClassFinalizer | None = None
        if not settings.kubernetes_namespaces:
            self._classes = ClassFinalizer(self.api, settled=lambda: self.source.settled)
        self._lease = Lease(self.api, namespace=namespace, name=name, identity=identity, changed=self._lead)
        self._provisioner: Provisioner | None = None
        self._definitions: Definitions | None = None
        self.observers: list[Observer] = []

    def look_up_definitions(self, submit: Callable[[Iterable[Change]], None]) -> None:
        """Have the releases of Gateway API's definitions written down."""
        from discovery.kubernetes.definitions import Definitions

        self._definitions = Definitions(self.api, self.source.name, submit)

    def provision(self, provisioner: Provisioner, on_problems: Callable[[], None]) -> None:
        """Run the proxies of Gateways."""
        self._provisioner = provisioner
        provisioner.on_problems = on_problems

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong beside the source's own problems."""
        return self._provisioner.problems if self._provisioner is not None else ()

    def _observe(self, key: ObjectKey, raw: Mapping[str, Any] | None) -> None:
        self._writer.observe(key, raw)
        if self._classes is not None:
            self._classes.observe(key, raw)
        for observer in self.observers:
            observer(key, raw)

    @property
    def leading(self) -> bool:
        """Whether this replica acts on the cluster, at this moment."""
        return self._lease.leading

    @property
    def term(self) -> int:
        """How often another replica has begun to lead there, as far as known."""
        return self._lease.term

    @property
    def holder(self) -> str:
        """Who does, as far as known."""
        return self._lease.holder

    def tell(self, about: Object, reason: str, message: str, *, warning: bool) -> None:
        """Write an Event about an object, soon."""
        from discovery.kubernetes.events import Event

        self._events.tell(Event(about, reason, message, warning, time.time()))

    def _lead(self, leading: bool) -> None:
        self._writer.lead(leading)
        if self._classes is not None:
            self._classes.lead(leading)
        if self._provisioner is not None:
            self._provisioner.lead(leading)

    def start(self, tasks: Tasks) -> None:
        """Begin what is done once the first build is there."""
        name = self.source.name
        if self._provisioner is not None:
            tasks.start(f"{name} gateways", self._provisioner.run())
        tasks.start(f"{name} copies", self._copies.run())
        tasks.start(f"{name} statuses", self._writer.run())
        tasks.start(f"{name} events", self._events.run())
        if self._classes is not None:
            tasks.start(f"{name} classes", self._classes.run())
        tasks.start(f"{name} lease", self._stand(tasks))

    async def _stand(self, tasks: Tasks) -> None:
        """Try to lead, once all that a class says is known: a restart must not take words back to say them again."""
        if self._definitions is not None:
            await self._definitions.look()
            tasks.start(f"{self.source.name} definitions", self._definitions.run())
        await self._lease.run()

    def committed(self, commit: Commit) -> None:
        """Hear of a commit of the engine."""
        self._writer.note(commit)
        if self._provisioner is not None:
            self._provisioner.note(commit)

    async def close(self) -> None:
        """Keep what was not kept yet, and let go of the API server."""
        await self._copies.flush(most=1_000_000)
        await self.api.close()


class Clusters:
    """All clusters. Make it, hand its `sources` to the builder, `start` when ready, `close` at the end."""

    def __init__(self, settings: Settings, store: Store, engine: Engine) -> None:
        """Raises UsageError for settings that cannot be, and where the client of Kubernetes is not installed."""
        places = cluster_places(settings)
        if places:
            _need_client()
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        self._home = _lease(settings)
        self._engine = engine
        self._clusters = tuple(Cluster(place, settings, store, identity) for place in places)

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters)

    @property
    def sources(self) -> Sequence[Source]:
        """Each cluster as a source."""
        return [cluster.source for cluster in self._clusters]

    def apis(self) -> Mapping[str, Connection]:
        """Each cluster's API server, by the cluster's name; the first is where Fairlead keeps what is its own."""
        return {cluster.name: cluster.api for cluster in self._clusters}

    def places(self) -> Mapping[str, str]:
        """Where each cluster is, by its name: what was kept of one is good for no other that has its name now."""
        return {cluster.name: cluster.place for cluster in self._clusters}

    def observe(self, observer: Observer) -> None:
        """Have each object told as its API server holds it, with its status; before the sources are read."""
        for cluster in self._clusters:
            cluster.observers.append(observer)

    def leads(self, source: str) -> bool:
        """Whether this replica acts on the objects of a cluster, by its source's name."""
        return any(cluster.leading for cluster in self._clusters if cluster.source.name == source)

    def term(self, source: str) -> int:
        """How often another replica has begun to lead in a cluster, by its source's name; 0 where it is none."""
        return max((cluster.term for cluster in self._clusters if cluster.source.name == source), default=0)

    def tell(self, source: str, about: Object, reason: str, message: str, *, warning: bool) -> None:
        """Tell of an object of a cluster, by its source's name, to those who look at it there; `reason` is a word."""
        for cluster in self._clusters:
            if cluster.source.name == source:
                cluster.tell(about, reason, message, warning=warning)

    def board(self, name: str) -> Board | None:
        """The board on which the replicas that share the first cluster's Lease pin things; None without a cluster."""
        if not self._clusters:
            return None
        from discovery.kubernetes.board import ConfigMapBoard

        namespace, lease = self._home
        return ConfigMapBoard(self._clusters[0].api, namespace=namespace, name=f"{lease}-{name}")

    def holder(self) -> str:
        """Who leads in the first cluster, as far as known; empty where there is none."""
        return next((cluster.holder for cluster in self._clusters), "")

    def zone(self, cluster: str, node: str) -> str:
        """The zone of a cluster's node; empty where that is not known."""
        return next((each.source.zone_of_node(node) for each in self._clusters if each.name == cluster), "")

    def problems(self) -> Sequence[tuple[str, Problem]]:
        """What is wrong beside the sources' own problems, each with the source's name."""
        return [(cluster.source.name, problem) for cluster in self._clusters for problem in cluster.problems]

    def start(self, tasks: Tasks) -> None:
        """Begin what is done once the first build is there."""
        for cluster in self._clusters:
            cluster.start(tasks)

    def committed(self, commit: Commit) -> None:
        """Hear of a commit of the engine."""
        if not self._clusters:
            return
        self._refer(commit)
        for cluster in self._clusters:
            cluster.committed(commit)

    async def close(self) -> None:
        """Let go of all API servers."""
        for cluster in self._clusters:
            await cluster.close()

    def _refer(self, commit: Commit) -> None:
        """Have every cluster read the Secrets that Gateways of any source refer to."""
        from discovery.kubernetes.secrets import TELLING, referenced

        if any(key.kind in TELLING for key in commit.of(OBJECTS)):
            rows = self._engine.rows(OBJECTS)
            wanted = referenced({key: row for key, row in rows.items() if key.kind in TELLING})
            for cluster in self._clusters:
                cluster.source.want(wanted)


def home_namespace(settings: Settings) -> str:
    """The namespace in which Fairlead keeps what is its own.

    Raises:
        UsageError: the setting that says so has not the form.
    """
    return _lease(settings)[0]


def _lease(settings: Settings) -> tuple[str, str]:
    if not settings.kubernetes_lease:
        return _own_namespace(), _LEASE_NAME
    namespace, slash, name = settings.kubernetes_lease.partition("/")
    if not namespace or not slash or not name or "/" in name:
        raise UsageError(
            f"--kubernetes-lease: {settings.kubernetes_lease!r} names no Lease. Fix: write NAMESPACE/NAME, like"
            " fairlead-system/fairlead"
        )
    return namespace, name


def _own_namespace() -> str:
    try:
        return _POD_NAMESPACE.read_text().strip() or "default"
    except (OSError, UnicodeDecodeError):
        return "default"


def _need_client() -> None:
    from importlib.util import find_spec

    if find_spec("kubernetes") is None or find_spec("aiohttp") is None:
        raise UsageError(
            "--kubernetes: the client of Kubernetes is not installed. Fix: pip install 'fairlead[kubernetes]'"
        )
