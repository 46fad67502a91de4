"""Consul's KV as the store needs it: keys read, prefixes watched, transactions, and errors that say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import quote

from discovery.consul.http import Consul, ConsulError, UnreachableError
from discovery.stores import consul_values as values
from discovery.stores.consul_values import Operation, Pair
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
        return (await self.whole(prefix))[1]

    async def names(self, prefix: str) -> tuple[str, ...]:
        """The names of all keys that begin so."""
        with self._explained():
            try:
                return values.names((await self.consul.get(_path(prefix), {"keys": ""})).body)
            except ConsulError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return ()

    async def whole(self, prefix: str) -> tuple[int, tuple[Pair, ...]]:
        """All keys that begin so, and at which index."""
        with self._explained():
            try:
                answer = await self.consul.get(_path(prefix), {"recurse": ""})
            except ConsulError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return 0, ()
            if len(answer.body) > _DECODE_IN_THREAD:
                return answer.index, await asyncio.to_thread(values.pairs, answer.body)
            return answer.index, values.pairs(answer.body)

    async def stirred(self, prefix: str, *, index: int, wait: float) -> int:
        """At which index the keys are that begin so: once it is another than the given one, or after `wait` seconds.

        0 where there are none. The answer names no more than the first part of each key, and so is short.
        """
        with self._explained():
            try:
                query = {"keys": "", "separator": "/"}
                return (await self.consul.get(_path(prefix), query, index=index, wait=wait)).index
            except ConsulError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return 0

    async def read(self, keys: Iterable[str], *, marker: str, index: int) -> tuple[Pair, ...] | None:
        """Keys that are there while the marker is at its index; None where that is not so."""
        check = Operation("check-index", marker, index=index)
        found: tuple[Pair, ...] = ()
        each = [Operation("get", key) for key in sorted(keys)]
        for start in range(0, len(each), values.MOST_OPERATIONS - 1):
            part = each[start : start + values.MOST_OPERATIONS - 1]
            with self._explained():
                try:
                    answer = await self.consul.put("/v1/txn", values.encoded([check, *part]))
                except ConsulError as error:
                    if error.status != HTTPStatus.CONFLICT:
                        raise
                    return None
                found += values.results(answer.body)
        return found

    async def create(self, key: str, value: bytes) -> None:
        """Write a key if there is none."""
        with self._explained(writing=True):
            await self.consul.put(_path(key), value, {"cas": "0"})

    async def swap(self, key: str, value: bytes, *, index: int) -> bool:
        """Write a key that is at an index still, or is not there (0); False where it is not so."""
        with self._explained(writing=True):
            return (await self.consul.put(_path(key), value, {"cas": str(index)})).body.strip() == b"true"

    async def write(self, key: str, value: bytes) -> None:
        """Write a key, whatever is there."""
        with self._explained(writing=True):
            await self.consul.put(_path(key), value)

    async def remove(self, key: str) -> None:
        """Remove a key."""
        with self._explained(writing=True):
            await self.consul.delete(_path(key))

    async def transact(self, body: bytes) -> bytes | None:
        """Do a whole transaction; None where something in it was not as expected, and nothing was done."""
        with self._explained(writing=True):
            try:
                return (await self.consul.put("/v1/txn", body)).body
            except ConsulError as error:
                if error.status != HTTPStatus.CONFLICT or _is_denied(error):
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
            if _is_denied(error):
                what = "write its KV" if error.status == HTTPStatus.CONFLICT else "into its KV"
                raise StoreAway(
                    f"Consul at {self.url} does not let this server {what} ({error.message})",
                    fix="Give --store-token-file a token with `key_prefix` write on the store's prefix and `session`"
                    " write.",
                ) from None
            raise StoreAway(
                f"Consul at {self.url} cannot do it ({error}){lost}",
                fix="See that Consul has a leader (`consul operator raft list-peers`); then try again, which is safe.",
                retry_after=error.retry_after,
            ) from None


def _is_denied(error: ConsulError) -> bool:
    """A transaction that the token may not do is answered as one that somebody else was quicker than."""
    return error.status == HTTPStatus.FORBIDDEN or (
        error.status == HTTPStatus.CONFLICT and "permission denied" in error.message.lower()
    )


def _path(key: str) -> str:
    return f"/v1/kv/{quote(key)}"
