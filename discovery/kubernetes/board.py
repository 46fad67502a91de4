"""A board that is a ConfigMap: each replica writes its own keys and no others, so that none overwrites another's.

It is made by whoever has something to say first. A merge patch names the keys that change and asks for no version.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from discovery.board import BoardAwayError
from discovery.kubernetes.api import MANAGER, MERGE_PATCH, Api, ApiError, UnreachableError
from discovery.kubernetes.informer_state import IDLE_SECONDS

_WATCH_SECONDS = "300"


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _ConfigMap(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    data: dict[str, str] = msgspec.field(default_factory=dict)


class _List(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    items: list[_ConfigMap] = msgspec.field(default_factory=list)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class ConfigMapBoard:
    """A `Board`: the ConfigMap of that name."""

    def __init__(self, api: Api, *, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._collection = f"/api/v1/namespaces/{quote(namespace)}/configmaps"
        self._path = f"{self._collection}/{quote(name)}"

    async def write(self, changes: Mapping[str, bytes | None]) -> None:
        """See `Board.write`."""
        data = {name: content.decode() if content is not None else None for name, content in changes.items()}
        try:
            if await self._patch(data):
                return
            kept = {name: content for name, content in data.items() if content is not None}
            if kept and not await self._create(kept):
                await self._patch(data)
        except (ApiError, UnreachableError) as error:
            raise self._away(error) from error

    async def _patch(self, data: Mapping[str, str | None]) -> bool:
        """Whether it was there to be changed."""
        body = msgspec.json.encode({"data": data})
        query = {"fieldManager": MANAGER}
        try:
            await self._api.request("PATCH", self._path, query=query, body=body, content_type=MERGE_PATCH)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    async def _create(self, data: Mapping[str, str]) -> bool:
        """Whether nobody else was quicker."""
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        query = {"fieldManager": MANAGER}
        try:
            await self._api.request("POST", self._collection, query=query, body=msgspec.json.encode(body))
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return False
        return True

    async def watch(self) -> AsyncIterator[Mapping[str, bytes]]:
        """See `Board.watch`."""
        query = {"fieldSelector": f"metadata.name={self._name}"}
        try:
            while True:
                found = msgspec.json.decode(await self._api.request("GET", self._collection, query=query), type=_List)
                yield _rows(next(iter(found.items), _ConfigMap()))
                more = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": _WATCH_SECONDS}
                more["resourceVersion"] = found.metadata.resource_version
                lines = self._api.lines(self._collection, query=query | more, idle_timeout=IDLE_SECONDS)
                async with aclosing(lines):  # type: ignore[type-var]  # an iterator to callers, a generator to us
                    async for line in lines:
                        event = msgspec.json.decode(line, type=_Event) if line else None
                        if event is None or event.type == "BOOKMARK":
                            continue
                        if event.type == "ERROR":
                            break  # it does not remember so far back
                        deleted = event.type == "DELETED"
                        yield _rows(_ConfigMap() if deleted else msgspec.json.decode(event.object, type=_ConfigMap))
        except (ApiError, UnreachableError) as error:
            raise self._away(error) from error
        except (msgspec.DecodeError, ValueError) as error:
            raise self._away(UnreachableError(f"the answer is no list of ConfigMaps: {error}")) from None

    def _away(self, error: ApiError | UnreachableError) -> BoardAwayError:
        fix = ""
        if isinstance(error, ApiError) and error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            fix = f" Let Fairlead create ConfigMaps in {self._namespace}, and list, watch and patch this one."
        return BoardAwayError(f"ConfigMap {self._namespace}/{self._name}: {error}.{fix}")


def _rows(found: _ConfigMap) -> Mapping[str, bytes]:
    return {name: content.encode() for name, content in found.data.items()}
