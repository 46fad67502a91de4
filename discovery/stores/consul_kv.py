"""Consul's KV as the store needs it: keys read, prefixes watched, transactions, and errors that say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import quote

from discovery.consul.http import Consul, ConsulError, UnreachableError
from discovery.stores import consul_values as values
from discovery.stores.consul_values import Pair
from discovery.stores.store import StoreAway

_DECODE_IN_THREAD = 256 * 1024  # bytes of an answer that are too many to decode between two requests


class Kv:
    """One agent's KV. All methods raise StoreAway when it does not answer as it should."""

    def __init__(self, consul: Consul) -> None:
        self.consul = consul
        self.url = consul.target.url

    async def pair(self, key: str) -> Pair | None:
        """One key; None where there is none."""
        with self._explained():
            try:
                found = values.pairs((await self.consul.get(_path(key))).body)
            except ConsulError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return None
            return found[0] if found else None

    async def pairs(self, prefix: str) -> tuple[Pair, ...]:
        """All keys that begin so."""
        return (await self.changed(prefix, index=0, wait=0.0))[1] or ()

    async def names(self, prefix: str) -> tuple[str, ...]:
        """The names of all keys that begin so."""
        with self._explained():
            try:
                return values.names((await self.consul.get(_path(prefix), {"keys": ""})).body)
            except ConsulError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return ()

    async def changed(self, prefix: str, *, index: int, wait: float) -> tuple[int, tuple[Pair, ...] | None]:
        """All keys that begin so, and at which index: once it is newer than the given one.

        None where it is still that one after `wait` seconds.
        """
        with self._explained():
            try:
                answer = await self.consul.get(_path(prefix), {"recurse": ""}, index=index, wait=wait)
            except ConsulError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return 0, ()
            if index and answer.index == index:
                return index, None
            if len(answer.body) > _DECODE_IN_THREAD:
                return answer.index, await asyncio.to_thread(values.pairs, answer.body)
            return answer.index, values.pairs(answer.body)

    async def create(self, key: str, value: bytes) -> None:
        """Write a key if there is none."""
        with self._explained(writing=True):
            await self.consul.put(_path(key), value, {"cas": "0"})

    async def transact(self, body: bytes) -> bytes | None:
        """Do a whole transaction; None where something in it was not as expected, and nothing was done."""
        with self._explained(writing=True):
            try:
                return (await self.consul.put("/v1/txn", body)).body
            except ConsulError as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
                return None

    @contextmanager
    def _explained(self, *, writing: bool = False) -> Iterator[None]:
        """Consul's errors as ours."""
        lost = ", and whether this was written is not known" if writing else ""
        try:
            yield
        except UnreachableError as error:
            raise StoreAway(
                f"Consul at {self.url} does not answer ({error}){lost}",
                fix="See that the agent runs and can be reached; then try again, which is safe.",
            ) from None
        except values.UnreadableError as error:
            raise StoreAway(
                f"Consul at {self.url} gives answers that cannot be read ({error}){lost}",
                fix="See that --store names the HTTP API of a Consul agent.",
            ) from None
        except ConsulError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                raise StoreAway(
                    f"Consul at {self.url} does not let this server into its KV ({error.message})",
                    fix="Give --store-token-file a token with `key_prefix` write on the store's prefix and `session`"
                    " write.",
                ) from None
            raise StoreAway(
                f"Consul at {self.url} cannot do it ({error}){lost}",
                fix="See that Consul has a leader (`consul operator raft list-peers`); then try again, which is safe.",
                retry_after=error.retry_after,
            ) from None


def _path(key: str) -> str:
    return f"/v1/kv/{quote(key)}"
