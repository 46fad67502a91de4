"""Which audiences the model makes configuration for: those whose proxies are connected, or were until lately.

A proxy that reconnects, or its replacement, should find its configuration ready; one that is gone for good should not
be worked for. So an audience stays for a while after its last proxy left. Audiences are kept in the store too: after a
restart all proxies come back in the same second, and what they should have is built before they are let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec

from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change

COLLECTION = "audiences"  # of the store's documents

Save = Callable[[Mapping[str, bytes | None]], None]


class Audiences:
    """Keeps the rows of `AUDIENCES`. `linger` is in seconds; `save` writes documents, None removes one."""

    def __init__(self, submit: Callable[[Iterable[Change]], None], *, linger: float, save: Save) -> None:
        self._submit = submit
        self._save = save
        self._linger = linger
        self._leaving: dict[Audience, asyncio.TimerHandle] = {}

    def load(self, documents: Iterable[str]) -> None:
        """Take back the audiences of an earlier run, as if their last proxies had just left."""
        for name in sorted(documents):
            try:
                audience = msgspec.json.decode(name, type=Audience)
            except msgspec.DecodeError:
                self._save({name: None})
                continue
            if (now_named := _document_name(audience)) != name:  # by a version whose audiences had fewer fields
                self._save({name: None, now_named: b""})
            self._submit([Change(AUDIENCES, audience, Connected())])
            self._leave(audience)

    def present(self, audience: Audience, connected: bool) -> None:
        """The first proxy of an audience came, or the last one went."""
        leaving = self._leaving.pop(audience, None)
        if leaving is not None:
            leaving.cancel()
        if not connected:
            self._leave(audience)
        elif leaving is None:
            self._submit([Change(AUDIENCES, audience, Connected())])
            self._save({_document_name(audience): b""})

    def _leave(self, audience: Audience) -> None:
        loop = asyncio.get_running_loop()
        self._leaving[audience] = loop.call_later(self._linger, self._gone, audience)

    def _gone(self, audience: Audience) -> None:
        del self._leaving[audience]
        self._submit([Change(AUDIENCES, audience, None)])
        self._save({_document_name(audience): None})

    def stop(self) -> None:
        """Forget the timers."""
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()


def _document_name(audience: Audience) -> str:
    return msgspec.json.encode(audience).decode()
