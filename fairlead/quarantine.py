"""Puts objects out of force while the server runs, and hands back to the model what became of others.

A row of `QUARANTINE` is kept in the store, and goes when its object says something else or is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from mesh.kinds.envoypatch import EnvoyPatch
from mesh.kinds.routepolicy import RoutePolicy, has_parts
from mesh.model import DECLARED, ObjectKey, RejectionKey
from mesh.objects import OBJECTS
from mesh.quarantine import QUARANTINE, Quarantined, fingerprint, quarantined
from mesh.tables import Change, Commit, Engine, Present
from xds.schema.type_urls import short
from xds.translate.result_tables import results_of

PREFIX: Final = "quarantine:"
"""How the names of its documents begin, in the collection of rejections."""

_CAN_GO: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {EnvoyPatch.__name__: lambda _: True, RoutePolicy.__name__: has_parts}
)
"""The kinds of objects without which things can be made, and whether that holds of one."""


class Kept(msgspec.Struct, frozen=True):
    """A row as a document of the store."""

    object: ObjectKey
    row: Quarantined


class Quarantine:
    """Writes the rows. `submit` takes changes of the model, `save` those of documents."""

    def __init__(
        self,
        engine: Engine,
        *,
        submit: Callable[[Iterable[Change]], None],
        save: Callable[[Mapping[str, bytes | None]], None],
    ) -> None:
        self._engine = engine
        self._look = Present(engine)
        self._submit = submit
        self._save = save
        self._out: set[ObjectKey] = set()

    def load(self, name: str, content: bytes) -> bool:
        """Take back a row of an earlier run; False if it cannot be read."""
        try:
            kept = msgspec.json.decode(content, type=Kept)
        except msgspec.DecodeError:
            return False
        self._out.add(kept.object)
        self._submit([Change(QUARANTINE, kept.object, kept.row)])
        return name == _document_name(kept.object)

    def in_force(self, candidates: Iterable[ObjectKey]) -> tuple[ObjectKey, ...]:
        """Those of some objects that could go, sorted."""
        return tuple(sorted(at for at in candidates if at.kind in _CAN_GO and at not in self._out and self._could(at)))

    def _could(self, at: ObjectKey) -> bool:
        row = self._engine.get(OBJECTS, at)
        return row is not None and _CAN_GO[at.kind](row.object)

    def put(self, objects: Iterable[ObjectKey], at: RejectionKey, *, node: str, detail: str) -> bool:
        """Put objects out of force for what a proxy said of a resource; whether there was one that could go."""
        rows = {
            key: Quarantined(fingerprint(row.object), node, f"{short(at.type_url)} {at.name}", detail)
            for key in self.in_force(objects)
            if (row := self._engine.get(OBJECTS, key)) is not None
        }
        self._out.update(rows)
        self._submit([Change(QUARANTINE, key, row) for key, row in rows.items()])
        self._save({_document_name(key): msgspec.json.encode(Kept(key, row)) for key, row in rows.items()})
        return bool(rows)

    def committed(self, commit: Commit) -> None:
        """Tell the model what became of objects; try those again that say something else now."""
        results = results_of(commit)
        if results:
            self._submit(results)
        if not self._out:
            return
        changed = {ObjectKey(key.kind, key.namespace, key.name) for key in commit.of(DECLARED)}
        for key in sorted(self._out & {*changed, *commit.of(QUARANTINE)}):
            if self._is_over(key, changed=key in changed):
                self._out.discard(key)
                self._submit([Change(QUARANTINE, key, None)])
                self._save({_document_name(key): None})

    def _is_over(self, key: ObjectKey, *, changed: bool) -> bool:
        row = self._engine.get(OBJECTS, key)
        if row is None:
            return changed  # and not merely unknown as yet
        return self._engine.get(QUARANTINE, key) is not None and quarantined(self._look, key, row.object) is None


def _document_name(key: ObjectKey) -> str:
    return f"{PREFIX}{key.kind}/{key.namespace}/{key.name}"
