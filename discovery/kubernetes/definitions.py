"""Looks now and then which release of Gateway API a cluster's CRDs are of, and writes it down as rows.

Four small questions by name, not a watch: a CRD weighs up to a megabyte, all of a cluster's some tens, and nobody waits
for the answer. Without permission to ask, nothing is known, and nothing is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import msgspec

from discovery.kubernetes.api import Api, ApiError, UnreachableError
from mesh.definitions import DEFINITIONS, Definition, DefinitionKey
from mesh.kinds import KINDS
from mesh.kinds.references import GATEWAY_API
from mesh.tables import Change

_log = logging.getLogger(__name__)

EVERY = 300.0
AFTER_FAILURE = 30.0
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RELEASE = f"{GATEWAY_API}/bundle-version"
_CHANNEL = f"{GATEWAY_API}/channel"

NAMES = tuple(sorted(f"{kind.plural}.{kind.group}" for kind in KINDS.values() if kind.group == GATEWAY_API))


class _Meta(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Crd(msgspec.Struct):
    metadata: _Meta


_decoder = msgspec.json.Decoder(_Crd)


class Definitions:
    """The definitions of one cluster; `submit` takes changes of rows."""

    def __init__(self, api: Api, source: str, submit: Callable[[Iterable[Change]], None]) -> None:
        self._api = api
        self._source = source
        self._submit = submit
        self._rows: dict[str, Definition] = {}
        self._trouble = ""

    async def run(self) -> None:
        """Look again and again, without end; the first look is the caller's."""
        while True:
            await asyncio.sleep(AFTER_FAILURE if self._trouble else EVERY)
            await self.look()

    async def look(self) -> bool:
        """Look once; whether all could be asked."""
        rows: dict[str, Definition] = {}
        try:
            for name in NAMES:
                row = await self._definition(name)
                if row is not None:
                    rows[name] = row
        except (ApiError, UnreachableError) as error:
            self._tell(str(error))
            return False
        self._tell("")
        changed = [name for name in NAMES if rows.get(name) != self._rows.get(name)]
        self._rows = rows
        if changed:
            self._submit([Change(DEFINITIONS, DefinitionKey(self._source, name), rows.get(name)) for name in changed])
        return True

    async def _definition(self, name: str) -> Definition | None:
        try:
            body = await self._api.request("GET", f"{_PATH}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        try:
            annotations = _decoder.decode(body).metadata.annotations or {}
        except (msgspec.DecodeError, ValueError) as error:
            raise UnreachableError(f"the answer is not a CustomResourceDefinition: {error}") from None
        return Definition(annotations.get(_RELEASE, ""), annotations.get(_CHANNEL, ""))

    def _tell(self, words: str) -> None:
        """Say a trouble once."""
        if words and words != self._trouble:
            _log.info("%s: cannot see which release of Gateway API is installed: %s", self._source, words)
        self._trouble = words
