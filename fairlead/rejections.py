"""What Envoys refused: kept as rows, so that the model tells of it and puts the last good version back in force.

A NACK comes in as a `NackReport`. The stream that refused goes without that version from then on (`xds.protocol`); here
it is decided whether the version or that one proxy is to blame. A version that any proxy of the audience has taken is
good, and no row is made; where none has, there is a row at once, for people to see, and after a trial in which no other
proxy took the version either, the row stands for all of them: they are given the last good version, new ones too.

Where an object had a part in a refused version without which that could be made (an EnvoyPatch), it is the object which
goes, and nothing is put back (`mesh.quarantine`): at once where no other version could stand, else after the trial.

A row goes when its resource changes, when a proxy takes the version after all, and when those that refused it have been
gone for long: the next may see things differently. The rows are kept in the store across restarts (DESIGN §2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from fairlead.quarantine import PREFIX, Quarantine
from mesh.model import DECLARED, REJECTIONS, Audience, ObjectKey, Rejection, RejectionKey
from mesh.tables import Change, Commit, Engine, Table
from xds.protocol.contents import Entry
from xds.protocol.rejections import NackReport
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER, short

COLLECTION = "rejections"  # of the store's documents

TRIAL_SECONDS: Final = 5.0
"""How long other proxies have to show that a version is good; after a restart of the server they come back by then."""
ABSENT_SECONDS: Final = 600.0
"""How long a rejection outlives the last connection of those that refused."""

_SWEEP_SECONDS: Final = 1.0
_NODES: Final = 1_000  # remembered of those that refused one version

_NAMED_FOR = {TYPE_LISTENER: ("Gateway",), TYPE_CLUSTER: ("Service",), TYPE_ENDPOINT: ("Service",)}
_NAMED_OTHERWISE = ("HTTPRoute", "GRPCRoute")

# Envoy's words, from the system's errors, for what is the matter with its machine and not with what it was sent.
_OWN_TROUBLE = re.compile(
    r"cannot bind|Address already in use|Cannot assign requested address|Permission denied|Too many open files"
)


class Kept(msgspec.Struct, frozen=True):
    """A rejection as a document of the store."""

    key: RejectionKey
    row: Rejection


class Proxies(Protocol):
    """What is asked of the connected proxies (`xds.server.hub.Hub`)."""

    doubted: Mapping[tuple[Audience, str], Mapping[str, str]]

    def acknowledged(self, audience: Audience, type_url: str, name: str) -> Mapping[str, Entry]:
        """What each proxy of an audience has acknowledged of a resource, by node id."""

    def node_ids(self) -> set[str]:
        """The proxies that are connected."""


def refusal_words(report: NackReport) -> str:
    """A refusal as the log tells it: who, of which type, which resources (as far as that can be told), why."""
    what = " ".join(filter(None, (short(report.type_url), ", ".join(sorted(report.versions)))))
    return f"{report.node} refused {what}: {report.detail}"


class Rejections:
    """Turns NACKs into rows, and rows that are over into removals.

    `tables` holds the tables of each resource type, `views` what each audience sees. `submit` takes changes of the
    model, `save` changes of the store's documents (None: remove). `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        proxies: Proxies,
        *,
        tables: Mapping[str, tuple[Table[ResourceKey, Resource], ...]],
        views: Table[ViewKey, View],
        submit: Callable[[Iterable[Change]], None],
        save: Callable[[Mapping[str, bytes | None]], None],
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._proxies = proxies
        self._tables = tables
        self._views = views
        self._submit = submit
        self._save = save
        self._clock = clock
        self._rows: dict[tuple[str, str], dict[RejectionKey, Rejection]] = {}  # by type and resource name
        self._doubted: dict[tuple[Audience, str], dict[str, str]] = {}
        self._nodes: dict[RejectionKey, set[str]] = {}  # those that refused
        self._seen_at: dict[RejectionKey, float] = {}  # when one of them was last there
        self._since: dict[RejectionKey, float] = {}
        self._blame: dict[ResourceKey, frozenset[ObjectKey]] = {}  # what changed when the present version came
        self._waiting: list[NackReport] = []
        self._quarantine = Quarantine(engine, submit=submit, save=save)
        proxies.doubted = self._doubted

    def load(self, documents: Mapping[str, bytes]) -> list[str]:
        """Take back the rejections of an earlier run; returns the names of documents to be removed.

        These could not be read, or have another name since audiences got more fields.
        """
        superfluous = []
        for name, content in sorted(documents.items()):
            if name.startswith(PREFIX):
                if not self._quarantine.load(name, content):
                    superfluous.append(name)
                continue
            try:
                kept = msgspec.json.decode(content, type=Kept)
            except msgspec.DecodeError:
                superfluous.append(name)
                continue
            if _document_name(kept.key) == name:
                self._put(kept.key, kept.row)
            else:
                superfluous.append(name)
                self._keep(kept.key, kept.row)
        return superfluous

    # -- what proxies say ---------------------------------------------------------------------------------------

    def refused(self, report: NackReport, *, building: bool) -> None:
        """A proxy refused something. While a large build runs, provenance cannot be read: it waits for the commit."""
        if building:
            self._waiting.append(report)
            return
        for name, version in sorted(report.versions.items()):
            self._refuse(report, name, version)

    def _refuse(self, report: NackReport, name: str, version: str) -> None:
        found = self._find(report.audience, report.type_url, name)
        if found is None:
            return
        key, table, resource = found
        at = RejectionKey(report.audience, report.type_url, name, resource.version)
        known = self._rows.get((report.type_url, name), {}).get(at)
        taken = self._proxies.acknowledged(report.audience, report.type_url, name)
        if any(entry.version == version for entry in taken.values()):
            return  # it is good, and the trouble that proxy's own
        if known is not None and version == resource.version:
            if len(self._nodes[at]) < _NODES:
                self._nodes[at].add(report.node)
            return
        if known is not None and version == known.last_good_version and not _OWN_TROUBLE.search(report.detail):
            # What one proxy took before, nobody has now, and another refuses.
            row = msgspec.structs.replace(known, last_good=None, last_good_version="", last_good_needs=())
        elif version == resource.version:
            row = Rejection(report.node, report.detail, self._to_blame(table, key), everywhere=False)
            row = _with_good(row, taken, first=report.node)
            if row.last_good is None and not taken:
                self._put_out(at, row)
        else:
            return
        self._keep(at, row)

    def took(self, audience: Audience, type_url: str, versions: Mapping[str, str]) -> None:
        """A proxy has taken what another refused, name → version: it is good."""
        for name, version in sorted(versions.items()):
            at = RejectionKey(audience, type_url, name, version)
            if at in self._nodes:
                self._drop(at)

    # -- what time brings ---------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Sweep, without end."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Put rows in force whose trial is over, and lift those whose proxies are gone for good."""
        if not self._rows:
            return
        now, connected = self._clock(), self._proxies.node_ids()
        for at, row in [item for rows in self._rows.values() for item in rows.items()]:
            if not connected.isdisjoint(self._nodes[at]):
                self._seen_at[at] = now
            if now - self._seen_at[at] > ABSENT_SECONDS:
                self._drop(at)
            elif not row.everywhere and now - self._since[at] >= TRIAL_SECONDS:
                self._conclude(at, row)

    def _conclude(self, at: RejectionKey, row: Rejection) -> None:
        if _OWN_TROUBLE.search(row.detail) or self._put_out(at, row):
            return
        taken = self._proxies.acknowledged(at.audience, at.type_url, at.name)
        row = _with_good(row, taken, first=row.node)
        # Proxies may hold a version that only they know, from before a restart. To withhold would take it from them.
        if row.last_good is not None or not taken:
            self._keep(at, msgspec.structs.replace(row, everywhere=True))

    def _put_out(self, at: RejectionKey, row: Rejection) -> bool:
        """Put the objects to blame for a refused version out of force, if they can go."""
        if _OWN_TROUBLE.search(row.detail):
            return False
        return self._quarantine.put(row.objects, at, node=row.node, detail=row.detail)

    def committed(self, commit: Commit) -> None:
        """Remember who made the new versions; drop rejections of what is no more."""
        self._quarantine.committed(commit)
        changed = frozenset(ObjectKey(key.kind, key.namespace, key.name) for key in commit.of(DECLARED))
        resources: set[tuple[str, str]] = set()
        for tables in self._tables.values():
            for table in tables:
                for key, (_, new) in commit.of(table).items():
                    resources.add((key.type_url, key.name))
                    if new is not None and changed:
                        self._blame[key] = changed
                    else:
                        self._blame.pop(key, None)
        views = commit.of(self._views)
        for at in [at for rows in self._rows.values() for at in rows]:
            if (at.type_url, at.name) in resources or ViewKey(at.audience, at.type_url) in views:
                self._drop_if_over(at)
        waiting, self._waiting = self._waiting, []
        for report in waiting:
            self.refused(report, building=False)

    def _drop_if_over(self, at: RejectionKey) -> None:
        if self._engine.get(self._views, ViewKey(at.audience, at.type_url)) is None:
            return  # nobody of that audience is connected: kept for when it comes back
        found = self._find(at.audience, at.type_url, at.name)
        if found is None or found[2].version != at.version:
            self._drop(at)

    # -- the rows -----------------------------------------------------------------------------------------------

    def _keep(self, at: RejectionKey, row: Rejection) -> None:
        self._put(at, row)
        self._save({_document_name(at): msgspec.json.encode(Kept(at, row))})

    def _put(self, at: RejectionKey, row: Rejection) -> None:
        self._rows.setdefault((at.type_url, at.name), {})[at] = row
        self._doubted.setdefault((at.audience, at.type_url), {})[at.name] = at.version
        self._nodes.setdefault(at, {row.node})
        self._since.setdefault(at, self._clock())
        self._seen_at.setdefault(at, self._clock())
        self._submit([Change(REJECTIONS, at, row)])

    def _drop(self, at: RejectionKey) -> None:
        rows = self._rows[at.type_url, at.name]
        del rows[at], self._nodes[at], self._since[at], self._seen_at[at]
        if not rows:
            del self._rows[at.type_url, at.name]
        doubted = self._doubted[at.audience, at.type_url]
        if doubted.get(at.name) == at.version:
            del doubted[at.name]
            if not doubted:
                del self._doubted[at.audience, at.type_url]
        self._submit([Change(REJECTIONS, at, None)])
        self._save({_document_name(at): None})

    def _find(
        self, audience: Audience, type_url: str, name: str
    ) -> tuple[ResourceKey, Table[ResourceKey, Resource], Resource] | None:
        view = self._engine.get(self._views, ViewKey(audience, type_url))
        for key in view.keys if view is not None else ():
            if key.name == name:
                for table in self._tables.get(type_url, ()):
                    if (resource := self._engine.get(table, key)) is not None:
                        return key, table, resource
        return None

    def _to_blame(self, table: Table[ResourceKey, Resource], key: ResourceKey) -> tuple[ObjectKey, ...]:
        """The objects that this version was made from and that changed with it; of the fitting kind, if there are."""
        declared: Iterable[Any] = self._engine.origins(table, key).get(DECLARED, ())
        origins = {ObjectKey(at.kind, at.namespace, at.name) for at in declared}
        changed = origins & self._blame.get(key, frozenset())
        can_go = self._quarantine.in_force(changed) or self._quarantine.in_force(origins)
        if can_go:
            return can_go if changed.issuperset(can_go) else can_go[-1:]
        candidates = changed or origins
        fitting = _NAMED_FOR.get(key.type_url, _NAMED_OTHERWISE)
        return tuple(sorted({at for at in candidates if at.kind in fitting} or candidates))


def _with_good(row: Rejection, taken: Mapping[str, Entry], *, first: str) -> Rejection:
    """The rejection with what proxies of the audience have taken before, if it can still be had: best what `first` has.

    What the row knows already stays: it was taken from them when the version came.
    """
    if row.last_good is not None:
        return row
    for node in sorted(taken, key=lambda node: (node != first, node)):
        entry = taken[node]
        if entry.content:
            return msgspec.structs.replace(
                row, last_good=entry.content, last_good_version=entry.version, last_good_needs=entry.needs
            )
    return row


def _document_name(at: RejectionKey) -> str:
    return msgspec.json.encode(at).decode()
