"""Where replicas keep an authority that they share: a Secret of Kubernetes, or keys of Consul's KV.

Each place has two parts: the book (`sds.keepers.Keeper`), which is written by check-and-set alone, and a board
(`sds.replicas.Board`) on which each replica says who of its proxies lacks a root. Join tokens are kept in another such
document beside it, and so are the keys for JWT-SVIDs where the authority is not ours (a book too). All keys are
sealed with the passphrase that every replica is given; whoever can read the place learns no key from it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from discovery.kubernetes.api import MERGE_PATCH, Api, ApiError, UnreachableError
from discovery.stores.store import Store, StoreUnavailable
from sds.keepers import BookChanged, BookUnavailable, Keeper, UnreadableBook
from sds.replicas import Board, Sight

if TYPE_CHECKING:
    from discovery.stores.consul_kv import Kv  # with Consul's client, which not everybody has

COPIES: Final = "authority-copies"
"""Of the local store's documents: the book of each shared place as it was known last, still sealed."""
BOOK: Final = "book"
TOKENS: Final = "join-tokens"
JWT_KEYS: Final = "jwt-keys"
_UNKNOWN: Final = -1
_LABELS: Final = {"app.kubernetes.io/managed-by": "fairlead"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A place that replicas share."""

    keeper: Keeper
    board: Board


def _sights(found: Iterable[bytes]) -> tuple[Sight, ...]:
    sights = []
    for one in found:
        try:
            sights.append(msgspec.json.decode(one, type=Sight))
        except msgspec.DecodeError as error:
            _log.warning("what a replica says of its proxies cannot be read: %s", error)
    return tuple(sights)


class CopyingKeeper:
    """Another keeper, and a copy of the book in the local store: who starts while the place is away goes on with it.

    It may sign then what was noted before, and no more, for what is noted needs the place. A place that has nothing
    where a book is known is no place for a new authority, which nobody would trust: that is refused.
    """

    def __init__(self, keeper: Keeper, store: Store) -> None:
        self._keeper = keeper
        self._store = store
        self._known = False
        self._noted = b""

    @property
    def where(self) -> str:
        """The place."""
        return self._keeper.where

    async def load(self) -> bytes | None:
        """See `Keeper.load`."""
        try:
            document = await self._keeper.load()
        except BookUnavailable as error:
            copy = None if self._known else await self._copy()
            if copy is None:
                raise
            _log.warning("%s; what was kept there last is used", error)
            self._known = True
            return copy
        if document is None and not self._known and await self._copy() is not None:
            raise UnreadableBook(
                f"{self.where}: no authority is kept there, where there was one. Fix: put a backup back; to begin anew"
                " all the same, which nobody trusts yet, start with another local store"
            )
        if document is not None:
            await self._note(document)
        return document

    async def save(self, document: bytes) -> None:
        """See `Keeper.save`."""
        await self._keeper.save(document)
        await self._note(document)

    async def _copy(self) -> bytes | None:
        try:
            return (await self._store.documents(COPIES)).get(self.where)
        except StoreUnavailable as error:
            raise BookUnavailable(str(error)) from None

    async def _note(self, document: bytes) -> None:
        self._known = True
        if document == self._noted:  # it is looked at every two seconds
            return
        try:
            await self._store.write_documents(COPIES, {self.where: document})
            self._noted = document
        except StoreUnavailable as error:
            _log.warning("the authorities cannot be copied to the local store: %s", error)


# -- Kubernetes ------------------------------------------------------------------------------------------------------


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    data: dict[str, str] | None = None

    def __repr__(self) -> str:
        return "_Object([redacted])"


def _away(error: ApiError | UnreachableError, what: str) -> BookUnavailable:
    fix = ""
    if isinstance(error, ApiError) and error.status == 403:
        fix = ". Fix: let Fairlead's account create Secrets, and get and update this one, in its namespace"
    return BookUnavailable(f"{what}: {error}{fix}")


class SecretKeeper:
    """A document in a Secret, the book if no other. See `Keeper`."""

    def __init__(self, api: Callable[[], Api], namespace: str, name: str, key: str = BOOK) -> None:
        self._api = api
        self._key = key
        self._namespace, self._name = namespace, name
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._version = ""

    @property
    def where(self) -> str:
        """The Secret."""
        return f"Secret {self._namespace}/{self._name}"

    async def load(self) -> bytes | None:
        """See `Keeper.load`."""
        try:
            body = await self._api().request("GET", f"{self._path}/{self._name}")
        except ApiError as error:
            if error.status != 404:
                raise _away(error, self.where) from None
            self._version = ""
            return None
        except UnreachableError as error:
            raise _away(error, self.where) from None
        return self._taken(body)

    def _taken(self, body: bytes) -> bytes:
        try:
            found = msgspec.json.decode(body, type=_Object)
            document = base64.b64decode((found.data or {})[self._key], validate=True)
        except (msgspec.DecodeError, binascii.Error, KeyError):
            raise UnreadableBook(
                f"{self.where} holds nothing of ours under the key {self._key!r}. Fix: put a backup back, or name"
                " another"
            ) from None
        self._version = found.metadata.resource_version
        return document

    async def save(self, document: bytes) -> None:
        """See `Keeper.save`."""
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace, "labels": _LABELS}
        method, path = "POST", self._path
        if self._version:
            metadata["resourceVersion"] = self._version
            method, path = "PUT", f"{self._path}/{self._name}"
        made = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "Opaque",
            "data": {self._key: base64.b64encode(document).decode()},
        }
        try:
            body = await self._api().request(method, path, body=msgspec.json.encode(made))  # type: ignore[arg-type]
        except ApiError as error:
            if error.status in (404, 409):
                raise BookChanged(self.where) from None
            raise _away(error, self.where) from None
        except UnreachableError as error:
            raise _away(error, self.where) from None
        self._version = msgspec.json.decode(body, type=_Object).metadata.resource_version


class ConfigMapBoard:
    """The board in a ConfigMap, a key for each replica. See `Board`."""

    def __init__(self, api: Callable[[], Api], namespace: str, name: str) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"

    async def post(self, sight: Sight) -> None:
        """See `Board.post`."""
        await self._patch({sight.replica: msgspec.json.encode(sight).decode()})

    async def read(self) -> tuple[Sight, ...]:
        """See `Board.read`."""
        try:
            body = await self._api().request("GET", f"{self._path}/{self._name}")
        except ApiError as error:
            if error.status == 404:
                return ()
            raise _away(error, f"ConfigMap {self._namespace}/{self._name}") from None
        except UnreachableError as error:
            raise _away(error, f"ConfigMap {self._namespace}/{self._name}") from None
        data = msgspec.json.decode(body, type=_Object).data or {}
        return _sights(text.encode() for _, text in sorted(data.items()))

    async def remove(self, replicas: Iterable[str]) -> None:
        """See `Board.remove`."""
        await self._patch(dict.fromkeys(replicas))

    async def _patch(self, data: Mapping[str, str | None]) -> None:
        body = {"data": data}
        try:
            for _ in range(2):
                try:
                    await self._api().request(
                        "PATCH", f"{self._path}/{self._name}", body=msgspec.json.encode(body), content_type=MERGE_PATCH
                    )
                except ApiError as error:
                    if error.status != 404:
                        raise
                    await self._make()
                else:
                    return
        except (ApiError, UnreachableError) as error:
            raise _away(error, f"ConfigMap {self._namespace}/{self._name}") from None

    async def _make(self) -> None:
        metadata = {"name": self._name, "namespace": self._namespace, "labels": _LABELS}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        try:
            await self._api().request("POST", self._path, body=msgspec.json.encode(made))
        except ApiError as error:
            if error.status != 409:
                raise


def in_secret(api: Callable[[], Api], namespace: str, name: str, store: Store) -> Place:
    """A Secret of that name, with the board beside it."""
    keeper = CopyingKeeper(SecretKeeper(api, namespace, name), store)
    return Place(keeper, ConfigMapBoard(api, namespace, f"{name}-replicas"))


def tokens_in_secret(api: Callable[[], Api], namespace: str, name: str) -> Keeper:
    """Join tokens, in a Secret beside that of the authority."""
    return SecretKeeper(api, namespace, f"{name}-{TOKENS}", TOKENS)


def jwt_keys_in_secret(api: Callable[[], Api], namespace: str, name: str, store: Store) -> Keeper:
    """Keys for JWT-SVIDs, in a Secret of that name."""
    return CopyingKeeper(SecretKeeper(api, namespace, name, JWT_KEYS), store)


# -- Consul ----------------------------------------------------------------------------------------------------------


class KvKeeper:
    """A document under one key. See `Keeper`."""

    def __init__(self, kv: Kv, key: str) -> None:
        self._kv = kv
        self._key = key
        self._index = 0

    @property
    def where(self) -> str:
        """The key."""
        return f"{self._kv.url}/{self._key}"

    async def load(self) -> bytes | None:
        """See `Keeper.load`."""
        try:
            pair = await self._kv.pair(self._key)
        except StoreUnavailable as error:
            raise BookUnavailable(f"{self.where}: {error}") from None
        self._index = pair.modify_index if pair is not None else 0
        return (pair.value or b"") if pair is not None else None

    async def save(self, document: bytes) -> None:
        """See `Keeper.save`."""
        try:
            if self._index == _UNKNOWN or not await self._kv.swap(self._key, document, index=self._index):
                raise BookChanged(self.where)
            pair = await self._kv.pair(self._key)
        except StoreUnavailable as error:
            raise BookUnavailable(f"{self.where}: {error}") from None
        # Written over at once, by somebody who had read it: ours is kept, and what comes next begins with loading.
        self._index = pair.modify_index if pair is not None and pair.value == document else _UNKNOWN


class KvBoard:
    """The board, a key for each replica. See `Board`."""

    def __init__(self, kv: Kv, prefix: str) -> None:
        self._kv = kv
        self._prefix = prefix

    async def post(self, sight: Sight) -> None:
        """See `Board.post`."""
        await self._done(self._kv.write(self._prefix + sight.replica, msgspec.json.encode(sight)))

    async def read(self) -> tuple[Sight, ...]:
        """See `Board.read`."""
        try:
            return _sights(pair.value or b"" for pair in await self._kv.pairs(self._prefix))
        except StoreUnavailable as error:
            raise BookUnavailable(f"{self._kv.url}/{self._prefix}: {error}") from None

    async def remove(self, replicas: Iterable[str]) -> None:
        """See `Board.remove`."""
        await self._done(asyncio.gather(*(self._kv.remove(self._prefix + replica) for replica in replicas)))

    async def _done(self, work: Any) -> None:
        try:
            await work
        except StoreUnavailable as error:
            raise BookUnavailable(f"{self._kv.url}/{self._prefix}: {error}") from None


def in_kv(kv: Kv, prefix: str, store: Store) -> Place:
    """Keys below the prefix of a store in Consul."""
    keeper = CopyingKeeper(KvKeeper(kv, f"{prefix}/authority/{BOOK}"), store)
    return Place(keeper, KvBoard(kv, f"{prefix}/authority/replicas/"))


def tokens_in_kv(kv: Kv, prefix: str) -> Keeper:
    """Join tokens, under a key beside those of the authority."""
    return KvKeeper(kv, f"{prefix}/authority/{TOKENS}")


def jwt_keys_in_kv(kv: Kv, prefix: str, store: Store) -> Keeper:
    """Keys for JWT-SVIDs, under a key there."""
    return CopyingKeeper(KvKeeper(kv, f"{prefix}/authority/{JWT_KEYS}"), store)
