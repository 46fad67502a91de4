"""Keeps the keys that clusters sign service account tokens with, fetched while their API servers are there.

What was fetched is handed on to be stored, so that a restart while an API server is away knows it too. The keys are
read where the API server itself serves them, over its own authenticated connection: the address that its document
names may be anybody's. Kubernetes lets every service account read them (`system:service-account-issuer-discovery`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from discovery.kubernetes.api import Api, ApiError, UnreachableError
from discovery.kubernetes.token_keys import (
    ISSUER_PATH,
    KEYS_PATH,
    Signed,
    SigningKeys,
    UnknownKeyError,
    UnusableKeysError,
    signed,
    signing_keys,
)

_log = logging.getLogger(__name__)

EVERY = 600.0
"""A key that signs is published before it does, and its tokens live on for an hour at least."""
AFTER_FAILURE = 15.0
_TIMEOUT = 5.0


class _Kept(msgspec.Struct, frozen=True):
    """What is stored of a cluster; `place` says where it is: another cluster may come to have its name."""

    place: str
    issuer: str
    keys: str


class KeyRing:
    """The keys of the clusters at `places` (by name). `save` takes documents to store, by name."""

    def __init__(
        self,
        places: Mapping[str, str],
        apis: Callable[[], Mapping[str, Api]],
        save: Callable[[Mapping[str, bytes | None]], None],
    ) -> None:
        self._places = places
        self._apis = apis
        self._save = save
        self._kept: dict[str, _Kept] = {}
        self._keys: dict[str, SigningKeys] = {}
        self._troubles: dict[str, str] = {}

    def load(self, documents: Mapping[str, bytes]) -> None:
        """Take in what an earlier run stored; what is of other places is not used, and goes."""
        for name, document in documents.items():
            try:
                kept = msgspec.json.decode(document, type=_Kept)
                keys = signing_keys(kept.issuer.encode(), kept.keys.encode())
            except (msgspec.DecodeError, UnusableKeysError) as error:
                _log.warning("cluster %s: the stored keys of its tokens cannot be read: %s", name, error)
                self._save({name: None})
                continue
            if kept.place != self._places.get(name):
                self._save({name: None})
                continue
            self._kept[name], self._keys[name] = kept, keys

    def signed(self, cluster: str, token: str, *, audience: str, now: float) -> Signed:
        """See `token_keys.signed`."""
        keys = self._keys.get(cluster)
        if keys is None:
            raise UnknownKeyError(f"the keys of cluster {cluster} were never seen")
        return signed(token, keys, audience=audience, now=now)

    async def run(self) -> None:
        """Fetch now and then, without end."""
        while True:
            well = [await self.fetch(name) for name in sorted(self._places)]
            await asyncio.sleep(EVERY if all(well) else AFTER_FAILURE)

    async def fetch(self, name: str) -> bool:
        """Fetch the keys of one cluster; False where that was not possible, and what was known stays."""
        api = self._apis()[name]
        try:
            issuer = await api.request("GET", ISSUER_PATH, timeout=_TIMEOUT)
            keys = await api.request("GET", KEYS_PATH, timeout=_TIMEOUT)
            self._keys[name] = signing_keys(issuer, keys)
        except (ApiError, UnreachableError, UnusableKeysError) as error:
            self._tell(name, str(error))
            return False
        self._tell(name, "")
        kept = _Kept(self._places[name], issuer.decode(), keys.decode())
        if kept != self._kept.get(name):
            self._kept[name] = kept
            self._save({name: msgspec.json.encode(kept)})
        return True

    def _tell(self, name: str, words: str) -> None:
        """Say a trouble once."""
        if words and words != self._troubles.get(name):
            _log.info("cluster %s: the keys of its tokens cannot be fetched: %s", name, words)
        self._troubles[name] = words
