"""The roots that pods must trust, in ConfigMaps: one in Fairlead's namespace, and copies where somebody asks for one.

A pod can mount a ConfigMap of its own namespace only. So whoever runs proxies by hand makes an empty one there, with
the label `fairlead.dev/trust-bundle: "true"`, and `BundleCopies` fills its key `ca.crt` and keeps it, in every cluster
that is watched. Nothing but public certificates is ever written, and nothing else of such an object is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from discovery.kubernetes.api import APPLY, MANAGER, Api, ApiError, UnreachableError

CONFIG_MAP: Final = "fairlead-ca"
CA_KEY: Final = "ca.crt"
COPY_LABEL: Final = "fairlead.dev/trust-bundle"
_LABELS: Final = {"app.kubernetes.io/managed-by": "fairlead"}
_LOOK_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    data: dict[str, str] | None = None

    @property
    def roots(self) -> str:
        return (self.data or {}).get(CA_KEY, "")


class _List(msgspec.Struct, frozen=True):
    items: tuple[_ConfigMap, ...] = ()


async def publish(api: Api, namespace: str, bundle: bytes) -> bytes:
    """Have the ConfigMap in Fairlead's namespace say what is to be trusted (PEM); what it said before.

    Raises:
        ApiError, UnreachableError: as the API server has it.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}"
    before = _ConfigMap()
    with contextlib.suppress(msgspec.DecodeError):  # whatever is there: it is applied over
        try:
            before = msgspec.json.decode(await api.request("GET", path), type=_ConfigMap)
        except ApiError as error:
            if error.status != 404:
                raise
    if before.data != {CA_KEY: bundle.decode()}:
        await _apply(api, _Metadata(CONFIG_MAP, namespace), bundle, labels=_LABELS)
    return before.roots.encode()


async def _apply(api: Api, at: _Metadata, bundle: bytes, *, labels: Mapping[str, str]) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": at.name, "namespace": at.namespace, **({"labels": labels} if labels else {})},
        "data": {CA_KEY: bundle.decode()},
    }
    path = f"/api/v1/namespaces/{at.namespace}/configmaps/{at.name}"
    query = {"fieldManager": MANAGER, "force": "true"}
    await api.request("PATCH", path, query=query, body=msgspec.json.encode(body), content_type=APPLY)


class BundleCopies:
    """The copies in the clusters of `apis` (by name). `namespaces` empty: in all of them."""

    def __init__(self, apis: Callable[[], Mapping[str, Api]], namespaces: Sequence[str] = ()) -> None:
        self._apis = apis
        self._namespaces = tuple(namespaces)
        self._bundle = b""
        self._bell = asyncio.Event()
        self._troubles: dict[str, str] = {}

    def note(self, bundle: bytes) -> None:
        """This is to be trusted from now on."""
        self._bundle = bundle
        self._bell.set()

    async def run(self) -> None:
        """Keep them, without end. A cluster that is away holds up no other."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._bell.wait()
            self._bell.clear()
            if self._bundle:
                await asyncio.gather(*(self._keep(name, api) for name, api in self._apis().items()))

    async def _keep(self, name: str, api: Api) -> None:
        trouble = ""
        try:
            await self.fill(api)
        except UnreachableError:
            return  # the source tells of it
        except (ApiError, msgspec.DecodeError) as error:
            trouble = str(error)
        if trouble and trouble != self._troubles.get(name):
            _log.warning("cluster %s: copies of the trust bundle are not kept: %s", name, trouble)
        self._troubles[name] = trouble

    async def fill(self, api: Api) -> None:
        """Have every copy in a cluster say what is to be trusted now.

        Raises:
            ApiError, UnreachableError: as the API server has it.
        """
        scopes = [f"/api/v1/namespaces/{quote(one)}/configmaps" for one in self._namespaces]
        for path in scopes or ["/api/v1/configmaps"]:
            query = {"labelSelector": f"{COPY_LABEL}=true"}
            found = msgspec.json.decode(await api.request("GET", path, query=query), type=_List)
            for one in found.items:
                if one.roots.encode() != self._bundle:
                    await _apply(api, one.metadata, self._bundle, labels={})
