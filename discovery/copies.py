"""The last rows of a platform, kept in the local store: what is served, marked stale, while it is away.

One small document per row, so that a change writes little; written behind, at a bounded rate and encoded in a thread,
because nobody waits for it. A document that this version cannot read is as good as none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from discovery.stores.store import Store, StoreUnavailable
from mesh.kinds import decode, encode
from mesh.kinds.meta import Object
from mesh.model import (
    DECLARED,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    Declared,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    ObjectKey,
)
from mesh.tables import Change

CATALOG = "catalog"
"""The part of the copies that services and their endpoints are; the other parts are kinds of objects."""
PAUSE_SECONDS = 2.0
AT_ONCE = 500

_WHOLE = "whole"
_PLACE = f"{_WHOLE}/@place"
_LIST = f"{_WHOLE}/@list"
_SERVICES, _ENDPOINTS, _OBJECTS = "service", "endpoints", "object"
_SERVICE_DECODER = msgspec.json.Decoder(DiscoveredService)
_ENDPOINTS_DECODER = msgspec.json.Decoder(DiscoveredEndpoints)
_LIST_DECODER = msgspec.json.Decoder(tuple[str, ...])
_ENCODER = msgspec.json.Encoder(order="deterministic")

T = TypeVar("T")

_log = logging.getLogger(__name__)


def name_of(change: Change) -> str:
    """The document of a row; names in keys hold no slash."""
    key = cast("tuple[str, ...]", change.key)
    if change.table is DECLARED:
        return "/".join((_OBJECTS, *key[:3]))
    return "/".join((_SERVICES if change.table is DISCOVERED_SERVICES else _ENDPOINTS, *key[1:]))


def object_name(key: ObjectKey) -> str:
    """The document of a config object."""
    return "/".join((_OBJECTS, *key))


def _part(name: str) -> str:
    table, _, rest = name.partition("/")
    return rest.partition("/")[0] if table == _OBJECTS else CATALOG


def _encoded(row: Any) -> bytes:
    return encode(row.object) if isinstance(row, Declared) else _ENCODER.encode(row)


class Copies:
    """The copies of one source. `load` first; `run` writes what `note` and `whole` say, without end.

    `place` says where the platform is. Copies from another place are of another one that had the same name: they are
    removed, and never served.
    """

    def __init__(self, store: Store, source: str, *, place: str = "") -> None:
        self._store = store
        self._source = source
        self._place = place.encode()
        self._loaded: dict[str, bytes] = {}
        self._known: dict[str, int] = {}
        self._whole: set[str] = set()
        self._holding: frozenset[str] = frozenset()
        self._waiting: dict[str, Any] = {}
        self._bell = asyncio.Event()

    async def load(self) -> None:
        """Read what an earlier run left.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        self._loaded = dict(await self._store.documents(self._source))
        self._known = {name: hash(body) for name, body in self._loaded.items()}
        if self._loaded.get(_PLACE, b"") != self._place:
            self._waiting = dict.fromkeys(self._loaded) | {_PLACE: self._place}
            self._loaded = {}
        self._whole = {name for name in self._loaded if name.startswith(f"{_WHOLE}/")}
        self._holding = frozenset(map(_part, self._loaded.keys() - self._whole))

    def has(self, part: str) -> bool:
        """Whether there is a copy of all that a part had; it may be empty."""
        return f"{_WHOLE}/{part}" in self._whole

    def holds(self, part: str) -> bool:
        """Whether an earlier run left anything of a part."""
        return part in self._holding

    def listed(self) -> tuple[str, ...]:
        """The other sources that an earlier run found beside this one."""
        body = self._loaded.get(_LIST)
        return (self._read(_LIST_DECODER.decode, body) or ()) if body is not None else ()

    def list_others(self, names: Iterable[str]) -> None:
        """These other sources were found beside this one."""
        self._waiting[_LIST] = _ENCODER.encode(tuple(names))
        self._bell.set()

    def object(self, key: ObjectKey) -> Object | None:
        """One object as an earlier run knew it."""
        body = self._loaded.get(object_name(key))
        return self._read(partial(decode, key.kind), body) if body is not None else None

    def objects(self, kind: str) -> list[Object]:
        """All objects of a kind as an earlier run knew them."""
        begin = f"{_OBJECTS}/{kind}/"
        bodies = [body for name, body in self._loaded.items() if name.startswith(begin)]
        found = [self._read(partial(decode, kind), body) for body in bodies]
        return [made for made in found if made is not None]

    def discovered(self) -> list[Change]:
        """All services and endpoints as an earlier run knew them, marked stale."""
        found: list[Change] = []
        for name, body in self._loaded.items():
            table, *at = name.split("/")
            if table == _SERVICES and len(at) == len(DiscoveredServiceKey._fields) - 1:
                service = self._read(_SERVICE_DECODER.decode, body)
                if service is not None:
                    row = msgspec.structs.replace(service, stale=True)
                    found.append(Change(DISCOVERED_SERVICES, DiscoveredServiceKey(self._source, *at), row))
            elif table == _ENDPOINTS and len(at) == len(DiscoveredEndpointsKey._fields) - 1:
                endpoints = self._read(_ENDPOINTS_DECODER.decode, body)
                if endpoints is not None:
                    ends = msgspec.structs.replace(endpoints, stale=True)
                    found.append(Change(DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey(self._source, *at), ends))
        return found

    def note(self, changes: Iterable[Change]) -> None:
        """Rows have changed: keep them, some time soon. Stale ones are copies themselves."""
        for change in changes:
            if change.row is None or not change.row.stale:
                self._waiting[name_of(change)] = change.row
        self._bell.set()

    def whole(self, part: str, names: Iterable[str]) -> None:
        """All of a part has been noted: of its documents only these are right."""
        kept = set(names)
        for name in self._known:
            if _part(name) == part and name not in kept and not name.startswith(f"{_WHOLE}/"):
                self._waiting.setdefault(name, None)
        self._waiting[f"{_WHOLE}/{part}"] = b"1"
        self._bell.set()

    def forget(self) -> None:
        """What was loaded is not asked for any more."""
        self._loaded = {}

    async def run(self) -> None:
        """Write what is noted, without end."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._waiting:
                await asyncio.sleep(PAUSE_SECONDS)
                await self.flush()

    async def flush(self, most: int = AT_ONCE) -> None:
        """Write some of what waits; it waits on where the store is away."""
        names = list(self._waiting)[:most]
        rows = {name: self._waiting.pop(name) for name in names}
        documents, known = await asyncio.to_thread(_documents, rows, {name: self._known.get(name) for name in names})
        try:
            if documents:
                await self._store.write_documents(self._source, documents)
        except StoreUnavailable as error:
            _log.warning("cannot keep a copy of %s: %s", self._source, error)
            self._waiting = rows | self._waiting
            return
        for name, value in known.items():
            if value is None:
                self._known.pop(name, None)
            else:
                self._known[name] = value

    def _read(self, read: Callable[[bytes], T], body: bytes) -> T | None:
        try:
            return read(body)
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            _log.warning("a copy of %s cannot be read and is left out: %s", self._source, error)
            return None


def _documents(
    rows: Mapping[str, Any], known: Mapping[str, int | None]
) -> tuple[dict[str, bytes | None], dict[str, int | None]]:
    """What must be written for rows, given the hashes of what is there; and the hashes that are there then."""
    documents: dict[str, bytes | None] = {}
    hashes: dict[str, int | None] = {}
    for name, row in rows.items():
        body = None if row is None else row if isinstance(row, bytes) else _encoded(row)
        value = None if body is None else hash(body)
        if value != known[name]:
            documents[name] = body
            hashes[name] = value
    return documents, hashes
