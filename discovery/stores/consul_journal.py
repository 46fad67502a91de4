"""Which objects were written lately, so that a watcher reads these and not all. Pure.

Consul tells a watcher that something changed below a prefix, and not what. So each writer keeps a page of its last
writes, numbered, and changes it in the same transaction as the object. A page is a hint: what people do by hand is on
none, a writer may be forgotten, a page may be too short for what a reader missed. Whoever cannot be sure reads all.
An entry of a write that failed is harmless: it is read for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from discovery.consul.wire import NOT_JSON
from discovery.stores.consul_values import Layout, Operation, Pair

MOST_ENTRIES = 60
"""Of a page; a reader that missed no more than these reads them in one request."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A write, by its number and the key in Consul."""

    number: int
    key: str


class Page(msgspec.Struct, frozen=True):
    """A writer's last writes, oldest first, and when the last was (RFC 3339, UTC)."""

    at: str
    entries: tuple[Entry, ...]


class Writing:
    """The page of one writer."""

    def __init__(self, layout: Layout, writer: str) -> None:
        self._at = f"{layout.journal}{writer}"
        self._entries: tuple[Entry, ...] = ()

    def entered(self, key: str, at: str) -> Operation:
        """What writes the page with one more entry."""
        number = self._entries[-1].number + 1 if self._entries else 1
        self._entries = (*self._entries, Entry(number, key))[-MOST_ENTRIES:]
        return Operation("set", self._at, msgspec.json.encode(Page(at, self._entries)))


class Reading:
    """What one watcher has read of all pages."""

    def __init__(self) -> None:
        self._read: dict[str, int] = {}

    def whole(self, pages: Iterable[Pair]) -> None:
        """All objects were read after these pages were."""
        self._read = {pair.key: found.entries[-1].number for pair in pages if (found := page(pair)) is not None}

    def missed(self, pages: Iterable[Pair]) -> frozenset[str] | None:
        """The keys that were written since; None where that cannot be told."""
        names: set[str] = set()
        for pair in pages:
            found, read = page(pair), self._read.get(pair.key, 0)
            if found is None or found.entries[0].number > read + 1 or found.entries[-1].number < read:
                return None
            names |= {entry.key for entry in found.entries if entry.number > read}
            self._read[pair.key] = found.entries[-1].number
        return frozenset(names)


def page(pair: Pair) -> Page | None:
    """The page in a key; None where it is none."""
    try:
        found = msgspec.json.decode(pair.value or b"", type=Page)
    except NOT_JSON:
        return None
    return found if found.entries else None


def forgotten(pages: Iterable[Pair], before: str) -> tuple[Operation, ...]:
    """What to remove of writers that have written nothing since then."""
    return tuple(
        Operation("delete-cas", pair.key, index=pair.modify_index)
        for pair in pages
        if (found := page(pair)) is None or found.at < before
    )
