"""What Envoys refused: kept as rows, so that the model puts the last good version back in force, for new proxies too.

A NACK comes in as a `NackReport`; out goes a row of `REJECTIONS` with the objects to blame and the version that stands
meanwhile. The rows are kept in the store across restarts (DESIGN §2). One goes when its resource changes: the next
version deserves its own trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from mesh.model import AUDIENCES, DECLARED, REJECTIONS, Audience, ObjectKey, Rejection, RejectionKey
from mesh.tables import Change, Commit, Engine, Table
from xds.protocol.rejections import NackReport
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER

COLLECTION = "rejections"  # of the store's documents

_NAMED_FOR = {TYPE_LISTENER: "Gateway", TYPE_CLUSTER: "Service", TYPE_ENDPOINT: "Service"}
_NAMED_OTHERWISE = "HTTPRoute"


class Kept(msgspec.Struct, frozen=True):
    """A rejection as a document of the store."""

    key: RejectionKey
    row: Rejection


class Rejections:
    """Turns NACKs into rows, and rows that are over into removals.

    `tables` holds the tables of each resource type, `views` what each audience sees. `submit` takes changes of the
    model, `save` changes of the store's documents (None: remove).
    """

    def __init__(
        self,
        engine: Engine,
        *,
        tables: Mapping[str, tuple[Table[ResourceKey, Resource], ...]],
        views: Table[ViewKey, View],
        submit: Callable[[Iterable[Change]], None],
        save: Callable[[Mapping[str, bytes | None]], None],
    ) -> None:
        self._engine = engine
        self._tables = tables
        self._views = views
        self._submit = submit
        self._save = save
        self._rows: dict[tuple[str, str], dict[RejectionKey, Rejection]] = {}  # by type and resource name
        self._before: dict[ResourceKey, Resource] = {}  # the version before the present one
        self._good: dict[tuple[Audience, ResourceKey], Resource | None] = {}  # where that one had been refused
        self._blame: dict[ResourceKey, frozenset[ObjectKey]] = {}  # what changed when the present version came
        self._waiting: list[NackReport] = []

    def load(self, documents: Mapping[str, bytes]) -> list[str]:
        """Take back the rejections of an earlier run; returns the names of documents that could not be read."""
        unreadable = []
        for name, content in sorted(documents.items()):
            try:
                kept = msgspec.json.decode(content, type=Kept)
            except msgspec.DecodeError:
                unreadable.append(name)
                continue
            self._put(kept.key, kept.row)
        return unreadable

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
        if version == resource.version:
            if known is not None:
                return
            good = self._good.get((report.audience, key), self._before.get(key))
            row = Rejection(
                node=report.node,
                detail=report.detail,
                objects=self._to_blame(table, key),
                last_good=good.any if good is not None else None,
                last_good_version=good.version if good is not None else "",
            )
        elif known is not None and version == known.last_good_version:  # what we took for good had never been tried
            row = msgspec.structs.replace(known, last_good=None, last_good_version="")
        else:
            return
        self._put(at, row)
        self._save({_document_name(at): msgspec.json.encode(Kept(at, row))})

    def committed(self, commit: Commit) -> None:
        """Remember what the new versions replaced and who made them; drop rejections of what is no more."""
        self._forget_audiences({at for at, (_, row) in commit.of(AUDIENCES).items() if row is None})
        changed = frozenset(ObjectKey(key.kind, key.namespace, key.name) for key in commit.of(DECLARED))
        for tables in self._tables.values():
            for table in tables:
                for key, (old, new) in commit.of(table).items():
                    self._replaced(key, old, new, changed=changed)
        waiting, self._waiting = self._waiting, []
        for report in waiting:
            self.refused(report, building=False)

    def _replaced(
        self, key: ResourceKey, old: Resource | None, new: Resource | None, *, changed: frozenset[ObjectKey]
    ) -> None:
        for at, row in list(self._rows.get((key.type_url, key.name), {}).items()):
            if self._engine.get(self._views, ViewKey(at.audience, at.type_url)) is None:
                continue  # nobody of that audience is connected: kept for when it comes back
            found = self._find(at.audience, at.type_url, at.name)
            if found is not None and found[2].version == at.version:
                continue
            if found is not None and old is not None and found[0] == key and at.version == old.version:
                self._good[at.audience, key] = _good_of(row, old)
            self._drop(at)
        if new is None:
            self._before.pop(key, None)
            self._blame.pop(key, None)
            for known in [known for known in self._good if known[1] == key]:
                del self._good[known]
            return
        if old is not None:
            self._before[key] = old
        if changed:
            self._blame[key] = changed
        else:
            self._blame.pop(key, None)

    def _forget_audiences(self, gone: set[Audience]) -> None:
        for at in [at for rows in self._rows.values() for at in rows if at.audience in gone]:
            self._drop(at)
        for known in [known for known in self._good if known[0] in gone]:
            del self._good[known]

    def _put(self, at: RejectionKey, row: Rejection) -> None:
        self._rows.setdefault((at.type_url, at.name), {})[at] = row
        self._submit([Change(REJECTIONS, at, row)])

    def _drop(self, at: RejectionKey) -> None:
        rows = self._rows[at.type_url, at.name]
        del rows[at]
        if not rows:
            del self._rows[at.type_url, at.name]
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
        candidates = origins & self._blame.get(key, frozenset()) or origins
        fitting = _NAMED_FOR.get(key.type_url, _NAMED_OTHERWISE)
        return tuple(sorted({at for at in candidates if at.kind == fitting} or candidates))


def _good_of(row: Rejection, refused: Resource) -> Resource | None:
    if row.last_good is None:
        return None
    return msgspec.structs.replace(refused, any=row.last_good, version=row.last_good_version)


def _document_name(at: RejectionKey) -> str:
    return msgspec.json.encode(at).decode()
