"""Keeps what runs the Gateways of one cluster in place: the loop around `provision.py` and `provisioned.py`.

It hears of every commit of the engine (`note`), of whether this replica leads (`lead`), and watches what it made. Every
replica tells the model what is there (rows of `PROVISIONED`); only the leader makes, changes and removes. Objects are
applied server-side, only where the manifest has changed since or somebody else changed the object; a Gateway that is
not accepted keeps what it has. What is no longer wanted is removed once the source has read everything.

What RBAC must permit, in every namespace with Gateways:
    serviceaccounts, configmaps, services ("")       get, list, watch, create, patch, delete
    deployments (apps)                               get, list, watch, create, patch, delete
    poddisruptionbudgets (policy)                    get, list, watch, create, patch, delete
    pods ("", where none becomes ready)              list
    nodes ("", for Services of type NodePort)        list
Lists and watches are by the label `fairlead.dev/provisioned=gateway`, gets by name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from discovery.kubernetes.api import Api, ApiError, UnreachableError
from discovery.kubernetes.applier import Applier
from discovery.kubernetes.informer import Informer
from discovery.kubernetes.informer_state import Resource
from discovery.kubernetes.pod_troubles import pods_trouble
from discovery.kubernetes.provision import GATEWAY_NAME, SELECTOR, Settings, content_of
from discovery.kubernetes.provisioned import (
    PARTS,
    Live,
    Part,
    Trouble,
    is_available,
    must_be_replaced,
    node_addresses,
    refusal,
    row_of,
    strange,
    wants_none,
)
from discovery.kubernetes.troubles import Situation, told
from discovery.kubernetes.wanted import Render, Wanted, defect, wanted
from discovery.kubernetes.wire import Key, Malformed, Reader, UnreadableError
from mesh.client_policies import CLIENT_RULES
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds.meta import JSON
from mesh.model import PROVISIONED, Provisioned, ProvisionedKey
from mesh.objects import OBJECTS
from mesh.problems import Problem
from mesh.provisioning import label_value
from mesh.tables import Change, Commit, Engine, Present

_log = logging.getLogger(__name__)

PARALLEL = 4
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
NODES_AGE = 30.0
PATIENCE = 5.0
"""So long pods may take to become ready before they are asked why not."""
SETTLING = 5.0
_SHARED = frozenset({"GatewayClass", "GatewayParameters"})


class _Sink:
    """What an informer of one kind of object tells, handed on."""

    def __init__(self, owner: Provisioner, part: Part) -> None:
        self._owner = owner
        self._part = part

    def key(self, item: Live) -> Key:
        return item.metadata.key

    def put(self, item: Live) -> None:
        self._owner.saw(self._part, item.metadata.key, item)

    def reject(self, malformed: Malformed) -> None:
        self._owner.saw(self._part, malformed.key, None)

    def remove(self, key: Key) -> None:
        self._owner.saw(self._part, key, None)

    def retain(self, keys: frozenset[Key]) -> None:
        self._owner.saw_only(self._part, keys)


class Provisioner:
    """One cluster's gateways. `source` is the cluster's name as a source, `submit` takes changes of the model.

    `settled` says whether the source has read everything: before, nothing is removed. `namespaces` empty: all.
    `on_problems` is called when `problems` has changed.
    """

    def __init__(
        self,
        api: Api,
        engine: Engine,
        *,
        source: str,
        settings: Settings,
        render: Render,
        submit: Callable[[Iterable[Change]], None],
        settled: Callable[[], bool] = lambda: True,
        namespaces: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._applier = Applier(api)
        self._engine = engine
        self._source = source
        self._settings = settings
        self._render = render
        self._submit = submit
        self._settled = settled
        self._clock = clock
        self._leading = False
        self._wanted: dict[GatewayKey, Wanted] = {}
        self._live: dict[Part, dict[Key, Live]] = {part: {} for part in PARTS}
        self._applied: dict[tuple[Part, Key], str] = {}
        self._told: dict[GatewayKey, Provisioned] = {}
        self._troubles: dict[GatewayKey, Trouble] = {}
        self._due: dict[GatewayKey, float] = {}
        self._pauses: dict[GatewayKey, float] = {}
        self._running: dict[GatewayKey, asyncio.Task[None]] = {}
        self._waits: dict[GatewayKey, float] = {}
        self._nodes: tuple[str, ...] = ()
        self._nodes_at = float("-inf")
        self._settled_at = float("inf")
        self._bell = asyncio.Event()
        self.on_problems: Callable[[], None] = lambda: None
        self._known_problems: tuple[Problem, ...] = ()
        self._informers = [
            (part, Informer(api, resource, Reader(Live), _Sink(self, part), self._heard))
            for part in PARTS
            for resource in _resources(part, namespaces)
        ]

    # -- what is heard ------------------------------------------------------------------------------------------

    def note(self, commit: Commit) -> None:
        """Take in what a commit changed; to be called before the engine is written again."""
        touched = {*commit.of(GATEWAYS), *commit.of(CLIENT_RULES)}
        changed = commit.of(OBJECTS)
        touched |= {GatewayKey(key.namespace, key.name) for key in changed if key.kind == "Gateway"}
        if any(key.kind in _SHARED for key in changed):
            touched |= self._wanted.keys()
        for key in touched:
            self._want(key)

    def renew(self) -> None:
        """What proxies read has changed."""
        for key in list(self._wanted):
            if self._engine.get(GATEWAYS, key) is not None:  # else indexes would be walked, and this is no commit
                self._want(key)

    def lead(self, leading: bool) -> None:
        """Take over, or leave it to others."""
        self._leading = leading
        for key in {*self._wanted, *self._owners()}:
            if leading:
                self._touch(key)
            elif self._troubles.pop(key, None) is not None:
                self._tell(key)  # what goes wrong is for the new leader to say

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What may not be watched; that the API server is away is the source's to tell."""
        return self._known_problems

    def _present_problems(self) -> tuple[Problem, ...]:
        situations = [
            Situation(informer.resource.what, part.group, part.plural, "", informer.trouble)
            for part, informer in self._informers
            if informer.trouble is not None and informer.trouble.code != "Unreachable"
        ]
        return told(self._source, situations)

    def saw(self, part: Part, key: Key, live: Live | None) -> None:
        """An object is there, or gone."""
        before = self._live[part].get(key)
        if live is None:
            self._live[part].pop(key, None)
        else:
            self._live[part][key] = live
        for owner in {one.gateway for one in (before, live) if one is not None}:
            if owner is not None:
                self._tell(owner)
                self._touch(owner)

    def saw_only(self, part: Part, keys: frozenset[Key]) -> None:
        """Nothing else is there."""
        for key in self._live[part].keys() - keys:
            self.saw(part, key, None)

    def _heard(self, changed: bool) -> None:
        """An informer has news; what it saw came through its sink, `changed` is about how it stands itself."""
        self._bell.set()
        if not changed or (present := self._present_problems()) == self._known_problems:
            return
        self._known_problems = present
        self.on_problems()
        for key in self._wanted:
            self._tell(key)

    # -- what follows -------------------------------------------------------------------------------------------

    def _want(self, key: GatewayKey) -> None:
        """Say anew what should run a Gateway."""
        look = Present(self._engine)
        now = wanted(look, key, source=self._source, settings=self._settings, render=self._render)
        if now == self._wanted.get(key):
            return
        if now is None:
            del self._wanted[key]
            self._troubles.pop(key, None)
            self._waits.pop(key, None)
        else:
            self._wanted[key] = now
            self._pauses.pop(key, None)
        self._tell(key)
        self._touch(key)

    def _tell(self, key: GatewayKey) -> None:
        """Give the model the row of a Gateway, if it has changed."""
        found = self._wanted.get(key)
        row = None
        if found is not None:
            at = Key(key.namespace, found.name)
            row = row_of(
                name=found.name,
                service_type=found.service_type,
                service=self._mine("Service", at, key),
                deployment=self._mine("Deployment", at, key),
                node_addresses=self._nodes,
                trouble=self._troubles.get(key) or found.trouble or self._blind(),
            )
        if row == self._told.get(key):
            return
        if row is None:
            del self._told[key]
        else:
            self._told[key] = row
        self._submit([Change(PROVISIONED, ProvisionedKey(key.namespace, key.name, self._source), row)])

    def _blind(self) -> Trouble | None:
        """Why nothing can be done at all, if so: what is there was never seen."""
        if not self._known_problems or all(informer.synced for _, informer in self._informers):
            return None
        problem = self._known_problems[0]
        return Trouble("Pending", f"Fairlead cannot see what runs Gateways: {problem.message}. Fix: {problem.fix}.")

    def _mine(self, kind: str, at: Key, key: GatewayKey) -> Live | None:
        live = self._live[next(part for part in PARTS if part.kind == kind)].get(at)
        return live if live is not None and live.gateway == key else None

    def _touch(self, key: GatewayKey, *, after: float = 0.0) -> None:
        due = self._clock() + after
        self._due[key] = min(due, self._due.get(key, due))
        self._bell.set()

    def _owners(self) -> set[GatewayKey]:
        """The Gateways that something is there of."""
        owners = (live.gateway for lives in self._live.values() for live in lives.values())
        return {owner for owner in owners if owner is not None}

    # -- what is done -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch and keep in place, without end."""
        async with asyncio.TaskGroup() as tasks:
            for _, informer in self._informers:
                tasks.create_task(informer.run())
            while True:
                self._bell.clear()
                pause = self._start(tasks)
                try:
                    async with asyncio.timeout(pause):
                        await self._bell.wait()
                except TimeoutError:
                    pass

    def _start(self, tasks: asyncio.TaskGroup) -> float | None:
        """Begin what is due; the seconds until more is, None where nothing waits."""
        if not self._leading or not all(informer.synced for _, informer in self._informers):
            return None
        now = self._clock()
        for key in [key for key, due in self._due.items() if due <= now and key not in self._running]:
            if len(self._running) >= PARALLEL:
                return None  # the end of one rings the bell
            del self._due[key]
            task = tasks.create_task(self._keep(key))
            self._running[key] = task
            task.add_done_callback(partial(self._done, key))
        waiting = [due for key, due in self._due.items() if key not in self._running]
        return max(0.0, min(waiting) - now) if waiting else None

    def _done(self, key: GatewayKey, _: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        self._bell.set()

    async def _keep(self, key: GatewayKey) -> None:
        """Bring what runs a Gateway to what it should be; what went wrong is told and tried again."""
        trouble: Trouble | None = None
        try:
            trouble = await self._reconcile(key)
        except (UnreachableError, UnreadableError) as error:
            trouble = self._troubles.get(key)  # what is known stands; the source tells of the API server
            self._again(key, str(error))
        except ApiError as error:
            trouble = Trouble("Pending", f"The API server refuses what runs the Gateway: {error}.")
            self._again(key, trouble.message)
        except Exception as error:  # noqa: BLE001 - a defect costs one Gateway, not the program
            trouble = defect(key, error)
            self._again(key, trouble.message)
        else:
            if trouble is None:
                self._pauses.pop(key, None)
            else:
                self._again(key, trouble.message)
        if key not in self._wanted:
            return
        if trouble is None:
            self._troubles.pop(key, None)
        else:
            self._troubles[key] = trouble
        self._tell(key)

    def _again(self, key: GatewayKey, why: str) -> None:
        pause = self._pauses.get(key, 0.0)
        if not pause:
            _log.warning("Gateway %s/%s cannot be provisioned: %s", *key, why)
        self._pauses[key] = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
        self._touch(key, after=self._pauses[key])

    async def _reconcile(self, key: GatewayKey) -> Trouble | None:
        found = self._wanted.get(key)
        if found is not None and found.manifests is None:
            return None
        if found is not None:
            if found.service_type == "NodePort":
                await self._read_nodes()
                self._touch(key, after=NODES_AGE)
            for part, manifest in zip(PARTS, found.manifests or (), strict=True):
                trouble = await self._apply(key, part, manifest, requested=found.requested)
                if trouble is not None:
                    return trouble
        await self._prune(key, found.name if found is not None else "")
        return await self._why_not_ready(key, found.name) if found is not None else None

    async def _apply(self, key: GatewayKey, part: Part, manifest: JSON, *, requested: bool) -> Trouble | None:
        at = Key(key.namespace, manifest["metadata"]["name"])
        live = self._live[part].get(at) or await self._applier.get(part, at)
        if live is not None and live.gateway != key:
            return strange(part.kind, at.name)
        if live is not None and must_be_replaced(live, manifest):
            await self._delete(part, at, live)
            live = None
        if live is not None and self._is_as_applied(part, at, live, manifest):
            return None
        try:
            answered = await self._applier.apply(part, at, manifest)
        except ApiError as error:
            return refusal(part.kind, at.name, error.reason, error.message, requested=requested)
        if answered is not None:
            self._answered(part, at, answered)
        return None

    def _is_as_applied(self, part: Part, at: Key, live: Live, manifest: JSON) -> bool:
        """Whether an object is what we last made of it, and that is what is wanted."""
        if live.metadata.deletion_timestamp is not None or live.content != content_of(manifest):
            return False
        return self._applied.setdefault((part, at), live.version) == live.version

    def _answered(self, part: Part, at: Key, answered: Live) -> None:
        """Take in an object as the API server answered it, unless something newer was seen."""
        self._applied[part, at] = answered.version
        known = self._live[part].get(at)
        if known is None or _newer(answered, known):
            self._live[part][at] = answered

    async def _prune(self, key: GatewayKey, name: str) -> None:
        """Remove what is there of a Gateway under other names than the one that it has now."""
        stale = [
            (part, at, live)
            for part in reversed(PARTS)
            for at, live in self._live[part].items()
            if live.gateway == key and at.name != name and live.metadata.deletion_timestamp is None
        ]
        if stale and not self._may_remove():
            self._touch(key, after=SETTLING)
            return
        for part, at, live in stale:
            await self._delete(part, at, live)

    def _may_remove(self) -> bool:
        """Whether what is not wanted is known not to be: the source has read everything, and the engine has it too."""
        now = self._clock()
        if not self._settled():
            self._settled_at = float("inf")
        elif self._settled_at == float("inf"):
            self._settled_at = now
        return now >= self._settled_at + SETTLING

    async def _delete(self, part: Part, at: Key, live: Live) -> None:
        await self._applier.delete(part, at, live.metadata.uid)
        self._applied.pop((part, at), None)

    async def _why_not_ready(self, key: GatewayKey, name: str) -> Trouble | None:
        """What the pods say of it, where no proxy has been ready for a while and the Deployment says nothing."""
        deployment = self._mine("Deployment", Key(key.namespace, name), key)
        if is_available(deployment) or wants_none(deployment):
            self._waits.pop(key, None)
            return None
        now = self._clock()
        since = self._waits.setdefault(key, now)
        if now < since + PATIENCE:
            self._touch(key, after=since + PATIENCE - now)
            return None
        self._touch(key, after=PATIENCE)
        selector = f"{SELECTOR},{GATEWAY_NAME}={label_value(key.name)}"
        return pods_trouble(await self._applier.pods(key.namespace, selector), self._settings.control_plane)

    async def _read_nodes(self) -> None:
        now = self._clock()
        if now - self._nodes_at < NODES_AGE:
            return
        self._nodes, self._nodes_at = node_addresses(await self._applier.nodes()), now


def _resources(part: Part, namespaces: Sequence[str]) -> list[Resource]:
    what = f"{part.kind}s of Gateways"
    if not namespaces:
        return [Resource(what, (f"{part.root}/{part.plural}",), labels=SELECTOR)]
    return [
        Resource(f"{what} in {namespace}", (f"{part.root}/namespaces/{namespace}/{part.plural}",), labels=SELECTOR)
        for namespace in namespaces
    ]


def _newer(one: Live, other: Live) -> bool:
    versions = one.metadata.resource_version, other.metadata.resource_version
    return all(version.isdigit() for version in versions) and int(versions[0]) > int(versions[1])
