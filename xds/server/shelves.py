"""The present contents per audience and type: the rows of the resource tables, arranged by the views.

Audiences with equal views share one shelf, and so everything that is made from its contents. The cost of a publication
is that of its changes. Holds references to rows, never a table: while a batch is being built in a thread, the engine
must not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mesh.model import Audience
from mesh.tables import Commit, Engine, Table
from xds.protocol.contents import EMPTY, Contents, Entry
from xds.resources import Resource, ResourceKey, View, ViewKey

_NO_VIEW = View(())


class Shelf:
    """One view and its contents. `missing` are keys of the view that have no row."""

    __slots__ = ("contents", "missing", "type_url", "view", "viewers")

    def __init__(self, type_url: str, view: View, contents: Contents, missing: frozenset[ResourceKey]) -> None:
        self.type_url = type_url
        self.view = view
        self.contents = contents
        self.missing = missing
        self.viewers: set[ViewKey] = set()


class Shelves:
    """All shelves that somebody asked for, and the rows to make more.

    A shelf stays as long as an audience has its view, so that a proxy that comes back soon finds it.
    """

    def __init__(
        self,
        resources: Mapping[str, tuple[Table[ResourceKey, Resource], ...]],
        views: Table[ViewKey, View],
    ) -> None:
        self._tables = resources
        self._view_table = views
        self._entries: dict[str, dict[ResourceKey, Entry]] = {type_url: {} for type_url in resources}
        self._views: dict[ViewKey, View] = {}
        self._by_view: dict[tuple[str, View], Shelf] = {}
        self._of: dict[ViewKey, Shelf] = {}

    # -- reading ------------------------------------------------------------------------------------------------

    def contents(self, audience: Audience, type_url: str) -> Contents | None:
        """What an audience should have of a type; None as long as the audience is not known to the tables."""
        key = ViewKey(audience, type_url)
        shelf = self._of.get(key)
        if shelf is not None:
            return shelf.contents
        view = self._views.get(key)
        if view is not None:
            return self._attach(key, view).contents
        # Of a type that there are no tables for there is nothing, and that is known.
        return EMPTY if type_url not in self._entries else None

    def shelved(self) -> int:
        """How many shelves there are."""
        return len(self._by_view)

    # -- writing ------------------------------------------------------------------------------------------------

    def load(self, engine: Engine) -> set[ViewKey]:
        """Take everything that an engine has; for a start after the engine was filled."""
        for type_url, tables in self._tables.items():
            for table in tables:
                rows: Mapping[ResourceKey, Resource] = engine.rows(table)
                self._entries[type_url].update((key, Entry.of(key, row)) for key, row in rows.items())
        self._views.update(engine.rows(self._view_table))
        return set(self._views)

    def publish(self, commit: Commit) -> set[ViewKey]:
        """Take what a commit changed; returns the views whose contents changed, of those that somebody asked for."""
        changed_rows: dict[str, set[ResourceKey]] = {}
        replaced_rows: dict[str, set[ResourceKey]] = {}
        for type_url in self._tables:
            new, replaced = self._take_rows(type_url, commit)
            if new or replaced:
                changed_rows[type_url], replaced_rows[type_url] = new | replaced, replaced
        moved = self._take_views(commit, changed_rows)
        changed = set(moved)
        for shelf in list(self._by_view.values()) if changed_rows else ():
            # A row that was not there before is on no shelf, and only a shelf that misses some may wait for it.
            rows = (changed_rows if shelf.missing else replaced_rows).get(shelf.type_url)
            if rows and self._refill(shelf, rows):
                changed |= shelf.viewers
        return changed

    def _take_rows(self, type_url: str, commit: Commit) -> tuple[set[ResourceKey], set[ResourceKey]]:
        """Take the rows of a type; returns the keys of those that are new, and of those that were there before."""
        new: set[ResourceKey] = set()
        replaced: set[ResourceKey] = set()
        entries = self._entries[type_url]
        for table in self._tables[type_url]:
            for key, (old, row) in commit.of(table).items():
                (new if old is None else replaced).add(key)
                if row is None:
                    entries.pop(key, None)
                else:
                    entries[key] = Entry.of(key, row)
        return new, replaced

    def _take_views(self, commit: Commit, rows: Mapping[str, set[ResourceKey]]) -> Iterator[ViewKey] | list[ViewKey]:
        changed = []
        for key, (_, view) in commit.of(self._view_table).items():
            if view is None:
                self._views.pop(key, None)
            else:
                self._views[key] = view
            shelf = self._of.get(key)
            if shelf is None:
                # Somebody may be waiting for an audience that the tables did not know.
                changed.append(key)
                continue
            self._detach(key)
            if view is not None:
                self._attach(key, view, shelf, rows.get(key.type_url, set()))
            changed.append(key)
        return changed

    # -- shelves ------------------------------------------------------------------------------------------------

    def _attach(self, key: ViewKey, view: View, before: Shelf | None = None, rows: Iterable[ResourceKey] = ()) -> Shelf:
        shelf = self._by_view.get((key.type_url, view))
        if shelf is None:
            shelf = self._make(key.type_url, view, before, rows)
            self._by_view[key.type_url, view] = shelf
        shelf.viewers.add(key)
        self._of[key] = shelf
        return shelf

    def _detach(self, key: ViewKey) -> None:
        shelf = self._of.pop(key)
        shelf.viewers.discard(key)
        if not shelf.viewers:
            del self._by_view[shelf.type_url, shelf.view]

    def _make(self, type_url: str, view: View, before: Shelf | None, rows: Iterable[ResourceKey]) -> Shelf:
        """A shelf for a view; derived from the one before it, so that the contents know what changed."""
        old = before if before is not None else Shelf(type_url, _NO_VIEW, EMPTY, frozenset())
        overrides = dict(view.overrides)
        keys, old_keys = set(view.keys), set(old.view.keys)
        touched = (keys ^ old_keys) | overrides.keys() | {key for key, _ in old.view.overrides}
        touched |= old.missing | keys.intersection(rows)
        names: dict[str, Entry | None] = {key.name: None for key in touched}
        missing = set()
        for key in touched & keys:
            entry = self._entry(type_url, key, overrides)
            if entry is None and key not in overrides:
                missing.add(key)
            if entry is not None:
                names[entry.name] = entry
        contents = old.contents.replace(
            {name: entry for name, entry in names.items() if entry or old.contents.get(name)}
        )
        return Shelf(type_url, view, contents, frozenset(missing))

    def _entry(self, type_url: str, key: ResourceKey, overrides: Mapping[ResourceKey, Resource | None]) -> Entry | None:
        if key in overrides:
            instead = overrides[key]
            return None if instead is None else Entry.of(key, instead)
        return self._entries[type_url].get(key)

    def _refill(self, shelf: Shelf, rows: set[ResourceKey]) -> bool:
        """Put changed rows on a shelf; whether it holds any of them."""
        overridden = {key for key, _ in shelf.view.overrides}
        changes: dict[str, Entry | None] = {}
        missing = set(shelf.missing)
        entries: dict[ResourceKey, Any] = self._entries[shelf.type_url]
        for key in rows - overridden:
            present = shelf.contents.get(key.name)
            if (present is None or present.key != key) and key not in missing:
                continue
            entry = entries.get(key)
            changes[key.name] = entry
            (missing.add if entry is None else missing.discard)(key)
        if not changes:
            return False
        before, shelf.missing = shelf.contents, frozenset(missing)
        shelf.contents = before.replace({name: entry for name, entry in changes.items() if entry or before.get(name)})
        return shelf.contents is not before
