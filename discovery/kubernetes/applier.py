"""The requests by which what runs Gateways is made, read and removed, one function each. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from discovery.kubernetes.api import APPLY, MANAGER, Api, ApiError
from discovery.kubernetes.pod_troubles import LivePod
from discovery.kubernetes.provisioned import Live, LiveNode, Part
from discovery.kubernetes.wire import Key, Reader

_LIVE = Reader(Live)
_PODS = Reader(LivePod)
_NODES = Reader(LiveNode)


class Applier:
    """One API server. All raise ApiError, UnreachableError and UnreadableError; `writes` counts what was written."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.writes = 0

    async def apply(self, part: Part, at: Key, manifest: Mapping[str, Any]) -> Live | None:
        """Apply a manifest with force; the object as it is then, None where the answer cannot be read."""
        body = await self._api.request(
            "PATCH",
            _path(part, at),
            query={"fieldManager": MANAGER, "force": "true"},
            body=msgspec.json.encode(manifest),
            content_type=APPLY,
        )
        self.writes += 1
        found = _LIVE.object(body)
        return found if isinstance(found, Live) else None

    async def get(self, part: Part, at: Key) -> Live | None:
        """The object at a name, None where there is none."""
        try:
            found = _LIVE.object(await self._api.request("GET", _path(part, at)))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return found if isinstance(found, Live) else None

    async def delete(self, part: Part, at: Key, uid: str) -> None:
        """Remove an object if it is still that one."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._api.request("DELETE", _path(part, at), body=msgspec.json.encode(body))
            self.writes += 1
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):  # gone, or another one by now
                raise

    async def pods(self, namespace: str, selector: str) -> tuple[LivePod, ...]:
        """The pods with these labels."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods"
        return _PODS.page(await self._api.request("GET", path, query={"labelSelector": selector})).items

    async def nodes(self) -> tuple[LiveNode, ...]:
        """All nodes."""
        return _NODES.page(await self._api.request("GET", "/api/v1/nodes")).items


def _path(part: Part, at: Key) -> str:
    return f"{part.root}/namespaces/{quote(at.namespace)}/{part.plural}/{quote(at.name)}"
