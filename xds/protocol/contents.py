"""What there is of one resource type, and what a client holds of it: immutable mappings from name to resource.

Both are the same kind of value on purpose. A client that holds everything holds the very object that the server
publishes, so that a thousand proxies in one state cost one mapping, and "has anything changed?" is one comparison of
identities. A changed mapping is a copy (4 µs for 1,000 names) that remembers what made it differ from its ancestors, so
that finding the difference costs the change and not the size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import count
from typing import Final

from xds.protocol.claims import Claims
from xds.protocol.frames import delta_head, sotw_head
from xds.resources import Resource, ResourceKey

# How many ancestors a mapping knows its difference from: a client further behind is compared in full.
_REMEMBERED: Final = 16
# Above this a remembered difference is dropped; comparing in full costs about as much.
_MANY: Final = 512

_serials = count(1)


class Entry:
    """A resource ready to be sent. Entries are equal when they are the same object.

    `key` is its place in the tables, None for one that is not from there: what a client says it holds, an empty
    assignment, `ABSENT`.
    """

    __slots__ = (
        "_delta_head",
        "_fingerprint",
        "_sotw_head",
        "content",
        "eds",
        "key",
        "name",
        "needs",
        "provides",
        "version",
    )

    def __init__(
        self,
        name: str,
        version: str,
        content: bytes = b"",
        *,
        needs: tuple[str, ...] = (),
        eds: str = "",
        provides: tuple[str, ...] = (),
        key: ResourceKey | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.content = content
        self.needs = needs
        self.eds = eds
        self.provides = provides
        self.key = key
        self._delta_head = b""
        self._sotw_head = b""
        self._fingerprint = -1

    @classmethod
    def of(cls, key: ResourceKey, resource: Resource) -> Entry:
        """The entry of a row of the resource tables."""
        return cls(
            resource.name,
            resource.version,
            resource.any,
            needs=resource.needs,
            eds=resource.eds,
            provides=resource.provides,
            key=key,
        )

    @property
    def delta_head(self) -> bytes:
        """What precedes `content` in a delta response."""
        if not self._delta_head:
            self._delta_head = delta_head(self.name, self.version, len(self.content))
        return self._delta_head

    @property
    def sotw_head(self) -> bytes:
        """What precedes `content` in a state-of-the-world response."""
        if not self._sotw_head:
            self._sotw_head = sotw_head(len(self.content))
        return self._sotw_head

    @property
    def fingerprint(self) -> int:
        """64 bits of name and version; a mapping's version is their sum, which needs no order."""
        if self._fingerprint < 0:
            self._fingerprint = _fingerprint(self.name, self.version)
        return self._fingerprint

    def __repr__(self) -> str:
        return f"<{self.name}@{self.version}>"


def _fingerprint(name: str, version: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{name}\0{version}".encode(), digest_size=8).digest(), "big")


# Stands where a client named a resource that does not exist: in what it wants, and, once told, in what it holds.
ABSENT: Final = Entry("", "")


class Contents:
    """An immutable mapping from name to `Entry`, compared by identity."""

    __slots__ = ("__dict__", "__weakref__", "_ancestors", "entries", "serial")

    def __init__(self, entries: Mapping[str, Entry], _ancestors: tuple[tuple[int, frozenset[str]], ...] = ()) -> None:
        self.entries = entries
        self.serial = next(_serials)
        self._ancestors = _ancestors

    def get(self, name: str) -> Entry | None:
        """The entry of a name; None where there is none, `ABSENT` where there is known to be none."""
        return self.entries.get(name)

    def has(self, name: str) -> bool:
        """Whether a resource of a known version has this name."""
        entry = self.entries.get(name)
        return entry is not None and entry.version != ""

    def __len__(self) -> int:
        return len(self.entries)

    def replace(self, changes: Mapping[str, Entry | None]) -> Contents:
        """These contents with some names changed, None removing one; these very contents where nothing changes."""
        changes = {name: entry for name, entry in changes.items() if self.entries.get(name) is not entry}
        if not changes:
            return self
        entries = dict(self.entries)
        for name, entry in changes.items():
            if entry is None:
                del entries[name]
            else:
                entries[name] = entry
        changed = frozenset(changes)
        ancestors = [(self.serial, changed)]
        for serial, since in self._ancestors[: _REMEMBERED - 1]:
            if len(since) + len(changed) > _MANY:
                break
            ancestors.append((serial, since | changed))
        return Contents(entries, tuple(ancestors))

    def without(self, names: Iterable[str]) -> Contents:
        """These contents less some names."""
        return self.replace(dict.fromkeys(names))

    def changed_since(self, older: Contents) -> frozenset[str] | None:
        """Names outside which these contents are the same as `older`, an ancestor; None if it is none, or far back."""
        for serial, changed in self._ancestors:
            if serial == older.serial:
                return changed
        return None

    def may_differ_from(self, other: Contents) -> Iterable[str]:
        """Names outside which these contents and `other` are the same."""
        changed = self.changed_since(other)
        if changed is None:
            changed = other.changed_since(self)
        return changed if changed is not None else self.entries.keys() | other.entries.keys()

    @cached_property
    def version(self) -> str:
        """A hash over all (name, version) pairs: equal on all replicas and after a restart.

        Names that were asked for in vain count, so that another list of names makes another version.
        """
        total = sum(
            _fingerprint(name, "") if entry is ABSENT else entry.fingerprint for name, entry in self.entries.items()
        )
        return f"{total % (1 << 64):016x}"

    def versions(self) -> dict[str, str]:
        """Name → version of what there is."""
        return {name: entry.version for name, entry in self.entries.items() if entry is not ABSENT}

    @cached_property
    def claims(self) -> Claims:
        """What a client says that holds all this, and only this."""
        return Claims.of(self.versions())

    @cached_property
    def needs(self) -> frozenset[str]:
        """All that the resources here need: the clusters that they route to, the requirements that they name."""
        return frozenset(name for entry in self.entries.values() for name in entry.needs)

    @cached_property
    def provides(self) -> frozenset[str]:
        """All requirements that are known here."""
        return frozenset(name for entry in self.entries.values() for name in entry.provides)

    def claimed(self, versions: Mapping[str, str]) -> Contents:
        """What a client holds that says it holds these versions: as far as possible the entries of these contents."""
        entries = {}
        for name, version in versions.items():
            known = self.entries.get(name)
            entries[name] = known if known is not None and known.version == version else Entry(name, version)
        return Contents(entries)


EMPTY: Final = Contents({})
