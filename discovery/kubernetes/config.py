"""The config objects of one cluster: custom resources, Namespaces and Secrets as rows of `DECLARED`.

Pure state, no I/O, used like `catalog.py`: `put`, `remove` and `retain` as news comes, then `take` what that changes.
Three rules. An object that `mesh.validation` refuses keeps its last good form (if need be that of an earlier run) and
becomes a problem. A change that only bookkeeping tells of (a status that was written, a new resourceVersion) is none:
otherwise each status we write would come back as news. What Kubernetes leaves out of list items (`apiVersion`, `kind`)
follows from the kind that was listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from discovery.kubernetes.informer_state import Resource
from discovery.kubernetes.wire import Key, Malformed
from mesh.kinds import KINDS, Kind
from mesh.kinds.meta import Object
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.problems import Problem
from mesh.refusals import REFUSED, Refused, refused
from mesh.tables import Change
from mesh.validation import validate
from mesh.validations.structure import BOOKKEEPING

BY_NAME = frozenset({"Secret", "ConfigMap"})
"""Kinds of which only the objects that others refer to are read: see `secrets.py`."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PAGE_SIZE = 100  # a custom resource may have a megabyte and a half

Observer = Callable[[ObjectKey, Mapping[str, Any] | None], None]


def watched_kinds() -> tuple[Kind, ...]:
    """The kinds that are listed whole."""
    return tuple(kind for kind in KINDS.values() if kind.name not in BY_NAME)


def resource(kind: Kind, namespace: str = "", name: str = "") -> Resource:
    """Where a kind is listed: everywhere, in one namespace, or one object by its name."""
    scope = f"/namespaces/{namespace}" if namespace and kind.namespaced else ""
    paths = tuple(
        f"/{'apis' if '/' in version else 'api'}/{version}{scope}/{kind.plural}"
        for version in (kind.api_version, *(other for other in kind.accepted if other != kind.api_version))
    )
    what = f"{kind.name} {namespace}/{name}" if name else f"{kind.name} in {namespace}" if scope else kind.name
    return Resource(what, paths, f"metadata.name={name}" if name else "", _PAGE_SIZE, builtin=not kind.group)


class Config:
    """What a cluster declares. `source` is `kubernetes:<cluster>`.

    `last_good` gives an object as an earlier run of the program knew it; it is asked only where the present form is
    invalid. `observer` is told of every object as the API server holds it, with its status, and of its end by None.
    """

    def __init__(
        self,
        source: str,
        *,
        last_good: Callable[[ObjectKey], Object | None] = lambda _: None,
        observer: Observer = lambda *_: None,
    ) -> None:
        self._source = source
        self._last_good = last_good
        self._observer = observer
        self._rows: dict[ObjectKey, Declared] = {}
        self._there: dict[str, set[ObjectKey]] = {}  # invalid ones too
        self._wrong: dict[ObjectKey, tuple[Problem, ...]] = {}
        self._changed: dict[ObjectKey, None] = {}
        self._refused: dict[ObjectKey, Refused] = {}
        self._refusals: dict[ObjectKey, None] = {}  # that changed
        self._problems: tuple[Problem, ...] | None = None

    @property
    def rows(self) -> Mapping[ObjectKey, Declared]:
        """What is declared at present."""
        return self._rows

    def there(self, kind: str) -> Iterable[ObjectKey]:
        """The objects of a kind that there are, those that are invalid too."""
        return self._there.get(kind, ())

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with objects at present, sorted by object."""
        if self._problems is None:
            self._problems = tuple(problem for key in sorted(self._wrong) for problem in self._wrong[key])
        return self._problems

    def put(self, kind: Kind, raw: Mapping[str, Any]) -> None:
        """An object is there, as the API server tells of it."""
        key = object_key(kind, raw)
        self._there.setdefault(kind.name, set()).add(key)
        self._observer(key, raw)
        present = self._rows.get(key)
        cleaned = _cleaned(kind, raw)
        if present is not None and not present.stale and key not in self._wrong and _same(present.object, cleaned):
            return
        checked = validate(cleaned)
        self._tell(key, tuple(msgspec.structs.replace(problem, file=str(key)) for problem in checked.problems))
        made = checked.object
        self._refuse(key, refused(raw, checked.problems) if made is None else None)
        if made is None:
            made = present.object if present is not None else self._last_good(key)
            if made is None:
                return
        self._declare(key, made)

    def reject(self, kind: Kind, malformed: Malformed) -> None:
        """An object is there that cannot be read at all; what it declared before stands."""
        key = ObjectKey(kind.name, malformed.key.namespace, malformed.key.name)
        self._there.setdefault(kind.name, set()).add(key)
        fix = "put the object again as its kind's reference says"
        self._tell(key, (Problem("Malformed", "error", "", malformed.message, fix, str(key)),))
        present = self._rows.get(key)
        made = present.object if present is not None else self._last_good(key)
        if made is not None:
            self._declare(key, made)

    def remove(self, kind: Kind, at: Key) -> None:
        """An object is gone."""
        self._forget(ObjectKey(kind.name, at.namespace, at.name))

    def retain(self, kind: Kind, keys: Iterable[Key], *, of: Callable[[ObjectKey], bool] = lambda _: True) -> None:
        """Remove all objects of a kind (those that are `of` a list, for one of some only) but these."""
        kept = {ObjectKey(kind.name, key.namespace, key.name) for key in keys}
        present = self._there.get(kind.name, set()) | {key for key in self._rows if key.kind == kind.name}
        for key in sorted(present - kept):
            if of(key):
                self._forget(key)

    def restore(self, objects: Iterable[Object]) -> None:
        """Take objects from an earlier run, marked stale, where nothing newer is known."""
        for made in objects:
            key = ObjectKey(made.kind, made.metadata.namespace, made.metadata.name)
            if key not in self._rows:
                self._rows[key] = self._row(made, stale=True)
                self._changed[key] = None

    def take(self) -> tuple[Change, ...]:
        """What the news since the last call changes, sorted by object; empty if nothing."""
        changed, self._changed = sorted(self._changed), {}
        return tuple(Change(DECLARED, DeclaredKey(*key, self._source), self._rows.get(key)) for key in changed)

    def take_refused(self) -> tuple[Change, ...]:
        """The refusals that the news since the last call changed, sorted by object."""
        changed, self._refusals = sorted(self._refusals), {}
        return tuple(Change(REFUSED, DeclaredKey(*key, self._source), self._refused.get(key)) for key in changed)

    def _refuse(self, key: ObjectKey, row: Refused | None) -> None:
        if row == self._refused.get(key):
            return
        self._refusals[key] = None
        if row is not None:
            self._refused[key] = row
        else:
            del self._refused[key]

    def _declare(self, key: ObjectKey, made: Object) -> None:
        row = self._row(made)
        if row != self._rows.get(key):
            self._rows[key] = row
            self._changed[key] = None

    def _forget(self, key: ObjectKey) -> None:
        self._there.get(key.kind, set()).discard(key)
        self._tell(key, ())
        self._refuse(key, None)
        self._observer(key, None)
        if self._rows.pop(key, None) is not None:
            self._changed[key] = None

    def _tell(self, key: ObjectKey, problems: tuple[Problem, ...]) -> None:
        if problems == self._wrong.get(key, ()):
            return
        self._problems = None
        if problems:
            self._wrong[key] = problems
        else:
            del self._wrong[key]

    def _row(self, made: Object, *, stale: bool = False) -> Declared:
        return Declared(made, f"{self._source}@{made.metadata.resource_version}", stale=stale)


def object_key(kind: Kind, raw: Mapping[str, Any]) -> ObjectKey:
    """The name of an object that was listed."""
    metadata = raw["metadata"]
    return ObjectKey(kind.name, metadata.get("namespace") or "", metadata["name"])


def _cleaned(kind: Kind, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what is the API server's own, so that validation need not look for it."""
    metadata = {name: value for name, value in raw["metadata"].items() if name not in BOOKKEEPING and value is not None}
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and LAST_APPLIED in annotations:
        metadata["annotations"] = {name: value for name, value in annotations.items() if name != LAST_APPLIED}
    cleaned = {name: value for name, value in raw.items() if name != "status"}
    version = raw.get("apiVersion")
    return cleaned | {"apiVersion": version or kind.api_version, "kind": kind.name, "metadata": metadata}


def _same(present: Object, cleaned: Mapping[str, Any]) -> bool:
    """Whether only bookkeeping can have changed. The API server counts generations of a spec, not of metadata."""
    before, now = present.metadata, cleaned["metadata"]
    return bool(
        before.generation
        and before.generation == now.get("generation")
        and before.uid == now.get("uid")
        and before.labels == (now.get("labels") or {})
        and before.annotations == (now.get("annotations") or {})
    )
