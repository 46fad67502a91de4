"""How objects lie in Consul's KV: which key, which bytes, and what does not fit. Pure.

    <prefix>/objects/@store                          what this is: format and identity of the store
    <prefix>/objects/<Kind>/<namespace>/<name>       an object now, or that it was deleted, with who and when
    <prefix>/history/<Kind>/<namespace>/<name>/<n>   an object as it was at revision n
    <prefix>/journal/<writer>                        what one writer wrote last (`consul_journal.py`)
    <prefix>/documents/<collection>/<name>           a runtime document
    <prefix>/leader                                  who leads
    <prefix>/authority/…                             the authority that replicas share (`authority_places.py`)

A revision is Consul's `ModifyIndex`: one counter for all, which a restored snapshot never lets go back to a number used
before. It is in no value: nobody knows it before it is written. Values are JSON, so that people can read them with
`consul kv get`; large ones are compressed, and their `Flags` say so.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Literal
from urllib.parse import quote, unquote

import msgspec
from msgspec.structs import replace

from discovery.consul.wire import NOT_JSON
from discovery.stores.store import TooLarge
from mesh.kinds import decode, encode
from mesh.kinds.meta import Object
from mesh.model import ObjectKey

FORMAT = 1
COMPRESSED = 1
"""Of `Flags`: the value is compressed."""
COMPRESS_FROM = 32 * 1024
MOST_BYTES = 512 * 1024
"""Consul's `kv_max_value_size` and `txn_max_req_len` where nobody changed them: of a value, and of a whole request."""
MOST_OPERATIONS = 64
"""Of one transaction."""

_MOST_INFLATED = 64 * 1024 * 1024
_NO_NAMESPACE = "_"
_NULL = msgspec.Raw(b"null")


class UnreadableError(Exception):
    """An answer, or a value, that is not what it should be."""


class Pair(msgspec.Struct, frozen=True, rename="pascal"):
    """A key as Consul's API gives it."""

    key: str
    modify_index: int
    flags: int = 0
    value: bytes | None = None
    session: str = ""


class Operation(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """A part of a transaction."""

    verb: Literal["get", "set", "cas", "delete", "delete-cas", "check-index", "check-session"]
    key: str
    value: bytes | None = None
    index: int | None = None
    flags: int = 0
    session: str = ""


class Marker(msgspec.Struct, frozen=True):
    """What says that a prefix is a store of ours, and which."""

    format: int
    id: str


class Kept(msgspec.Struct, frozen=True):
    """The value of an object's key; where the object is null it was deleted. `at` is RFC 3339 in UTC.

    None may be missing: an object that somebody wrote into the key as it is would look as if it were deleted.
    """

    by: str
    at: str
    object: msgspec.Raw

    @property
    def gone(self) -> bool:
        """Whether this says no more than that the object was deleted."""
        return bytes(self.object) == b"null"


class _Operation(msgspec.Struct, frozen=True, rename={"kv": "KV"}):
    kv: Operation


class _Result(msgspec.Struct, frozen=True, rename={"kv": "KV"}):
    kv: Pair


class _Results(msgspec.Struct, frozen=True, rename="pascal"):
    results: tuple[_Result, ...] | None = None


class Layout:
    """The keys of one store."""

    def __init__(self, prefix: str) -> None:
        self.objects = f"{prefix}/objects/"
        self.marker = f"{self.objects}@store"
        self.history = f"{prefix}/history/"
        self.journal = f"{prefix}/journal/"
        self.leader = f"{prefix}/leader"
        self._documents = f"{prefix}/documents/"

    def object(self, key: ObjectKey) -> str:
        """Where an object is."""
        return f"{self.objects}{_path(key)}"

    def kind(self, kind: str, namespace: str | None) -> str:
        """What the keys of a kind, or of its objects in one namespace, begin with."""
        return f"{self.objects}{kind}/" + ("" if namespace is None else f"{namespace or _NO_NAMESPACE}/")

    def past(self, key: ObjectKey, revision: int | None = None) -> str:
        """Where an object's revision is; without one, what those of all revisions begin with."""
        return f"{self.history}{_path(key)}/" + ("" if revision is None else f"{revision:020}")

    def revision_of(self, at: str) -> int | None:
        """The revision that a key below `past` holds; None where it is none of ours."""
        last = at.rpartition("/")[2]
        return int(last) if last.isascii() and last.isdigit() and len(last) <= 20 else None

    def documents(self, collection: str) -> str:
        """What the keys of a collection begin with."""
        return f"{self._documents}{quote(collection, safe=':')}/"

    def document(self, collection: str, name: str) -> str:
        """Where a document is."""
        return self.documents(collection) + quote(name, safe="")

    def name_of_document(self, collection: str, key: str) -> str:
        """The document that a key holds."""
        return unquote(key.removeprefix(self.documents(collection)))

    def key_of(self, at: str) -> ObjectKey | None:
        """The object that a key holds; None where it is none of ours."""
        parts = at.removeprefix(self.objects).split("/")
        if len(parts) != 3 or not all(parts) or not at.startswith(self.objects):
            return None
        kind, namespace, name = parts
        return ObjectKey(kind, "" if namespace == _NO_NAMESPACE else namespace, name)


def _path(key: ObjectKey) -> str:
    return f"{key.kind}/{key.namespace or _NO_NAMESPACE}/{key.name}"


def written(found: Object | None, *, by: str, at: str) -> tuple[bytes, int]:
    """The value of an object's key (None: it is deleted), and its flags. The store's revision is left out."""
    body = _NULL
    if found is not None:
        body = msgspec.Raw(encode(replace(found, metadata=replace(found.metadata, resource_version=""))))
    return packed(msgspec.json.encode(Kept(by, at, body)))


def packed(body: bytes) -> tuple[bytes, int]:
    """Bytes as they are kept, and their flags."""
    return (body, 0) if len(body) < COMPRESS_FROM else (zlib.compress(body, 6), COMPRESSED)


def unpacked(pair: Pair) -> bytes:
    """The bytes that were packed. Raises UnreadableError."""
    value = pair.value or b""
    if not pair.flags & COMPRESSED:
        return value
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(value, _MOST_INFLATED)
    except zlib.error as error:
        raise UnreadableError(f"it cannot be decompressed: {error}") from None
    if not stream.eof:
        raise UnreadableError(f"it is cut off, or longer than {_MOST_INFLATED} bytes")
    return body


def kept(pair: Pair) -> Kept:
    """What an object's key says. Raises UnreadableError."""
    try:
        return msgspec.json.decode(unpacked(pair), type=Kept)
    except NOT_JSON as error:
        raise UnreadableError(str(error)) from None


def read(key: ObjectKey, value: Kept, revision: int) -> Object | None:
    """The object, with its revision; None where it was deleted. Raises UnreadableError."""
    if value.gone:
        return None
    try:
        made = decode(key.kind, bytes(value.object))
    except LookupError:
        raise UnreadableError(f"this Fairlead knows no kind {key.kind!r}") from None
    except NOT_JSON as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from None
    if (made.metadata.namespace, made.metadata.name) != (key.namespace, key.name):
        raise UnreadableError(f"it is {made.metadata.namespace}/{made.metadata.name}, in the key of another")
    return replace(made, metadata=replace(made.metadata, resource_version=str(revision)))


def marker(pair: Pair) -> Marker:
    """What a store's marker says. Raises UnreadableError."""
    try:
        return msgspec.json.decode(pair.value or b"", type=Marker)
    except NOT_JSON as error:
        raise UnreadableError(str(error)) from None


_PAIRS = msgspec.json.Decoder(tuple[Pair, ...])
_KEYS = msgspec.json.Decoder(tuple[str, ...])
_RESULTS = msgspec.json.Decoder(_Results)


def pairs(body: bytes) -> tuple[Pair, ...]:
    """The keys in an answer. Raises UnreadableError."""
    try:
        return _PAIRS.decode(body)
    except NOT_JSON as error:
        raise UnreadableError(f"the answer is not one of Consul's KV: {error}") from None


def names(body: bytes) -> tuple[str, ...]:
    """The names of keys in an answer to `?keys`. Raises UnreadableError."""
    try:
        return _KEYS.decode(body)
    except NOT_JSON as error:
        raise UnreadableError(f"the answer is not one of Consul's KV: {error}") from None


def results(body: bytes) -> tuple[Pair, ...]:
    """The keys in an answer to a transaction; with values only those that were read. Raises UnreadableError."""
    try:
        found = _RESULTS.decode(body).results or ()
    except NOT_JSON as error:
        raise UnreadableError(f"the answer is not one of Consul's transactions: {error}") from None
    return tuple(result.kv for result in found)


def index_of(body: bytes, key: str) -> int:
    """The `ModifyIndex` that a transaction gave to a key. Raises UnreadableError."""
    for pair in results(body):
        if pair.key == key:
            return pair.modify_index
    raise UnreadableError(f"the answer says nothing of {key}")


def transactions(operations: Sequence[Operation], *, what: str, whole: bool) -> tuple[bytes, ...]:
    """The requests for operations, the first of which is a check that goes with each request.

    One, or where that would be too large and need not be (`whole`) one for each operation: the last decides, and goes
    last.

    Raises:
        TooLarge: `what` they write is too large, or too many.
    """
    body = encoded(operations)
    if len(body) <= MOST_BYTES and len(operations) <= MOST_OPERATIONS:
        return (body,)
    check, *others = operations
    bodies = (body,) if whole else tuple(encoded((check, each)) for each in others)
    largest = max(map(len, bodies))
    if largest > MOST_BYTES:
        raise TooLarge(
            f"{what} takes {largest} bytes in Consul's KV, compressed and as its API carries it, and one write may have"
            f" {MOST_BYTES} (512 kB, Consul's kv_max_value_size)",
            fix="Split it into several.",
        )
    if whole:
        raise TooLarge(
            f"{what} are {len(others)}, and Consul's KV takes {MOST_OPERATIONS - 1} in one write", fix="Write fewer."
        )
    return bodies


def encoded(operations: Iterable[Operation]) -> bytes:
    """A transaction as Consul's API takes it."""
    return msgspec.json.encode([_Operation(each) for each in operations])
